"""The dead letters of a stream, written by a consumer without transactions: each is cut to the topic's limit."""

from confluent_kafka import KafkaError, Message, Producer

from gnomon_consumer.kafka import clients, sizes
from gnomon_consumer.kafka.errors import refusal, write
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import DependencyUnreachableError

TOO_LARGE = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE)


class DeadLetterTopic:
    """Dead letters that are being sent; `flush` waits until the broker has all of them."""

    def __init__(self, settings: Settings, topic: str) -> None:
        """Ask the topic for its limit; raise DependencyUnreachableError, or ConfigurationError if it is too small."""
        self._settings = settings
        self._topic = topic
        self._timeout = settings.kafka.timeout_seconds
        self._limit = sizes.largest_message(settings, topic)
        self._producer = self._made()
        self._refused: KafkaError | None = None

    def _made(self) -> Producer:
        return clients.make_producer(
            self._settings,
            {"message.max.bytes": max(self._limit, sizes.LEAST_BYTES)},  # also limits a batch
        )

    def add(self, key: bytes | str | None, value: bytes | None, headers: sizes.Headers) -> None:
        """Send one; the headers hold its coordinates."""
        cut_key, cut_value, headers = sizes.fitted(self._limit, key, value, headers)
        while True:
            try:
                self._producer.produce(self._topic, cut_value, cut_key, headers=headers, on_delivery=self._delivered)
            except BufferError:
                self._producer.poll(0.1)
            else:
                return

    def flush(self) -> None:
        """Wait until the broker has all of them; otherwise discard them and raise DependencyUnreachableError.

        Raises ConfigurationError if the topic refuses even the smallest, or this user.
        """
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
        if refused is not None and (denied := refusal(refused, write(self._topic))):
            raise denied
        if left or refused is not None:
            reason = "no answer" if refused is None else refused.str()
            raise DependencyUnreachableError(f"{self._topic} cannot be written ({reason}); no message is skipped")

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        self._refused = error or self._refused
