"""A proxy in front of a broker that delays an armed request, or kills the broker instead."""

from pathlib import Path

from tests.support.servers.kafka import SETTINGS
from tests.support.servers.kafka_node import KafkaNode, single_node
from tests.support.servers.ports import free_port


class Broker(KafkaNode):
    """A broker of this test alone, which can be killed and started again; reached at `advertised`, a proxy's port."""

    def __init__(self, folder: Path, advertised: int | None = None) -> None:
        self.port = free_port()
        super().__init__(folder, "own-kafka", single_node(self.port, advertised) | SETTINGS)
