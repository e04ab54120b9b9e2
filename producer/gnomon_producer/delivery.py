"""The librdkafka producer of one process: made when first needed, bounded in bytes, never waited for.

Nothing here blocks a caller. `send` hands a message to librdkafka's own bounded queue. A daemon thread, ten times a
second and away from any request, serves delivery reports (serving them on the caller's thread would give up the GIL in
the middle of a request: up to 5 ms a time beside a busy thread), sends the heartbeats and writes the log.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# The C class itself: an auto-instrumented `confluent_kafka.Producer` would add a second traceparent.
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.cimpl import Producer

from gnomon_producer import exits
from gnomon_producer.errors import Dropped, DropReason, kind_of
from gnomon_producer.ledger import Ledger
from gnomon_producer.trouble import OncePerMinute

POLL_SECONDS = 0.1
RETRY_SECONDS = 60.0
_BYTES_A_MESSAGE = 1024
"""What librdkafka and its binding keep for a message beside its payload, rounded up."""

Headers = list[tuple[str, bytes]]


@dataclass(frozen=True)
class DeliverySettings:
    """`max_buffer_bytes` bounds payloads and bookkeeping together; `properties` go to librdkafka as they are."""

    bootstrap_servers: str
    max_buffer_bytes: int
    heartbeat_s: float
    exit_timeout_s: float
    properties: Mapping[str, Any] = field(default_factory=dict)

    def librdkafka(self) -> dict[str, Any]:
        """Return the producer's configuration: what keeps the guarantees, then what the user says."""
        return {
            "bootstrap.servers": self.bootstrap_servers,
            "enable.idempotence": True,
            "linger.ms": 20,
            "compression.type": "lz4",
            "queue.buffering.max.kbytes": max(1, self.max_buffer_bytes // 2048),
            "queue.buffering.max.messages": max(1, self.max_buffer_bytes // (2 * _BYTES_A_MESSAGE)),
            "log_level": 2,  # what is wrong comes by error_cb, and is logged once a minute
            **self.properties,
        }


class Delivery:
    """Everything of one process: identity, counters, producer, thread. A fork's child gets a new one.

    `on_start` is called with this object before the first message (it publishes the schema), and once more, with
    False, whenever that has to be repeated; `report` makes the ProducerReport message. Both are ours and quick.
    """

    def __init__(
        self,
        settings: DeliverySettings,
        on_start: Callable[["Delivery", bool], None],
        report: Callable[["Delivery", bool], tuple[str, bytes]],
        make_producer: Callable[[dict[str, Any]], Any] = Producer,
    ) -> None:
        self.producer_id = str(uuid.uuid4())
        self.started_at = time.time_ns() // 1000
        self.exit_timeout_s = settings.exit_timeout_s
        self.captures = Ledger()
        self.labels = Ledger()
        self.service_messages = Ledger()
        self.log = OncePerMinute()
        self._settings = settings
        self._on_start = on_start
        self._report = report
        self._make_producer = make_producer
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._producer: Any = None
        self._starting = False
        self._retry_at = 0.0
        self._fatal = False
        self._announcement_lost = False
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._closed

    def send(self, ledger: Ledger, topic: str, key: bytes, value: bytes, headers: Headers | None = None) -> None:
        """Hand over one message that `ledger` has counted as offered. Never waits; a refusal is counted."""
        if self._closed:
            ledger.drop("closed")
            return
        producer = self._producer or self._start()
        if producer is None:
            ledger.drop("internal_error")
            return
        try:
            if headers:
                producer.produce(topic, value, key, on_delivery=ledger.on_delivery, headers=headers)
            else:
                producer.produce(topic, value, key, on_delivery=ledger.on_delivery)
        except BufferError:
            ledger.drop("queue_full")
        except KafkaException as error:
            ledger.drop(self._refused(error.args[0]))
        except Exception as error:
            self.drop(ledger, "messages", error)

    def drop(self, ledger: Ledger, what: str, error: Exception) -> None:
        """Count something offered as dropped and remember why; of an unforeseen error only the type is told."""
        foreseen = error if type(error) is Dropped else None  # isinstance() would ask the error for its __class__
        reason: DropReason = foreseen.reason if foreseen else "internal_error"
        detail = foreseen.detail if foreseen else f"{kind_of(error)} in the hook"
        ledger.drop(reason)
        self.log.note(f"{what} {reason}", f"{what} are dropped ({reason}): {detail}")

    def announce(self, topic: str, key: bytes, value: bytes) -> None:
        """Hand over what readers must know first, to the one partition they look at; lost, it is sent again later."""
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
        """Make the producer now instead of at the first message; return whether there is one."""
        return not self._closed and (self._producer or self._start()) is not None

    def _start(self) -> Any:
        """Make the producer; return None where that fails, and do not try again for a minute."""
        with self._lock:
            # The lock is reentrant: a signal handler may come here while this thread is at it already.
            if self._producer is not None or self._starting or self._closed or time.monotonic() < self._retry_at:
                return self._producer
            self._starting = True
            try:
                self._producer = self._new_producer()
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
            }
        )

    def _on_error(self, error: KafkaError) -> None:
        self._fatal = self._fatal or error.fatal()
        self.log.note("kafka", f"Kafka: {error.str()}")

    def _run(self) -> None:
        report_at = 0.0
        while True:
            try:
                self._producer.poll(0)
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
                self.log.note("thread", f"the delivery thread goes on after {_first_line(error)}")
            if self._stop.wait(POLL_SECONDS):
                return

    def _replace_producer(self) -> None:
        """A fatal error lasts until the producer is replaced; what was in its queue is lost, and counted."""
        old, self._producer = self._producer, self._new_producer()
        self._fatal = False
        old.purge()
        old.poll(0)
        self._announcement_lost = False  # lost or not, it is made now
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
        """Take the delivery reports that are there, so that the counters are fresh."""
        producer = self._producer
        if producer is not None:
            if self._closed and self._thread is None:
                producer.purge()  # a thread that slipped past close() left something behind
            producer.poll(0)

    def flush(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for everything sent so far; return whether nothing is left."""
        producer = self._producer
        return producer is None or producer.flush(timeout) == 0

    def close(self, timeout: float) -> bool:
        """Drain for at most `timeout` seconds, give up the rest and count it, send the closing report."""
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
            self.log.note("close", f"closing went wrong: {_first_line(error)}")
            return False
        finally:
            self._thread = None
            self.log.write()

    def abandon(self) -> None:
        """Leave this object to the parent, in a fork's child. A client copied by fork has lost its threads, and
        destroying it would wait for them for ever; so it is never destroyed.
        """
        if self._producer is not None:
            import ctypes

            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._producer))

    def _drain(self, producer: Any, thread: threading.Thread | None, deadline: float) -> bool:
        self._stop.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, deadline - time.monotonic()) / 4)
        # A quarter of the time is kept for the closing report.
        left = producer.flush(max(0.0, deadline - time.monotonic()) * 0.75)
        if left:
            producer.purge()
            producer.poll(0)
        self._send_report(closed=True)
        return producer.flush(max(0.0, deadline - time.monotonic())) == 0 and not left


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]
