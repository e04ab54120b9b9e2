"""A PostgreSQL that requires TLS, for some users with a certificate, and whose messages can be German."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.support.servers.certificates import Authority, Issued
from tests.support.servers.ports import free_port
from tests.support.servers.shared import ServerUnavailableError
from tests.support.servers.stock import ServerUser, child, programs, wait_until_ready

PASSWORD = "strict-Secret-7"
KEY_PASSWORD = "key-Secret-7"
OWNER, CERTIFIED = "strict_owner", "strict_certified"
HBA = f"hostssl all {CERTIFIED} all cert\nhostssl all all all scram-sha-256\n"


@dataclass(frozen=True, slots=True)
class Strict:
    """The port on 127.0.0.1, the authority that all trust, and a client's certificate that it has signed."""

    port: int
    authority: Authority
    client: Issued

    def url(self, role: str = OWNER, password: str = PASSWORD, **parameters: object) -> str:
        """Return the URL of the database `strict` with further parameters of libpq."""
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"postgresql://{role}:{password}@127.0.0.1:{self.port}/strict?{query or 'application_name=x'}"

    def execute(self, *statements: str) -> None:
        """Run statements as the superuser."""
        with psycopg.connect(self.url("postgres").replace("/strict?", "/postgres?"), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Strict]:
    """Yield the server; it trusts clients and is trusted by one authority."""
    account, data, port = ServerUser.suitable(), folder / "strict", free_port()
    account.own(folder)
    for above in (folder, *folder.parents):  # the account must be able to enter
        with contextlib.suppress(PermissionError):
            above.chmod(above.stat().st_mode | 0o011)
    secret = folder / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    authority = Authority.made(folder)
    server = authority.issue("localhost", "IP:127.0.0.1")
    made = subprocess.run(
        [programs() / "initdb", "-D", data, "--username", "postgres", "--auth", "scram-sha-256", "--pwfile", secret,
         "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync", "--no-instructions"],
        capture_output=True, text=True, check=False, cwd="/", **account.popen_options(),
    )  # fmt: skip
    if made.returncode != 0:
        raise ServerUnavailableError(f"initdb: {made.stderr[-800:]}")
    (data / "pg_hba.conf").write_text(HBA)
    key = data / "server.key"
    key.write_text(server.key.read_text())
    key.chmod(0o600)
    os.chown(key, data.stat().st_uid, data.stat().st_gid)
    options = {
        "listen_addresses": "127.0.0.1", "unix_socket_directories": folder, "fsync": "off", "ssl": "on",
        "ssl_cert_file": server.certificate, "ssl_key_file": key, "ssl_ca_file": authority.certificate,
        "lc_messages": "C",
    }  # fmt: skip
    (data / "postgresql.auto.conf").write_text("".join(f"{name} = '{value}'\n" for name, value in options.items()))
    for file in folder.glob("*.crt"):
        file.chmod(0o644)
    arguments = (str(programs() / "postgres"), "-D", str(data), "-p", str(port))
    with child(account, arguments, folder / "strict.log", signal.SIGINT, LANGUAGE="de"):
        strict = Strict(port, authority, authority.issue(CERTIFIED, password=KEY_PASSWORD))
        wait_until_ready(strict.url("postgres").replace("/strict?", "/postgres?"))
        for role in (OWNER, CERTIFIED):
            strict.execute(f"create role {role} login password '{PASSWORD}'")
        strict.execute(f"grant {OWNER} to {CERTIFIED}")
        strict.execute(f"create database strict owner {OWNER}")
        yield strict
