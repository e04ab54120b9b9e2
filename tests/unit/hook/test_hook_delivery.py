"""The delivery's rare paths, with a stand-in for librdkafka that fails on request."""

import logging
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from gnomon_producer import delivery as module
from gnomon_producer import fork_check
from gnomon_producer.delivery import Delivery
from gnomon_producer.delivery_settings import DeliverySettings
from gnomon_producer.fork_check import ForkCheck
from gnomon_producer.trouble import OncePerMinute, logger


class StandIn:
    """A producer that keeps its messages until it is polled, flushed or purged."""

    made: list["StandIn"]

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.waiting: list[Callable[..., None]] = []
        self.topics: list[str] = []
        self.refusal: Exception | None = None
        self.made.append(self)

    def produce(self, topic: str, value: bytes, key: bytes, on_delivery: Callable[..., None], **_: Any) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.topics.append(topic)
        self.waiting.append(on_delivery)

    def poll(self, _timeout: float) -> int:
        return 0

    def flush(self, _timeout: float) -> int:
        for on_delivery in self.waiting:
            on_delivery(None, None)
        self.waiting.clear()
        return 0

    def purge(self) -> None:
        for on_delivery in self.waiting:
            on_delivery(KafkaError(KafkaError._PURGE_QUEUE), None)
        self.waiting.clear()


@pytest.fixture
def producers() -> list[StandIn]:
    StandIn.made = []
    return StandIn.made


def make(producers: list[StandIn], announced: list[bool] | None = None, **settings: Any) -> Delivery:
    given: dict[str, Any] = {
        "bootstrap_servers": "b",
        "max_buffer_bytes": 65536,
        "heartbeat_s": 0.1,
        "exit_timeout_s": 0.5,
    } | settings

    def announce(delivery: Delivery, first: bool) -> None:
        if announced is not None:
            announced.append(first)
        delivery.announce("schemas", b"k", b"v")

    return Delivery(DeliverySettings(**given), announce, lambda delivery, closed: ("reports", b"v"), StandIn)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def send(delivery: Delivery) -> None:
    delivery.captures.offer()
    delivery.send(delivery.captures, "live", b"k", b"v")


def test_no_caller_ever_waits_for_the_client(producers: list[StandIn], monkeypatch: pytest.MonkeyPatch) -> None:
    """Anything for which a client may wait runs in the delivery's own thread, so an event loop continues."""
    waited: dict[str, set[str]] = {"poll": set(), "flush": set(), "purge": set()}
    for name, threads in waited.items():
        monkeypatch.setattr(
            StandIn, name, lambda *_, threads=threads: threads.add(threading.current_thread().name) or 0
        )
    delivery = make(producers)
    for refusal in (None, BufferError(), KafkaException(KafkaError(KafkaError._FATAL)), None):
        send(delivery)
        producers[-1].refusal = refusal
        send(delivery)
    until(lambda: bool(waited["poll"]) and len(producers) == 2)
    send(delivery)
    assert waited == {"poll": {"gnomon-delivery"}, "flush": set(), "purge": {"gnomon-delivery"}}
    delivery.close(0.1)


def test_a_fatal_error_replaces_the_producer_and_counts_what_it_held(producers: list[StandIn]) -> None:
    announced: list[bool] = []
    delivery = make(producers, announced)
    send(delivery)
    producers[0].refusal = KafkaException(KafkaError(KafkaError._FATAL))
    send(delivery)
    until(lambda: len(producers) == 2)
    until(lambda: len(announced) == 2)
    send(delivery)
    assert delivery.close(60)
    counts = delivery.captures.counts()
    assert (counts.delivered, dict(counts.dropped), counts.in_flight) == (1, {"delivery_failed": 2}, 0)
    assert announced == [True, False]
    assert producers[1].topics.count("schemas") == 1


def test_a_lost_announcement_is_made_again(producers: list[StandIn]) -> None:
    announced: list[bool] = []
    delivery = make(producers, announced)
    send(delivery)
    producers[0].waiting[0](KafkaError(KafkaError._MSG_TIMED_OUT), None)
    until(lambda: announced == [True, False])
    delivery.close(1)


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (BufferError(), "queue_full"),
        (KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)), "too_large"),
        (KafkaException(KafkaError(KafkaError._UNKNOWN_TOPIC)), "delivery_failed"),
        (RuntimeError("the client has been closed"), "internal_error"),
    ],
)
def test_a_refusal_is_counted_by_its_reason(producers: list[StandIn], refusal: Exception, reason: str) -> None:
    delivery = make(producers)
    assert delivery.start()
    producers[0].refusal = refusal
    send(delivery)
    assert dict(delivery.captures.counts().dropped) == {reason: 1}
    producers[0].refusal = None
    delivery.close(1)


