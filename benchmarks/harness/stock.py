"""PostgreSQL as a Debian package starts it: default settings, an owner who is not a superuser, a reader.

The embedded server of the quickstart has other settings, and an owner with all rights.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from gnomon_consumer.quickstart.embedded.postgres import ServerUser
from gnomon_consumer.runtime.parent_death import tie_to_parent

PACKAGES = Path("/usr/lib/postgresql")
OWNER, READER = "stock_owner", "stock_reader"
_START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Stock:
    """A database on the server, as each role reaches it, and the server's version."""

    owner: str
    reader: str
    superuser: str
    version: str


def programs() -> Path | None:
    """Return the programs of the newest PostgreSQL from Debian's packages, None if there is none."""
    found = sorted(PACKAGES.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@contextlib.contextmanager
def running(bin_folder: Path) -> Iterator[Stock]:
    """Run the server on a Unix socket and yield an empty database of OWNER's.

    It has the settings that initdb writes. `gnomon db roles` grants READER its rights; the role itself already exists,
    because its name belongs to the whole server.
    """
    account, root = ServerUser.suitable(), Path(tempfile.mkdtemp(prefix="gnomon-stock-"))
    root.chmod(0o711)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        data, socket = root / "data", root / "socket"
        for folder in (data, socket):
            folder.mkdir()
            account.own(folder)
        made = subprocess.run(
            [bin_folder / "initdb", "--pgdata", data, "--username", "postgres", "--auth", "trust", "--encoding", "UTF8",
             "--locale", "C.UTF-8", "--no-instructions"],
            capture_output=True, text=True, check=False, cwd="/", **account.popen_options(),
        )  # fmt: skip
        if made.returncode != 0:
            raise RuntimeError(f"initdb: {made.stderr[-500:]}")
        stack.enter_context(_server(bin_folder, account, data, socket))

        def url(role: str, database: str) -> str:
            return f"postgresql://{role}@/{database}?host={socket}"

        with _connected(url("postgres", "postgres")) as server:
            server.execute(f"create role {OWNER} login createrole")
            server.execute(f"create role {READER} login")
            server.execute("create role gnomon_reader nologin; create role gnomon_writer nologin")
            for role in ("gnomon_reader", "gnomon_writer"):
                server.execute(f"grant {role} to {OWNER} with admin option")
            server.execute(f"grant gnomon_reader to {READER}")
            server.execute(f"create database stock owner {OWNER}")
            (version,) = server.execute("show server_version").fetchone() or ("",)
        yield Stock(url(OWNER, "stock"), url(READER, "stock"), url("postgres", "stock"), version.split()[0])


@contextlib.contextmanager
def _server(bin_folder: Path, account: ServerUser, data: Path, socket: Path) -> Iterator[None]:
    parent = os.getpid()
    with (socket.parent / "log").open("w") as lines:
        child = subprocess.Popen(
            [bin_folder / "postgres", "-D", data, "-c", "listen_addresses=", "-c", f"unix_socket_directories={socket}"],
            stdin=subprocess.DEVNULL, stdout=lines, stderr=lines, cwd="/",
            preexec_fn=lambda: tie_to_parent(parent, signal.SIGKILL), **account.popen_options(),
        )  # fmt: skip
    try:
        yield
    finally:
        child.send_signal(signal.SIGINT)
        child.wait(60)


def _connected(url: str) -> "psycopg.Connection[tuple[str]]":
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            return psycopg.connect(url, autocommit=True, connect_timeout=5)
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)  # the server was just started: only a connection shows that it accepts some
