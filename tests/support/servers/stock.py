"""PostgreSQL as Debian ships it: passwords, JIT on, an owner without superuser rights, a replica, and pgbouncer.

One server with its hot standby serves a whole run. Each test makes databases of its own in it.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg

from gnomon_consumer.quickstart.embedded.postgres import ServerUser as ServerUser
from gnomon_consumer.runtime.parent_death import tie_to_parent
from tests.support.servers.ports import free_port
from tests.support.servers.shared import ServerUnavailableError

PASSWORD = "a b/c@d:e%f?g#h"
"""The password of every role, with characters that must be escaped in a URL; no output may show it."""
ESCAPED = "a%20b%2Fc%40d%3Ae%25f%3Fg%23h"
OWNER, READER, WRITER, NOBODY = "stock_owner", "stock_reader", "stock_writer", "stock_nobody"
START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Stock:
    """Ports on 127.0.0.1: the primary, its replica, and a pgbouncer in transaction mode before the primary."""

    primary: int
    replica: int
    pooler: int

    def url(self, database: str, role: str = OWNER, port: int | None = None, password: str = ESCAPED) -> str:
        """Return the URL of a database for a role."""
        return f"postgresql://{role}:{password}@127.0.0.1:{port or self.primary}/{database}"

    @property
    def admin(self) -> str:
        """Return the URL of the superuser."""
        return self.url("postgres", "postgres")

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Run a statement as the superuser."""
        with psycopg.connect(self.url(database, "postgres"), autocommit=True) as connection:
            connection.execute(statement)

    @contextlib.contextmanager
    def database(self, name: str, options: str = "") -> Iterator[str]:
        """Make a database that OWNER owns; yield the owner's URL, and drop it at the end."""
        self.execute(f"create database {name} owner {OWNER} template template0 {options}")
        try:
            yield self.url(name)
        finally:
            self.execute(f"drop database {name} with (force)")

    def wait_for_replica(self) -> None:
        """Return when the replica has replayed everything that the primary has written by now."""
        with psycopg.connect(self.admin) as primary, psycopg.connect(
            self.url("postgres", "postgres", self.replica), autocommit=True
        ) as replica:  # fmt: skip
            (target,) = primary.execute("select pg_current_wal_lsn()").fetchone() or ("",)
            deadline = time.monotonic() + START_SECONDS
            while time.monotonic() < deadline:
                row = replica.execute("select pg_last_wal_replay_lsn() >= %s::pg_lsn", [target]).fetchone()
                if row and row[0]:
                    return
                time.sleep(0.02)
        raise ServerUnavailableError("the replica does not follow")


def programs() -> Path:
    """Return the folder of Debian's newest server, or the one on the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    on_path = shutil.which("initdb")
    if on_path is not None:
        found.append(Path(on_path).resolve().parent)
    if not found:
        raise ServerUnavailableError("no PostgreSQL of the system (Debian and Ubuntu: apt install postgresql)")
    return found[-1]


def pgbouncer() -> str:
    """Return the path of pgbouncer, which Debian puts where a user's PATH does not look."""
    found = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if found is None:
        raise ServerUnavailableError("no pgbouncer (Debian and Ubuntu: apt install pgbouncer)")
    return found


