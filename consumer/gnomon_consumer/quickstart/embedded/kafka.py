"""The embedded Kafka: librdkafka's mock cluster, a real protocol endpoint on loopback that keeps data in memory.

Its limits, which callers must respect: 4 partitions for every topic, about 5 MB or 100,000 message
sets kept in a partition, no admin API, no isolation for read_committed, no offsets stored in transactions.
"""

import contextlib
import logging
import threading
from collections.abc import Iterator

from confluent_kafka import KafkaException, Producer

from gnomon_schemas.errors import DependencyUnreachableError

PARTITIONS = 4

log = logging.getLogger("gnomon.embedded.kafka")


@contextlib.contextmanager
def running(brokers: int = 1) -> Iterator[str]:
    """Run a mock cluster for the duration of the block; yield its bootstrap servers."""
    # The mock belongs to the client that asked for it. `logger` takes librdkafka's lines off standard error.
    owner = Producer({"bootstrap.servers": "embedded", "test.mock.num.brokers": brokers, "log_level": 4}, logger=log)
    done = threading.Event()
    pump = threading.Thread(target=_serve_callbacks, args=(owner, done), name="embedded-kafka-log", daemon=True)
    pump.start()
    try:
        metadata = owner.list_topics(timeout=30)
        yield ",".join(f"{broker.host}:{broker.port}" for broker in metadata.brokers.values())
    except KafkaException as error:
        raise DependencyUnreachableError(f"the mock cluster does not answer: {error}") from error
    finally:
        done.set()
        pump.join()


def _serve_callbacks(owner: Producer, done: threading.Event) -> None:
    while not done.is_set():
        owner.poll(0.2)
