"""Common parts of the jobs of kafka-python: its settings for librdkafka's mock."""

from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaTimeoutError


def versions(bootstrap: str) -> dict[str, Any]:
    """Return the broker's version for its clients: nothing, if they detect it themselves.

    The mock answers their ApiVersions request, version 3 and up, in a form that they cannot read.
    """
    try:
        KafkaProducer(bootstrap_servers=bootstrap, bootstrap_timeout_ms=3000).close()
    except KafkaTimeoutError:
        return {"api_version": (2, 3)}
    return {}
