"""The brokers of the benchmarks: Apache Kafka, or librdkafka's mock with more partitions than by default."""

import contextlib
import ctypes
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import confluent_kafka

_PRODUCER = 0  # rd_kafka_type_t
_ERROR_BYTES = 512


class Mock:
    """A mock cluster of one broker in this process, through librdkafka's own interface.

    A mock that a client creates has four partitions a topic and keeps about 5 MB in each. Only the creator of a mock
    can set the number of a topic's partitions, and the Python client has no call for that.
    """

    def __init__(self) -> None:
        """Create it; raise RuntimeError if librdkafka has no mock."""
        self._library = ctypes.CDLL(_librdkafka())
        pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
        for name, result, arguments in (
            ("rd_kafka_conf_new", pointer, []),
            ("rd_kafka_conf_set", number, [pointer, text, text, text, ctypes.c_size_t]),
            ("rd_kafka_new", pointer, [number, pointer, text, ctypes.c_size_t]),
            ("rd_kafka_mock_cluster_new", pointer, [pointer, number]),
            ("rd_kafka_mock_cluster_bootstraps", text, [pointer]),
            ("rd_kafka_mock_set_controller_id", number, [pointer, ctypes.c_int32]),
            ("rd_kafka_mock_group_initial_rebalance_delay_ms", None, [pointer, ctypes.c_int32]),
            ("rd_kafka_mock_topic_create", number, [pointer, text, number, number]),
            ("rd_kafka_mock_cluster_destroy", None, [pointer]),
            ("rd_kafka_destroy", None, [pointer]),
        ):
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments
        said = ctypes.create_string_buffer(_ERROR_BYTES)
        conf = self._library.rd_kafka_conf_new()
        self._library.rd_kafka_conf_set(conf, b"log_level", b"3", said, _ERROR_BYTES)  # it has no broker to connect to
        self._owner = self._library.rd_kafka_new(_PRODUCER, conf, said, _ERROR_BYTES)
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._owner, 1)
        if not self._cluster:
            raise RuntimeError("librdkafka makes no mock cluster")
        self._library.rd_kafka_mock_set_controller_id(self._cluster, 1)  # admin clients wait for one
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        self.bootstrap: str = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def create(self, topic: str, partitions: int) -> None:
        """Create a topic; raise RuntimeError if it exists."""
        if error := self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 1):
            raise RuntimeError(f"the mock does not make {topic}: error {error}")

    def close(self) -> None:
        """End it, with all its data."""
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._owner)


# The mocks of this process by their bootstrap servers.
MOCKS: dict[str, Mock] = {}


def _librdkafka() -> str:
    """Return the library that the Python client has loaded."""
    mapped = Path("/proc/self/maps").read_text().split()
    found = next((part for part in mapped if "librdkafka" in part.rpartition("/")[2]), None)
    if found is None:
        raise RuntimeError(f"confluent-kafka {confluent_kafka.__version__} brings no librdkafka of its own")
    return found


@contextlib.contextmanager
def broker(kind: str, folder: Path) -> Iterator[str]:
    """Yield the bootstrap servers of a separate broker, `kafka` or `mock`.

    From here on a SIGTERM unwinds the process, so that a stop leaves no broker and no job behind.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if kind == "mock":
        mock = Mock()
        MOCKS[mock.bootstrap] = mock
        try:
            yield mock.bootstrap
        finally:
            del MOCKS[mock.bootstrap]
            mock.close()
    else:
        from tests.support.servers import kafka as real  # the mock needs no Java

        with real.running(folder) as bootstrap:
            yield bootstrap
