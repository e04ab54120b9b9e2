"""A TCP way to a server whose packets can be dropped, both ways, without a word to either end."""

import contextlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest


class SilentLink:
    """Forwards `port` of 127.0.0.1 to a server; while it is cut, the kernel drops every packet of the port."""

    def __init__(self, family: int, address: str | tuple[str, int]) -> None:
        self._family, self._address = family, address
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets = [self._listener]
        self._threads: list[threading.Thread] = []
        self._run(self._accept)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(self._family)
                self._sockets += [client, server]
                server.connect(self._address)
                for source, sink in ((client, server), (server, client)):
                    self._run(_copy, source, sink)

    def _run(self, target: Callable[..., None], *ends: socket.socket) -> None:
        thread = threading.Thread(target=target, args=ends, daemon=True)
        self._threads.append(thread)
        thread.start()

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
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in self._sockets:
            one.close()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def silent_link(family: int, address: str | tuple[str, int]) -> Iterator[SilentLink]:
    """Yield a way to a server; skip where packets cannot be dropped here."""
    usable = os.geteuid() == 0 and shutil.which("iptables")
    if not usable or subprocess.run(["iptables", "-w", "-L", "-n"], capture_output=True).returncode:
        pytest.skip("packets are dropped by iptables, which only root may change")
    link = SilentLink(family, address)
    try:
        yield link
    finally:
        link.close()
