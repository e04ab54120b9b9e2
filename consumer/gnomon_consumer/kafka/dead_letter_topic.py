"""The dead letters of a stream, written by a consumer without transactions: each is cut to the topic's limit."""

from collections import deque

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from gnomon_consumer.kafka import clients, sizes
from gnomon_consumer.kafka.errors import kafka_error, one_line, refusal, write
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import DependencyUnreachableError, GnomonError

_LISTEN_S = 3.0
TOO_LARGE = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE)


class DeadLetterTopic:
    """Dead letters that are being sent; `flush` waits until the broker has all of them."""

    def __init__(self, settings: Settings, topic: str) -> None:
        """Ask the topic for its limit; raise DependencyUnreachableError, or ConfigurationError if it is too small."""
        self._settings = settings
        self._topic = topic
        self._timeout = settings.kafka.timeout_seconds
        self._limit = sizes.largest_message(settings, topic)
        self._heard: deque[KafkaError] = deque(maxlen=10)
        self._producer = self._made()
        self._refused: KafkaError | None = None

    def _made(self) -> Producer:
        return clients.make_producer(
            self._settings,
            # The limit is also that of a batch.
            {"message.max.bytes": max(self._limit, sizes.LEAST_BYTES), "error_cb": self._heard.append},
        )

    def send_letter(self, key: bytes | str | None, value: bytes | None, headers: sizes.KafkaHeaders) -> None:
        """Send one; the headers hold its coordinates."""
        cut_key, cut_value, headers = sizes.fitted(self._limit, key, value, headers)
        while True:
            try:
                self._producer.produce(self._topic, cut_value, cut_key, headers=headers, on_delivery=self._delivered)
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                raise self._failed(kafka_error(error)) from None
            else:
                return

    def flush(self) -> None:
        """Wait until the broker has all of them; otherwise discard them and raise DependencyUnreachableError.

        Raises ConfigurationError if the topic refuses even the smallest, or this user.
        """
        try:
            self._flush()
        except KafkaException as error:  # of a producer whose error is fatal
            raise self._failed(kafka_error(error)) from None
        self._heard.clear()

    def _flush(self) -> None:
        left = self._producer.flush(self._timeout)
        refused, self._refused = self._refused, None
        if left:
            self._producer.purge()
            self._producer.flush(self._timeout)
            self._refused = None
        if refused is not None and refused.code() in TOO_LARGE:
            if self._limit <= sizes.LEAST_BYTES:
                raise sizes.too_small(self._topic, self._limit)
            self._limit = max(sizes.LEAST_BYTES, self._limit // 2)
            self._producer = self._made()
        if refused is not None:
            raise self._failed(refused)
        if left:
            raise self._failed(KafkaError(KafkaError._TIMED_OUT, "no answer"))

    def _failed(self, error: KafkaError) -> GnomonError:
        """Return the error for a producer or message that failed; librdkafka may have told the reason before."""
        self._listen(0)
        if error.fatal() or error.code() == KafkaError._FATAL:
            self._producer = self._made()  # the old one sends nothing any more
            self._listen(_LISTEN_S)  # the new one hears the reason if it is still there
        for one in (error, *self._heard):
            if denied := refusal(one, write(self._topic)):
                return denied
        return DependencyUnreachableError(
            f"{self._topic} cannot be written ({one_line(error.str())}); no message is skipped"
        )

    def _listen(self, seconds: float) -> None:
        """Serve librdkafka's callbacks; add the reason of a fatal error to `_heard`."""
        try:
            self._producer.poll(seconds)
        except KafkaException as reason:
            self._heard.append(kafka_error(reason))

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        self._refused = error or self._refused
