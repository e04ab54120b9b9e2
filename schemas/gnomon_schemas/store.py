"""The stores of writer schemas: packaged with Gnomon, the stream's `schemas` topic, a registry."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from gnomon_schemas.codec import SchemaFinder
from gnomon_schemas.errors import ConfigurationError, DependencyUnreachableError, GnomonError, SchemaError
from gnomon_schemas.framing import Fingerprint, SchemaKey
from gnomon_schemas.schema import RECORDS, Schema, earlier_schemas, record_schema


class MemorySchemas:
    """Schemas in memory, by their key, for a worker without any connection."""

    def __init__(self, schemas: Iterable[Schema] = ()) -> None:
        self._schemas: dict[SchemaKey, Schema] = {}
        for schema in schemas:
            self.add_schema(schema)

    def add_schema(self, schema: Schema, key: SchemaKey | None = None) -> None:
        """Make a schema known under its fingerprint, or under `key`."""
        self._schemas[key or schema.fingerprint] = schema

    def find(self, key: SchemaKey) -> Schema | None:
        """Return the schema, or None."""
        return self._schemas.get(key)

    def __iter__(self) -> Iterator[Schema]:
        return iter(self._schemas.values())


def packaged_schemas() -> MemorySchemas:
    """Return the records that need no feature record, of this version of Gnomon and of earlier ones."""
    return MemorySchemas([*earlier_schemas(), *(record_schema(name) for name in RECORDS if name != "LivePrediction")])


_FAILED_AGAIN_S = 1.0  # seconds until the next read after a failed one: each may take the whole time-out
_MAX_MISSED = 1000
_OF_THE_GROUP = (KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.COORDINATOR_NOT_AVAILABLE)


class TopicSchemas:
    """The compacted `schemas` topic, read to its end again when a schema is unknown.

    A schema is unknown only after a read that began after the request and reached the end of the topic. After a failed
    read `find` raises DependencyUnreachableError. An unknown key is not looked up again within `retry_after_s` seconds.
    Values that are not schemas, or have another schema's fingerprint as key, are ignored and counted in `rejected`.
    """

    def __init__(
        self,
        properties: Mapping[str, str | int | float | bool],
        topic: str,
        *,
        timeout_s: float = 10.0,
        retry_after_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._topic = topic
        self._timeout_s = timeout_s
        self._retry_after_s = retry_after_s
        self._clock = clock
        self._missed: dict[Fingerprint, float] = {}
        self._failure: DependencyUnreachableError | None = None
        self._failed_at = 0.0
        self._schemas = MemorySchemas()
        self._read: list[Schema] = []
        self._next_offset = OFFSET_BEGINNING
        self.rejected = 0
        # librdkafka requires a group for any consumer; this one assigns by hand and never commits.
        self._consumer = Consumer(
            {
                "fetch.wait.max.ms": 50,  # the broker waits this long before it answers that there are no more messages
                **properties,
                "group.id": f"{topic}.reader",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
            }
        )

    def find(self, key: SchemaKey) -> Schema | None:
        """Return the schema, reading new messages of the topic if necessary; raise DependencyUnreachableError."""
        if not isinstance(key, Fingerprint):
            return None
        found = self._schemas.find(key)
        now = self._clock()
        if found is not None or now - self._missed.get(key, float("-inf")) < self._retry_after_s:
            return found
        if self._failure is not None and now - self._failed_at < _FAILED_AGAIN_S:
            raise DependencyUnreachableError(str(self._failure))
        self.refresh()
        found = self._schemas.find(key)
        if found is None:
            self._missed = {**dict(list(self._missed.items())[-_MAX_MISSED:]), key: self._clock()}
        return found

    @property
    def failing(self) -> bool:
        """Return whether the last read did not reach the end of the topic."""
        return self._failure is not None

    def live_schemas(self) -> list[Schema]:
        """Return every schema of captures read so far, oldest first. The topic also holds schemas of other records."""
        return [schema for schema in self._read if schema.name == "gnomon.v1.LivePrediction"]

    def holds(self, key: Fingerprint) -> bool:
        """Return whether the schema was read so far."""
        return self._schemas.find(key) is not None

    def refresh(self, timeout_s: float | None = None) -> None:
        """Read the topic from where the last read stopped to its end; raise DependencyUnreachableError.

        A read that takes longer than `timeout_s` (default: that of the constructor) fails; the next one continues
        there.
        """
        try:
            self._read_to_end(self._timeout_s if timeout_s is None else timeout_s)
        except DependencyUnreachableError as error:
            self._failure, self._failed_at = error, self._clock()
            raise
        self._failure = None

    def _read_to_end(self, timeout_s: float) -> None:
        deadline = self._clock() + timeout_s
        try:
            if not self._topic_exists(timeout_s):
                return
            self._consumer.assign([TopicPartition(self._topic, 0, self._next_offset)])
            while True:
                message = self._consumer.poll(max(0.0, deadline - self._clock()))
                if message is None:
                    raise DependencyUnreachableError(f"the topic {self._topic} does not answer")
                error = message.error()
                if error is None:
                    self._read_schema(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    break
                elif error.code() in _OF_THE_GROUP:
                    continue  # the group exists in name only: reading needs no right to it
                elif error.fatal() or not error.retriable():
                    raise self._unreadable(error)
        except KafkaException as error:
            raise DependencyUnreachableError(f"the topic {self._topic} cannot be read: {error}") from error
        finally:
            self._consumer.unassign()

    def _topic_exists(self, timeout_s: float) -> bool:
        """Return whether the topic exists: a consumer learns of a missing topic only after half a minute."""
        if self._next_offset != OFFSET_BEGINNING:
            return True
        error = self._consumer.list_topics(self._topic, timeout=timeout_s).topics[self._topic].error
        if error is not None and error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise self._unreadable(error)
        return error is None

    def _unreadable(self, error: KafkaError) -> GnomonError:
        said = f"the topic {self._topic} cannot be read: {error.str()}"
        if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            return ConfigurationError(f"{said}: grant Read on the topic {self._topic}")
        return DependencyUnreachableError(said)

    def _read_schema(self, message: Message) -> None:
        offset = message.offset()
        if offset is not None:
            self._next_offset = offset + 1
        value, key = message.value(), message.key()
        if value is None:
            return
        try:
            schema = Schema.parse(value)
        except SchemaError:
            self.rejected += 1
            return
        text = key.decode("ascii", "replace") if isinstance(key, bytes) else key
        if text != str(schema.fingerprint):
            self.rejected += 1
        elif self._schemas.find(schema.fingerprint) is None:
            self._schemas.add_schema(schema)
            self._read.append(schema)

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()


class ChainedSchemas:
    """Several stores, which are asked in turn."""

    def __init__(self, *stores: SchemaFinder) -> None:
        self._stores = stores

    def find(self, key: SchemaKey) -> Schema | None:
        """Return the first store's answer that is not None."""
        return next((found for store in self._stores if (found := store.find(key)) is not None), None)
