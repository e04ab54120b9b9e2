"""Ports of the tests' servers belong to one process each, also before a server listens."""

import subprocess
import sys
from pathlib import Path

from tests.support.servers import ports

ROOT = Path(__file__).parents[3]
TAKE = """
from tests.support.servers.ports import free_port
print(*(free_port() for _ in range(400)), flush=True)
input()
"""


def test_two_processes_never_get_the_same_port() -> None:
    """Each of them takes 400 of 17,768 ports, so without a reservation about nine of them would be the same."""
    command = [sys.executable, "-c", TAKE]
    with (
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as one,
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as two,
    ):
        assert one.stdout is not None
        assert two.stdout is not None
        taken = [*one.stdout.readline().split(), *two.stdout.readline().split()]
        one.communicate("\n")
        two.communicate("\n")
    assert len(set(taken)) == len(taken) == 800


def test_a_port_is_below_those_of_connections() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(ports.free_port() < first for _ in range(20))
