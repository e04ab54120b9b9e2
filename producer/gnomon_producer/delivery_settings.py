"""The configuration of the hook's producer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BATCH_BYTES = 65_536
"""Small enough for the limit of nearly every topic, which is not known while the first batch is sent."""
_BYTES_A_MESSAGE = 1024
"""Memory of librdkafka and its binding for a message in addition to its payload, rounded up."""


@dataclass(frozen=True, kw_only=True)
class DeliverySettings:
    """`max_buffer_bytes` bounds payloads and bookkeeping together; `properties` are passed to librdkafka unchanged.

    `topics`: the topics whose limit a batch must keep.
    """

    bootstrap_servers: str
    max_buffer_bytes: int
    heartbeat_s: float
    exit_timeout_s: float
    properties: Mapping[str, Any] = field(default_factory=dict)
    topics: tuple[str, ...] = ()

    def librdkafka(self) -> dict[str, Any]:
        """Return the producer's configuration: first the properties that the guarantees need, then the user's."""
        return {
            "bootstrap.servers": self.bootstrap_servers,
            "enable.idempotence": True,
            "linger.ms": 20,
            "compression.type": "lz4",
            "batch.size": BATCH_BYTES,
            "queue.buffering.max.kbytes": max(1, self.max_buffer_bytes // 2048),
            "queue.buffering.max.messages": max(1, self.max_buffer_bytes // (2 * _BYTES_A_MESSAGE)),
            "log_level": 2,  # errors arrive by error_cb, and are logged once a minute
            **self.properties,
        }
