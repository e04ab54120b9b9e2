"""A broker that is killed at each step of a transaction, and a commit that is delayed on its way to the broker."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from tests.support.broker_proxy import Broker
from tests.support.live_stream import Partition, Stream, await_sealed, outcomes, status, sum_model
from tests.support.servers.kafka import wait_until_ready
from tests.support.servers.process import Gnomon, GnomonProcess

from gnomon_consumer.database import maintenance

# Request types of the protocol: https://kafka.apache.org/protocol#protocol_api_keys
STEPS = {"add partitions": 24, "produce": 0, "add offsets": 25, "commit offsets": 28, "end transaction": 26}
END_TXN = STEPS["end transaction"]
CLIENT = b"scorer"


class Proxy:
    """Forwards to the broker; the first armed request of the scorer is delayed, or the broker is killed instead."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.broker: Broker | None = None
        self._armed: int | None = None
        self._hold = 0.0
        self.fired = threading.Event()
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._dead = threading.Event()
        self._closed = False
        self._late: bytes | None = None
        self._repeat = False
        self._run(self._accept)
        self._run(self._repair)

    def arm(self, step: int, hold: float = 0.0) -> None:
        """Arm a request type; `hold` 0 kills the broker at the next request of this type."""
        self.fired.clear()
        self._hold, self._armed = hold, step

    def repeat_late(self) -> None:
        """Deliver the next end of a transaction twice: at once, and once more in the middle of the next transaction."""
        self.fired.clear()
        self._late, self._repeat = None, True

    def _script(self, kind: int, request: bytes) -> None:
        """Keep a copy of the end of a transaction, and send it ahead of the offsets of the next one."""
        if kind == END_TXN and self._repeat:
            self._late, self._repeat = request, False
        elif kind == STEPS["add offsets"] and self._late is not None:
            late, self._late = self._late, None
            assert self.broker is not None
            with socket.create_connection(("127.0.0.1", self.broker.port), 5) as another:
                another.sendall(late)
                answer = another.recv(65536)
            print(f"the late end of a transaction was answered with error {int.from_bytes(answer[12:14], 'big')}")
            self.fired.set()

    def close(self) -> None:
        self._closed = True
        self._dead.set()
        for one in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(5)

    def _run(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]  # methods below
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            assert self.broker is not None
            try:
                server = socket.create_connection(("127.0.0.1", self.broker.port), 5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            self._sockets += (client, server)
            self._run(self._requests, client, server)
            self._run(self._answers, server, client)

    def _answers(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError), client.makefile("rb") as stream:
            while len(prefix := stream.read(4)) == 4:
                body = stream.read(int.from_bytes(prefix, "big"))
                name = body[10 : 10 + int.from_bytes(body[8:10], "big", signed=True)]
                kind = int.from_bytes(body[:2], "big")
                if name == CLIENT and kind == self._armed:
                    self._fire()
                if name == CLIENT:
                    self._script(kind, prefix + body)
                server.sendall(prefix + body)

    def _fire(self) -> None:
        self._armed = None
        self.fired.set()
        if self._hold:
            time.sleep(self._hold)  # the duration of the request on its way
            return
        assert self.broker is not None
        self.broker.kill()
        self._dead.set()

    def _repair(self) -> None:
        """Start the broker again. The thread continues, because the broker ends with the thread that started it."""
        while True:
            self._dead.wait()
            self._dead.clear()
            if self._closed:
                return
            assert self.broker is not None
            self.broker.start()


@pytest.fixture
def proxy(tmp_path: Path, kafka_bootstrap: str) -> Iterator[Proxy]:
    """Yield a proxied broker for this test; it is skipped or fails like the shared real broker."""
    made = Proxy()
    try:
        made.broker = Broker(tmp_path, made.port)
        wait_until_ready(f"127.0.0.1:{made.port}")
        yield made
    finally:
        if made.broker is not None:
            made.broker.kill()
        made.close()


def sealed(bootstrap: str, stream: str, total: int, process: GnomonProcess) -> dict[int, Partition]:
    """Return the audited log once it covers `total`; if it never does, show the scorer's log."""
    try:
        return await_sealed(bootstrap, stream, "boost", total, timeout=90)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{process.output}") from None


def scoring(
    gnomon: Gnomon, bootstrap: str, stream: str, where: tuple[str, ...], folder: Path, *options: str
) -> tuple[Stream, GnomonProcess]:
    """Return a new stream with a scorer of it, which has its partitions and scores every capture."""
    done = gnomon.enter("topics", "create", *where)
    assert done.returncode == 0, done.stderr
    live = Stream(bootstrap, stream)
    live.publish_schema()
    model = sum_model(folder / "sum.onnx", "amount")
    process = gnomon.start(
        *("score", *where, "--model", model, "--member", "a", "--no-sampling", "-X", f"client.id={CLIENT.decode()}"),
        *options,
        env={"GNOMON_SCORE__MIN_WINDOW_SECONDS": "0.1", "GNOMON_KAFKA__TIMEOUT_SECONDS": "30"},
    )
    process.wait_for("assigned")
    return live, process


@pytest.mark.timeout(600)  # six restarts and waits, on a machine that may be busy
def test_nothing_is_lost_or_doubled_whatever_happens_to_a_transaction(
    gnomon: Gnomon, proxy: Proxy, stream_name: str, tmp_path: Path
) -> None:
    bootstrap = f"127.0.0.1:{proxy.port}"
    where = ("--stream", stream_name, "--bootstrap-servers", bootstrap, "--deployment", "boost")
    live, process = scoring(gnomon, bootstrap, stream_name, where, tmp_path, "-X", "reconnect.backoff.max.ms=500")
    for name, step in STEPS.items():
        proxy.arm(step)
        live.send(100)
        assert proxy.fired.wait(60), f"{name}: no such request\n{process.output}"
        wait_until_ready(bootstrap)
        sealed(bootstrap, stream_name, len(live.sent), process)
    proxy.arm(END_TXN, hold=15.0)  # longer than the scorer asks for its commit, and than the transaction may last
    live.send(100)
    assert proxy.fired.wait(60)
    found = outcomes(sealed(bootstrap, stream_name, len(live.sent), process))
    assert {place: row["request_id"] for place, row in found.items()} == live.sent
    assert {status(row) for row in found.values()} == {"scored"}
    assert "reading positions again" in process.output
    assert process.popen.poll() is None, process.output
    assert process.terminate(15) == 0


@pytest.mark.timeout(300)
def test_the_end_of_a_transaction_that_arrives_in_the_next_one_is_harmless(
    gnomon: Gnomon, proxy: Proxy, stream_name: str, database_url: str, tmp_path: Path
) -> None:
    """Rows without their seal become visible, and readers leave them out; each pair is there once."""
    bootstrap = f"127.0.0.1:{proxy.port}"
    where = ("--stream", stream_name, "--bootstrap-servers", bootstrap, "--deployment", "boost")
    live, process = scoring(gnomon, bootstrap, stream_name, where, tmp_path)
    for _ in range(5):
        proxy.repeat_late()
        deadline = time.monotonic() + 60
        while not proxy.fired.is_set():
            assert time.monotonic() < deadline, process.output
            live.send(50)
        sealed(bootstrap, stream_name, len(live.sent), process)
    found = outcomes(sealed(bootstrap, stream_name, len(live.sent), process))
    assert {place: row["request_id"] for place, row in found.items()} == live.sent
    assert process.terminate(15) == 0
    joined = gnomon.run("join", *where, "--database-url", database_url, "--drain", timeout=120)
    assert joined.returncode == 0, joined.stderr
    with psycopg.connect(database_url) as connection:
        pairs = connection.execute("select source_partition, source_offset, request_id from gnomon.pairs").fetchall()
        assert maintenance.ledger_differences(connection, stream_name) == []
    assert sorted(pairs) == sorted((*place, request) for place, request in live.sent.items())