def test_a_publisher_that_is_slow_and_one_that_is_dead_are_two_reasons(
    producers: list[StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [time.monotonic()]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0], time_ns=time.time_ns))
    delivery = make(producers, heartbeat_s=1e9)
    send(delivery)
    until(lambda: len(producers[0].waiting) >= 2)  # the capture and the heartbeat
    producers[0].refusal = BufferError()
    send(delivery)
    assert dict(delivery.captures.counts().dropped) == {"queue_full": 1}
    now[0] += module.DEAD_SECONDS + 1
    send(delivery)
    assert dict(delivery.captures.counts().dropped) == {"queue_full": 1, "publisher_dead": 1}
    # An acknowledgement arrives: it is slow, and not dead.
    producers[0].waiting.pop(0)(None, None)
    seen = delivery._alive_at
    until(lambda: delivery._alive_at > seen)
    send(delivery)
    assert dict(delivery.captures.counts().dropped) == {"queue_full": 2, "publisher_dead": 1}
    # It is idle for long, and then more messages arrive at once than there is room for.
    while producers[0].waiting:
        producers[0].waiting.pop()(None, None)
    now[0] += 3600
    until(lambda: delivery._alive_at == now[0])
    send(delivery)
    assert dict(delivery.captures.counts().dropped) == {"queue_full": 3, "publisher_dead": 1}
    producers[0].refusal = None
    delivery.close(1)


def test_the_brokers_refusal_of_a_large_message_is_told_apart(producers: list[StandIn]) -> None:
    delivery = make(producers)
    send(delivery)
    producers[0].waiting[-1](KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), None)
    assert dict(delivery.captures.counts().dropped) == {"too_large": 1}
    producers[0].waiting.pop()
    delivery.close(1)


def test_the_clients_properties_give_way_to_the_users(producers: list[StandIn]) -> None:
    delivery = make(producers, properties={"linger.ms": 0, "sasl.mechanism": "PLAIN"})
    assert delivery.start()
    config = producers[0].config
    assert (config["linger.ms"], config["sasl.mechanism"], config["enable.idempotence"]) == (0, "PLAIN", True)
    assert config["queue.buffering.max.kbytes"] * 1024 + config["queue.buffering.max.messages"] * 1024 == 65536
    delivery.close(1)


def test_a_producer_that_cannot_be_made_is_tried_again_after_a_minute_only(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []

    def refuse(_config: dict[str, Any]) -> Any:
        tries.append(1)
        raise ValueError("no such property")

    settings = DeliverySettings(bootstrap_servers="b", max_buffer_bytes=65536, heartbeat_s=0.1, exit_timeout_s=0.5)
    delivery = Delivery(settings, lambda *_: None, lambda *_: ("reports", b""), refuse)
    for _ in range(10):
        send(delivery)
    assert len(tries) == 1
    later = time.monotonic() + module.RETRY_SECONDS + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    send(delivery)
    assert len(tries) == 2
    assert dict(delivery.captures.counts().dropped) == {"internal_error": 11}


def test_a_forked_process_that_cannot_use_librdkafka_drops_and_does_not_touch_it(
    producers: list[StandIn], caplog: pytest.LogCaptureFixture
) -> None:
    """As after a fork that copied a lock which nobody releases, until it is released after all."""
    released = threading.Event()
    settings = DeliverySettings(bootstrap_servers="b", max_buffer_bytes=65536, heartbeat_s=0.1, exit_timeout_s=0.5)
    check = ForkCheck(released.wait)
    delivery = Delivery(settings, lambda *_: None, lambda *_: ("reports", b""), StandIn, fork_check=check)
    for _ in range(100):
        send(delivery)
    assert producers == []
    assert dict(delivery.captures.counts().dropped) == {"publisher_dead": 100}
    assert "forked while librdkafka was busy" in caplog.text
    released.set()
    until(check.passed)
    send(delivery)
    assert len(producers) == 1
    assert delivery.close(60)
    assert delivery.captures.counts().delivered == 1


def test_random_bytes_of_librdkafka_are_drawn_after_a_fork() -> None:
    """By the function that the check uses, which a newer librdkafka may lack."""
    assert fork_check.draw_bytes is not None
    assert ForkCheck().passed()


class HostileHandler(logging.Handler):
    """A logging handler that raises."""

    def handle(self, record: logging.LogRecord) -> bool:
        raise RuntimeError("no space left on device")


def test_logging_that_raises_stays_out_of_the_way(producers: list[StandIn]) -> None:
    handler = HostileHandler()
    logger.addHandler(handler)
    try:
        delivery = make(producers, properties={})
        assert delivery.start()
        producers[0].refusal = RuntimeError()
        send(delivery)
        producers[0].refusal = None
        send(delivery)
        assert delivery.close(60)
        refusing = Delivery(
            DeliverySettings(bootstrap_servers="b", max_buffer_bytes=65536, heartbeat_s=0.1, exit_timeout_s=0.5),
            lambda *_: None,
            lambda *_: ("r", b""),
            _refuse,
        )
        send(refusing)
    finally:
        logger.removeHandler(handler)
    assert (delivery.captures.counts().delivered, dict(refusing.captures.counts().dropped)) == (
        1,
        {"internal_error": 1},
    )


def _refuse(_config: dict[str, Any]) -> Any:
    raise ValueError("no such property")


def test_each_kind_of_trouble_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    log = OncePerMinute(lambda: now[0])
    for moment in (0.0, 1.0, 59.0, 60.0, 61.0):
        now[0] = moment
        log.note("a", "trouble a")
        if moment == 1.0:
            log.note("b", "trouble b")
        log.write()
    assert [record.getMessage() for record in caplog.records] == [
        "trouble a (1 since the last such line)",
        "trouble b (1 since the last such line)",
        "trouble a (3 since the last such line)",
    ]
