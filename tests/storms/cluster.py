"""Three Kafka nodes on this machine, each of which can be killed, frozen, slowed, disconnected and restarted."""

import contextlib
import signal
import socket
import subprocess
from pathlib import Path

from tests.support.servers.kafka import SETTINGS, wait_until_ready
from tests.support.servers.kafka_node import KafkaNode, single_node
from tests.support.servers.ports import free_port
from tests.support.tcp_link import TcpLink

_NODES = 3
_REPLICATED = {
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "broker.session.timeout.ms": "4000",
    "replica.lag.time.max.ms": "4000",
}


class Node(KafkaNode):
    """One node: broker and controller. Clients and the other nodes' fetches reach it through `link`."""

    def __init__(self, number: int, controllers: list[int], folder: Path) -> None:
        port = free_port()
        self.link = TcpLink(socket.AF_INET, ("127.0.0.1", port))
        self._cuts = contextlib.ExitStack()
        settings = single_node(port, self.link.port) | SETTINGS | _REPLICATED | {
            "node.id": str(number),
            "controller.quorum.voters": ",".join(f"{at}@127.0.0.1:{port}" for at, port in enumerate(controllers, 1)),
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controllers[number - 1]}",
        }  # fmt: skip
        super().__init__(folder, f"node-{number}", settings)

    def cut(self, cut: bool) -> None:
        """Drop every packet of its clients and of the other nodes' fetches, or let them through again."""
        self._cuts.close()
        if cut:
            self._cuts.enter_context(self.link.cut())


class Cluster:
    """The nodes; `bootstrap` names all of them."""

    def __init__(self, folder: Path) -> None:
        controllers = [free_port() for _ in range(_NODES)]
        self.nodes = [Node(number, controllers, folder) for number in range(1, _NODES + 1)]
        self.bootstrap = ",".join(f"127.0.0.1:{node.link.port}" for node in self.nodes)
        wait_until_ready(self.bootstrap)

    def heal(self) -> None:
        """Let every node run and be reachable."""
        for node in self.nodes:
            node.cut(False)
            node.link.delay_s = 0.0
            if node.process.poll() is not None:
                node.start()
            node.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End every node."""
        for node in self.nodes:
            with contextlib.suppress(subprocess.SubprocessError):
                node.cut(False)
            node.kill()
            node.link.close()