@contextlib.contextmanager
def running(folder: Path) -> Iterator[str]:
    """Yield the ports as JSON (`open_stock` reads them)."""
    bin_folder, account, root = programs(), ServerUser.suitable(), folder / "stock"
    root.mkdir()
    account.own(root)
    for above in (folder, *folder.parents):  # the account must be able to enter
        with contextlib.suppress(PermissionError):
            above.chmod(above.stat().st_mode | 0o011)
    stock = Stock(free_port(), free_port(), free_port())
    secret = root / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)

    def run(*arguments: object) -> None:
        done = subprocess.run(
            list(map(str, arguments)), capture_output=True, text=True, check=False, cwd="/",
            env={**os.environ, "PGPASSWORD": PASSWORD}, **account.popen_options(),
        )  # fmt: skip
        if done.returncode != 0:
            raise ServerUnavailableError(f"{arguments[0]}: {done.stderr[-800:]}")

    with contextlib.ExitStack() as stack:
        run(
            bin_folder / "initdb", "--pgdata", root / "primary", "--username", "postgres", "--auth", "scram-sha-256",
            "--pwfile", secret, "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync", "--no-instructions",
        )  # fmt: skip
        stack.enter_context(_postgres(bin_folder, account, root / "primary", stock.primary))
        wait_until_ready(stock.admin)
        for role, rights in ((OWNER, "createdb createrole"), (READER, ""), (WRITER, ""), (NOBODY, "")):
            stock.execute(f"create role {role} login password '{PASSWORD}' {rights}")
        for role in ("gnomon_writer", "gnomon_reader"):
            stock.execute(f"create role {role} nologin admin {OWNER}")
        stock.execute(f"grant gnomon_reader to {READER}; grant gnomon_writer to {WRITER}")
        run(
            bin_folder / "pg_basebackup", "--pgdata", root / "replica", "--write-recovery-conf", "--checkpoint", "fast",
            "--no-sync", "--dbname", f"host=127.0.0.1 port={stock.primary} user=postgres",
        )  # fmt: skip
        stack.enter_context(_postgres(bin_folder, account, root / "replica", stock.replica))
        wait_until_ready(stock.url("postgres", "postgres", stock.replica))
        stack.enter_context(_pooler(account, root, stock))
        wait_until_ready(stock.url("postgres", OWNER, stock.pooler))
        yield json.dumps(asdict(stock))


def open_stock(address: str) -> Stock:
    """Return what `running` yielded."""
    return Stock(**json.loads(address))


def _postgres(
    bin_folder: Path, account: ServerUser, data: Path, port: int
) -> "contextlib.AbstractContextManager[None]":
    # No setting that changes a plan, only that a test's data need not survive a crash of the machine.
    durability = ("-c", "fsync=off", "-c", "synchronous_commit=off")
    arguments = (
        str(bin_folder / "postgres"), "-D", str(data), "-p", str(port), "-c", "listen_addresses=127.0.0.1",
        "-c", f"unix_socket_directories={data.parent}", *durability,
    )  # fmt: skip
    return child(account, arguments, data.with_suffix(".log"), signal.SIGINT)


def _pooler(account: ServerUser, root: Path, stock: Stock) -> "contextlib.AbstractContextManager[None]":
    """Debian's defaults but for transaction pooling; two server sessions, so that transactions really move."""
    users = root / "users.txt"
    users.write_text("".join(f'"{role}" "{PASSWORD}"\n' for role in (OWNER, READER, WRITER, NOBODY)))
    config = root / "pgbouncer.ini"
    config.write_text(
        f"[databases]\n* = host=127.0.0.1 port={stock.primary}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {stock.pooler}\nunix_socket_dir =\n"
        f"auth_type = scram-sha-256\nauth_file = {users}\npool_mode = transaction\n"
        "default_pool_size = 2\nserver_round_robin = 1\nmax_client_conn = 200\n"
    )
    for file in (users, config):
        file.chmod(0o644)
    return child(account, (pgbouncer(), str(config)), root / "pgbouncer.log", signal.SIGINT)


@contextlib.contextmanager
def child(
    account: ServerUser, arguments: tuple[str, ...], log: Path, stop: signal.Signals, **env: str
) -> Iterator[None]:
    """Run a program under the account while the block runs; `stop` ends it."""
    parent = os.getpid()
    with log.open("w") as lines:
        child = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=lines, stderr=lines, cwd="/", env={**os.environ, **env},
            preexec_fn=lambda: tie_to_parent(parent, signal.SIGKILL), **account.popen_options(),
        )  # fmt: skip
    try:
        yield
    finally:
        child.send_signal(stop)
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def wait_until_ready(url: str) -> None:
    """Return when a server accepts a connection."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline:
                raise ServerUnavailableError(f"a server of the stock kind does not start: {error}") from None
            time.sleep(0.1)
        else:
            return
