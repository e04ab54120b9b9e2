"""A TCP connection to a server that can delay data, or drop the packets of both directions silently."""

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

Address = str | tuple[str, int]


class TcpLink:
    """Forwards `port` of 127.0.0.1 to a server; each piece of data waits `delay_s` seconds on its way."""

    def __init__(self, family: int, address: Address, port: int = 0) -> None:
        self._family, self._address = family, address
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self.delay_s = 0.0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._run(self._accept)

    def _run(self, target: object, *ends: socket.socket) -> None:
        def run() -> None:
            try:
                assert callable(target)
                target(*ends)
            finally:
                with self._lock:
                    self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=run, daemon=True)
        with self._lock:
            self._threads.add(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                self._run(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(self._family)
        with client, server:
            with self._lock:
                self._open |= {client, server}
            with contextlib.suppress(OSError):  # the server does not listen: the client's connection ends
                server.connect(self._address)
                back = threading.Thread(target=self._copy, args=(server, client), daemon=True)
                back.start()
                self._copy(client, server)
                back.join()
            with self._lock:
                self._open -= {client, server}

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if self.delay_s:
                    time.sleep(self.delay_s)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """Drop the packets for the length of a block."""
        rules = [
            ["INPUT", "-i", "lo", "-p", "tcp", end, str(self.port), "-j", "DROP"] for end in ("--dport", "--sport")
        ]
        try:
            for rule in rules:
                subprocess.run(["iptables", "-w", "-I", *rule], check=True)
            yield
        finally:
            for rule in rules:
                subprocess.run(["iptables", "-w", "-D", *rule], check=False)

    def close(self) -> None:
        """End every connection."""
        with self._lock:
            ends = [self._listener, *self._open]
            threads = list(self._threads)
        for one in ends:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        self._listener.close()


@contextlib.contextmanager
def silent_link(family: int, address: Address) -> Iterator[TcpLink]:
    """Yield a connection to a server that can be cut; skip if packets cannot be dropped here."""
    usable = os.geteuid() == 0 and shutil.which("iptables")
    if not usable or subprocess.run(["iptables", "-w", "-L", "-n"], capture_output=True).returncode:
        pytest.skip("packets are dropped by iptables, which only root may change")
    link = TcpLink(family, address)
    try:
        yield link
    finally:
        link.close()
