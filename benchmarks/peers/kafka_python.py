"""What both jobs of kafka-python share: how it gets on with librdkafka's mock."""

from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaTimeoutError


def versions(bootstrap: str) -> dict[str, Any]:
    """What to tell its clients of the broker's version: nothing, if they find out by themselves.

    The mock answers their ApiVersions request, version 3 and up, in a form that they do not read.
    """
    try:
        KafkaProducer(bootstrap_servers=bootstrap, bootstrap_timeout_ms=3000).close()
    except KafkaTimeoutError:
        return {"api_version": (2, 3)}
    return {}
