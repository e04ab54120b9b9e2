"""The embedded servers of the quickstart and of the tests. To use another backend, change this module.

Both functions return a handle with `.address`, `.running()` and `.stop()` that is also a context manager. Each server
runs in a child process that ends with the caller, also after SIGKILL.
"""

from pathlib import Path

from gnomon_consumer.quickstart.embedded.kafka import PARTITIONS
from gnomon_consumer.quickstart.embedded.server import EmbeddedServer

__all__ = ["PARTITIONS", "EmbeddedServer", "start_kafka", "start_postgres"]


def start_kafka(*, log: Path | None = None) -> EmbeddedServer:
    """Start an embedded Kafka; `.address` holds its bootstrap servers. Raises DependencyUnreachableError."""
    return EmbeddedServer("kafka", log=log)


def start_postgres(directory: Path | None = None, *, log: Path | None = None) -> EmbeddedServer:
    """Start an embedded PostgreSQL; `.address` holds its URL (superuser `postgres`, database `postgres`).

    Its data are in `directory`, which is created if missing and kept, or in a temporary one.
    Raises DependencyUnreachableError.
    """
    return EmbeddedServer("postgres", *([str(directory.absolute())] if directory else []), log=log)
