"""Ports for servers of tests that must know their port before they listen.

A port that the kernel gave and that was closed again can become another process's within the seconds that a server
takes to start: the next server's, or the local end of a connection. So ports lie below those that the kernel gives to
connections, and each is reserved until this process ends.
"""

import random
import socket
from pathlib import Path

_FIRST, _LAST = 15_000, 32_767
_GIVEN_BY_THE_KERNEL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_reserved: list[socket.socket] = []


def free_port() -> int:
    """Return a loopback port without a listener, which no other call in any process gets while this process lives."""
    last = min(_LAST, int(_GIVEN_BY_THE_KERNEL.read_text().split()[0]) - 1)
    for port in random.sample(range(_FIRST, last + 1), last + 1 - _FIRST):
        # An abstract name belongs to one process, and ends with it.
        reservation = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            reservation.bind(f"\0gnomon-test-port-{port}")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            reservation.close()
            continue
        _reserved.append(reservation)
        return port
    raise RuntimeError(f"no free port from {_FIRST} to {last}")
