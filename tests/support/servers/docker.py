"""Whether there is a Docker engine, and the images of tests and docker-compose.yml."""

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.servers.shared import ROOT


def engine_answers(timeout_s: float = 1.0) -> bool:
    """Ask the engine's socket itself: a client may exist without an engine, and reports that slowly."""
    host = urlsplit(os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock")
    address: str | tuple[str, int]
    try:
        if host.scheme == "unix":
            connection, address = socket.socket(socket.AF_UNIX), host.path
        else:
            connection, address = socket.socket(), (host.hostname or "127.0.0.1", host.port or 2375)
        with connection:
            connection.settimeout(timeout_s)
            connection.connect(address)
            connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            return connection.recv(12).startswith(b"HTTP/1.")
    except OSError:
        return False


def image(variable: str, file: Path = ROOT / ".env") -> str:
    """Return the name of an image as in docker-compose.yml: from the environment, else from `.env`."""
    defaults = dict(
        line.split("=", 1) for line in file.read_text().splitlines() if "=" in line and not line.startswith("#")
    )
    return os.environ.get(variable) or defaults[variable]
