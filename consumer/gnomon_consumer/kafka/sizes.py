"""The maximum size of a message, and the part of a dead letter that fits."""

import logging
from collections.abc import Sequence

from confluent_kafka import KafkaException
from confluent_kafka.admin import ConfigResource, ResourceType

from gnomon_consumer.kafka import clients
from gnomon_consumer.kafka.errors import Right, denial, kafka_error, one_line
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.framing import MAX_MESSAGE_BYTES

_LOG = logging.getLogger("kafka")
KafkaHeaders = list[tuple[str, str | bytes | None]]

DEFAULT_BYTES = 1_000_000
"""librdkafka's own `message.max.bytes`; Kafka's default for a topic is larger."""
LEAST_BYTES = 10_000
"""The record of a window with many strata has a few thousand bytes, and cannot be cut."""
_OVERHEAD = 300
"""Bytes that the record format adds to a single message at most, its batch and the headers made here included."""
_OF_A_HEADER = 10


def largest_message(settings: Settings, *topics: str) -> int:
    """Return the size of the largest message, in bytes, that all these topics and all their readers accept.

    The broker is asked for it; DEFAULT_BYTES for a topic of which it does not tell (the mock, no right to
    DescribeConfigs). Raises ConfigurationError if a topic accepts less than LEAST_BYTES.
    """
    known = _read_limits(settings, topics)
    for topic, limit in known.items():
        if limit < LEAST_BYTES:
            raise too_small(topic, limit)
    own = settings.kafka.properties.get("message.max.bytes")
    limits = [*known.values(), MAX_MESSAGE_BYTES, *([] if len(known) == len(topics) else [DEFAULT_BYTES])]
    return min([*limits, *([] if own is None else [int(own)])])


def too_small(topic: str, limit: int) -> ConfigurationError:
    """Return the refusal of a topic whose limit, in bytes, leaves no room for Gnomon's own records."""
    return ConfigurationError(
        f"{topic} accepts messages of {limit} bytes at most, too few for a window's record: raise max.message.bytes,"
        f" for example: kafka-configs.sh --alter --topic {topic} --add-config max.message.bytes=1048588"
    )


def _read_limits(settings: Settings, topics: Sequence[str]) -> dict[str, int]:
    """Return the limit of each topic in bytes, if the broker reports it."""
    if clients.is_mock(clients.list_topics(settings)):
        return {}
    admin = clients.make_admin(settings)
    resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]
    futures = admin.describe_configs(resources, request_timeout=settings.kafka.timeout_seconds)
    limits: dict[str, int] = {}
    for resource in resources:
        try:
            limits[resource.name] = int(futures[resource].result()["max.message.bytes"].value)
        except KafkaException as error:
            needed = Right("DescribeConfigs", "topic", resource.name)
            said = denial(error, needed) or one_line(kafka_error(error).str())
            _LOG.warning("the limit of %s is unknown, %d bytes are assumed: %s", resource.name, DEFAULT_BYTES, said)
    return limits


def fits(limit: int, key: bytes | None, value: bytes) -> bool:
    """Return whether a message without headers is within a limit."""
    return len(value) + len(key or b"") + _OVERHEAD <= limit


def fitted(
    limit: int, key: bytes | str | None, value: bytes | None, headers: KafkaHeaders
) -> tuple[bytes, bytes | None, KafkaHeaders]:
    """Return key, value and headers of a dead letter, cut to fit within `limit` bytes.

    The headers, which hold the coordinates, stay whole. If the value or key was cut, the header `value.size` or
    `key.size` holds its full size.
    """
    headers = list(headers)
    raw = key.encode() if isinstance(key, str) else key or b""
    room = limit - _OVERHEAD - sum(len(name) + len(text or b"") * 4 + _OF_A_HEADER for name, text in headers)
    kept_key = raw[: max(0, room)]
    if len(kept_key) < len(raw):
        headers.append(("key.size", str(len(raw))))
    kept = None if value is None else value[: max(0, room - len(kept_key))]
    if value is not None and kept is not None and len(kept) < len(value):
        headers.append(("value.size", str(len(value))))
    return kept_key, kept, headers
