"""The librdkafka producer of one process: created when first needed, bounded in bytes; callers never wait for it.

Nothing here blocks a caller. `send` puts a message into librdkafka's bounded queue. Ten times a second a daemon thread
serves delivery reports, sends the heartbeats and writes the log. (Serving delivery reports on the caller's thread would
release the GIL in the middle of a request, for up to 5 ms if another thread is busy.)
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

# The C class itself: an auto-instrumented `confluent_kafka.Producer` would add a second traceparent.
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.cimpl import Producer

from gnomon_producer import exits
from gnomon_producer.account import Account
from gnomon_producer.delivery_settings import DeliverySettings
from gnomon_producer.errors import Dropped, DropReason, kind_of
from gnomon_producer.fork_check import ForkCheck
from gnomon_producer.topic_limit import TopicLimit
from gnomon_producer.trouble import OncePerMinute

POLL_SECONDS = 0.1
RETRY_SECONDS = 60.0
DEAD_SECONDS = 10.0  # a full buffer without an acknowledgement for this long means that there is no publisher
_REFUSED = (KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED)
# Purged by us, at the end or after a fatal error, which has its own line; or too large, which has its own count.
_ABANDONED = (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT, KafkaError.MSG_SIZE_TOO_LARGE)
_STUCK = (
    "captures of this process are dropped (publisher_dead): it was forked while librdkafka was busy,"
    " and cannot use it; make the first capture after the fork, or end the process"
)
Headers = list[tuple[str, bytes]]


class Delivery:
    """The state of one process: identity, counters, producer, thread. A forked child gets a new one.

    `on_start` is called with this object before the first message (it publishes the schema), and once more, with
    False, whenever that must be repeated; `report` makes the ProducerReport message. Both are fast and internal.
    `fork_check`: in a fork's child, the check to pass before librdkafka is used.
    """

    def __init__(
        self,
        settings: DeliverySettings,
        on_start: Callable[["Delivery", bool], None],
        report: Callable[["Delivery", bool], tuple[str, bytes]],
        make_producer: Callable[[dict[str, Any]], Any] = Producer,
        *,
        fork_check: ForkCheck | None = None,
    ) -> None:
        self.producer_id = str(uuid.uuid4())
        self.started_at = time.time_ns() // 1000
        self.exit_timeout_s = settings.exit_timeout_s
        self.captures = Account(self._lost)
        self.labels = Account(self._lost)
        self.service_messages = Account(self._lost)
        self.log = OncePerMinute()
        self._settings = settings
        self._on_start = on_start
        self._report = report
        self._make_producer = make_producer
        self._fork_check = fork_check
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._producer: Any = None
        self._replaced: Any = None
        self._limit: TopicLimit | None = None
        self._batch_bytes: dict[str, int] = {}
        self._starting = False
        self._retry_at = 0.0
        self._fatal = False
        self._announcement_lost = False
        self._closed = False
        self._acknowledged = 0
        self._alive_at = 0.0

    @property
    def closed(self) -> bool:
        """Return whether close() was called."""
        return self._closed

    def send(self, ledger: Account, topic: str, key: bytes, value: bytes, headers: Headers | None = None) -> None:
        """Send one message that `ledger` has counted as offered. Never wait; count a refusal."""
        if self._closed:
            ledger.drop("closed")
            return
        producer = self._producer or self._start()
        if producer is None:
            ledger.drop("internal_error" if self._fork_check is None else "publisher_dead")
            return
        try:
            if headers:
                producer.produce(topic, value, key, on_delivery=ledger.on_delivery, headers=headers)
            else:
                producer.produce(topic, value, key, on_delivery=ledger.on_delivery)
        except BufferError:
            self._full(ledger)
        except KafkaException as error:
            ledger.drop(self._refused(error.args[0]))
        except Exception as error:
            self.drop(ledger, "messages", error)

    def _full(self, ledger: Account) -> None:
        """Count a capture for which the buffer has no room, because the publisher is slow or dead."""
        silent = time.monotonic() - self._alive_at
        if silent < DEAD_SECONDS:
            ledger.drop("queue_full")
            self.log.note("slow", "captures are dropped (queue_full): more arrive than Kafka acknowledges")
        else:
            ledger.drop("publisher_dead")
            self.log.note("dead", f"captures are dropped (publisher_dead): no acknowledgement for {silent:.0f} s")

    def _watch_acknowledgements(self) -> None:
        """Record that the publisher is alive: something was acknowledged, or nothing waits for it."""
        captures, labels = self.captures.counts(), self.labels.counts()
        acknowledged = captures.delivered + labels.delivered + self.service_messages.counts().delivered
        if acknowledged != self._acknowledged or captures.in_flight + labels.in_flight == 0:
            self._acknowledged, self._alive_at = acknowledged, time.monotonic()

    def drop(self, ledger: Account, what: str, error: Exception) -> None:
        """Count something offered as dropped and record the reason; for an unforeseen error, only its type."""
        foreseen = error if type(error) is Dropped else None  # isinstance() would ask the error for its __class__
        reason: DropReason = foreseen.reason if foreseen else "internal_error"
        detail = foreseen.detail if foreseen else f"{kind_of(error)} in the hook"
        ledger.drop(reason)
        self.log.note(f"{what} {reason}", f"{what} are dropped ({reason}): {detail}")

    def announce(self, topic: str, key: bytes, value: bytes) -> None:
        """Send what readers need first, to the partition that they read; if it is lost, send it again later."""
        self.service_messages.offer()
        try:
            self._producer.produce(topic, value, key, partition=0, on_delivery=self._on_announced)
        except (BufferError, KafkaException):
            self.service_messages.drop("queue_full")
            self._announcement_lost = True

    def _on_announced(self, error: KafkaError | None, message: Any) -> None:
        self.service_messages.on_delivery(error, message)
        self._announcement_lost = self._announcement_lost or error is not None

    def _refused(self, error: KafkaError) -> DropReason:
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            return "too_large"
        self._fatal = self._fatal or error.code() == KafkaError._FATAL
        self.log.note("refused", f"librdkafka refuses messages: {error.str()}")
        return "delivery_failed"

    def start(self) -> bool:
        """Create the producer now instead of at the first message; return whether there is one."""
        return not self._closed and (self._producer or self._start()) is not None

    def _start(self) -> Any:
        """Create the producer; return None if that fails, and do not try again for a minute."""
        with self._lock:
            # The lock is reentrant: a signal handler may call this while this thread is inside it.
            if self._producer is not None or self._starting or self._closed or time.monotonic() < self._retry_at:
                return self._producer
            self._starting = True
            try:
                if self._fork_check is not None and not self._fork_check.passed():
                    self.log.note("fork", _STUCK)
                    self.log.write()
                    return None
                self._fork_check = None
                self._producer = self._new_producer()
                self._alive_at = time.monotonic()
                self._on_start(self, True)
                self._thread = threading.Thread(target=self._run, name="gnomon-delivery", daemon=True)
                self._thread.start()
                exits.close_at_exit(self)
            except Exception as error:
                self._producer, self._retry_at = None, time.monotonic() + RETRY_SECONDS
                self.log.note("start", f"no Kafka producer could be made, captures are dropped: {_first_line(error)}")
                self.log.write()
            finally:
                self._starting = False
            return self._producer

    def _new_producer(self) -> Any:
        return self._make_producer(
            {
                "error_cb": self._on_error,
                "logger": logging.getLogger("gnomon_producer.kafka"),
                **self._settings.librdkafka(),
                **self._batch_bytes,
            }
        )

    def _ask_limit(self) -> None:
        if self._settings.topics:
            quiet = {"log_level": 0, "error_cb": lambda _: None}  # the producer logs what is wrong with the broker
            self._limit = TopicLimit(self._settings.librdkafka() | quiet, self._settings.topics)

    def _keep_limit(self) -> None:
        """Replace the producer once the topics' limit is known, if its batches could exceed it.

        librdkafka reads `batch.size` only when a producer is created. The old producer still delivers its messages.
        """
        if self._limit is None or not self._limit.answered:
            return
        least, self._limit = self._limit.least(), None
        if least is None or least[1] >= int(self._settings.librdkafka()["batch.size"]):
            return
        topic, limit = least
        self._batch_bytes = {"batch.size": max(1, limit * 9 // 10)}  # the rest is for the framing of a batch
        self.log.note("limit", f"{topic} takes {limit} bytes (max.message.bytes): batches are kept below it")
        self._replaced, self._producer = self._producer, self._new_producer()

    def _on_error(self, error: KafkaError) -> None:
        self._fatal = self._fatal or error.fatal()
        # waiting does not fix it, and a message about unreachable brokers must not hide it
        if error.code() in _REFUSED:
            self.log.note("login", f"Kafka refuses the login or the TLS connection: {error.str()}")
        else:
            self.log.note("kafka", f"Kafka: {error.str()}")

    def _lost(self, error: KafkaError, message: Any) -> None:
        """Say why a topic does not take messages, with a line for each reason."""
        code = error.code()
        if code in _ABANDONED or message is None:
            return
        topic = message.topic()
        said = f"{topic} does not take messages (delivery_failed): {error.str()}"
        if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            said += (
                f": grant Write on the topic {topic} (kafka-acls --add --allow-principal User:NAME --operation Write"
                f" --topic {topic})"
            )
        self.log.note(f"lost {topic} {code}", said)

    def _run(self) -> None:
        report_at = 0.0
        try:
            self._ask_limit()
        except Exception as error:
            self.log.note("limit", f"the topics' limits cannot be asked for: {_first_line(error)}")
        while True:
            try:
                self._producer.poll(0)
                if self._replaced is not None:
                    self._replaced.poll(0)
                self._keep_limit()
                self._watch_acknowledgements()
                if self._fatal:
                    self._replace_producer()
                if time.monotonic() >= report_at:
                    report_at = time.monotonic() + self._settings.heartbeat_s
                    self._send_report(closed=False)
                    if self._announcement_lost:
                        self._announcement_lost = False
                        self._on_start(self, False)
                self.log.write()
            except Exception as error:
                self.log.note("thread", f"the delivery thread continues after {_first_line(error)}")
            if self._stop.wait(POLL_SECONDS):
                return

    def _replace_producer(self) -> None:
        """Replace the producer after a fatal error; the messages in its queue are lost, and counted."""
        old, self._producer = self._producer, self._new_producer()
        self._fatal = False
        old.purge()
        old.poll(0)
        self._announcement_lost = False  # whether it was lost or not, it is created now
        self._on_start(self, False)

    def _send_report(self, *, closed: bool) -> None:
        topic, value = self._report(self, closed)
        self.service_messages.offer()
        try:
            key = self.producer_id.encode()
            self._producer.produce(topic, value, key, on_delivery=self.service_messages.on_delivery)
        except (BufferError, KafkaException):
            self.service_messages.drop("queue_full")

    def serve(self) -> None:
        """Serve the waiting delivery reports, so that the counters are current."""
        producer = self._producer
        if producer is not None:
            if self._closed and self._thread is None:
                producer.purge()  # a thread that passed close() at the same time left something behind
            producer.poll(0)
            if self._replaced is not None:
                self._replaced.poll(0)

    def flush(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for everything sent so far; return whether nothing is left."""
        deadline = time.monotonic() + timeout
        producers = [one for one in (self._replaced, self._producer) if one is not None]
        left: int = sum(one.flush(max(0.0, deadline - time.monotonic())) for one in producers)
        return left == 0

    def close(self, timeout: float) -> bool:
        """Drain for at most `timeout` seconds, abandon and count the rest, send the closing report."""
        with self._lock:
            producer, thread = self._producer, self._thread
            if self._closed:
                return True
            self._closed = True
            exits.forget(self)
        if producer is None:
            return True
        try:
            return self._drain(producer, thread, time.monotonic() + timeout)
        except Exception as error:
            self.log.note("close", f"closing failed: {_first_line(error)}")
            return False
        finally:
            self._thread = None
            self.log.write()

    def abandon(self) -> None:
        """Leave this object to the parent, in a fork's child.

        A client copied by fork has lost its threads, and its destructor would wait for them forever, so it is never
        destroyed.
        """
        for client in (self._producer, self._replaced, self._limit):
            if client is not None:
                import ctypes

                ctypes.pythonapi.Py_IncRef(ctypes.py_object(client))

    def _drain(self, producer: Any, thread: threading.Thread | None, deadline: float) -> bool:
        self._stop.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, deadline - time.monotonic()) / 4)
        producer = self._producer  # the thread may have replaced it
        left = 0
        for one in (self._replaced, producer):
            if one is not None:
                # A quarter of the time is reserved for the closing report.
                unsent = one.flush(max(0.0, deadline - time.monotonic()) * 0.75)
                if unsent:
                    one.purge()
                    one.poll(0)
                left += unsent
        self._send_report(closed=True)
        return producer.flush(max(0.0, deadline - time.monotonic())) == 0 and not left


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]
