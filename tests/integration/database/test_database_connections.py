"""libpq's ways to connect to a PostgreSQL with TLS, certificates and a service file, and the errors of each.

The results are docs/connection-errors.md: with GNOMON_WRITE_DOCS=1 the test writes the page, else it compares.
"""

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.support.door import Ended, enter
from tests.support.servers import strict as servers
from tests.support.servers.certificates import Authority
from tests.support.servers.shared import ServerUnavailableError
from tests.support.servers.strict import CERTIFIED, KEY_PASSWORD, OWNER, PASSWORD, Strict
from tests.support.servers.tools import missing

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "connection-errors.md"
pytestmark = pytest.mark.xdist_group("strict")


@dataclass(frozen=True, slots=True)
class Way:
    """One way to connect: its title, its URL, and the state of the server meanwhile."""

    title: str
    url: str
    status: int
    env: Mapping[str, str] = field(default_factory=dict)
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@pytest.fixture(scope="module")
def strict() -> Iterator[Strict]:
    """Yield a server for this module, in a folder that its account can reach (pytest's own is closed)."""
    try:
        with tempfile.TemporaryDirectory(prefix="gnomon-strict-") as folder, servers.running(Path(folder)) as running:
            yield running
    except ServerUnavailableError as reason:
        missing(str(reason))


def ways(strict: Strict, folder: Path) -> list[Way]:
    """Return every way, and create the files that they need."""
    root, other = strict.authority.certificate, Authority.made(folder, "other")
    stranger = other.issue(CERTIFIED)
    password_file, service_file = folder / "pgpass", folder / "services"
    password_file.write_text(f"127.0.0.1:*:*:{OWNER}:{PASSWORD}\n")
    password_file.chmod(0o600)
    address = f"host=127.0.0.1\nport={strict.port}\ndbname=strict\nuser={OWNER}\n"
    service_file.write_text(f"[known]\n{address}password={PASSWORD}\n[broken]\n{address}password {PASSWORD}\n")
    for key in (strict.client.key, stranger.key):
        key.chmod(0o600)
    bare = strict.url().replace(f":{PASSWORD}", "")
    certified = {"sslmode": "verify-full", "sslrootcert": root, "sslcert": strict.client.certificate,
                 "sslkey": strict.client.key}  # fmt: skip
    own = {**certified, "sslpassword": KEY_PASSWORD}
    alter, back = f"alter role {OWNER}", (f"alter role {OWNER} connection limit -1 valid until 'infinity' login",)
    database = "alter database strict"
    return [
        Way("`sslmode=verify-full` with the authority's file", strict.url(sslmode="verify-full", sslrootcert=root), 0),
        Way("`ssl=true`", strict.url(ssl="true"), 0),
        Way("a client certificate, its key encrypted", strict.url(CERTIFIED, "", **own), 0),
        Way("a password file (`PGPASSFILE`)", bare, 0, {"PGPASSFILE": str(password_file)}),
        Way("a service file", "service=known", 0, {"PGSERVICEFILE": str(service_file)}),
        Way("an unreachable host and a reachable one",
            strict.url(connect_timeout=5).replace("@127.0.0.1", "@127.0.0.1:1,127.0.0.1"), 0),
        Way("without TLS", strict.url(sslmode="disable"), 2),
        Way("a server's certificate of an unknown authority",
            strict.url(sslmode="verify-full", sslrootcert=other.certificate), 2),
        Way("a server's certificate for another name",
            strict.url(sslmode="verify-full", sslrootcert=root, hostaddr="127.0.0.1")
            .replace("@127.0.0.1", "@db.example"), 2),
        Way("no file of authorities", strict.url(sslmode="verify-full", sslrootcert="/absent.pem"), 2),
        Way("no client certificate", strict.url(CERTIFIED, sslmode="require"), 2),
        Way("a client certificate of an unknown authority",
            strict.url(CERTIFIED, sslmode="require", sslcert=stranger.certificate, sslkey=stranger.key), 2),
        Way("a wrong password of the client's key",
            strict.url(CERTIFIED, "", **certified, sslpassword="not-the-one"), 2),
        Way("a service that is not in the file", "service=absent", 2, {"PGSERVICEFILE": str(service_file)}),
        Way("a line of the service file without =", "service=broken", 2, {"PGSERVICEFILE": str(service_file)}),
        Way("fewer ports than hosts", f"host=a,b,c port=1,2 user={OWNER} dbname=strict", 2),
        Way("`target_session_attrs` that no host has", strict.url(target_session_attrs="standby"), 3),
        Way("`options` with an unescaped `=`", strict.url(options="-c%20nonsense=1"), 2),
        Way("`require_auth=md5`", strict.url(require_auth="md5"), 2),
        Way("a password that has expired", strict.url(), 2, {}, (f"{alter} valid until '2000-01-01'",), back),
        Way("a role without LOGIN", strict.url(), 2, {}, (f"{alter} nologin",), back),
        Way("the role's connection limit", strict.url(), 3, {}, (f"{alter} connection limit 0",), back),
        Way("the database's connection limit", strict.url(), 3, {},
            (f"{database} connection limit 0",), (f"{database} connection limit -1",)),
        Way("a database closed for a while", strict.url(), 3, {},
            (f"{database} allow_connections false",), (f"{database} allow_connections true",)),
        Way("a database whose removal was interrupted", strict.url(), 2, {},
            ("update pg_database set datconnlimit = -2 where datname = 'strict'",),
            ("update pg_database set datconnlimit = -1 where datname = 'strict'",)),
        Way("`statement_timeout` of the role", strict.url(), 2, {}, (f"{alter} set statement_timeout = 1",),
            (f"{alter} reset statement_timeout",)),
        Way("`default_transaction_read_only` of the role", strict.url(), 2, {},
            (f"{alter} set default_transaction_read_only = on",), (f"{alter} reset default_transaction_read_only",)),
        Way("another language, wrong password", strict.url(password="not-the-one", sslmode="require"), 3, {},
            ("alter system set lc_messages = 'C.UTF-8'", "select pg_reload_conf()", "select pg_sleep(0.5)"),
            ("alter system set lc_messages = 'C'", "select pg_reload_conf()", "select pg_sleep(0.5)")),
    ]  # fmt: skip


def test_every_way_to_the_server(strict: Strict, tmp_path: Path) -> None:
    told: list[tuple[Way, Ended]] = []
    assert enter("db", "upgrade", cwd=tmp_path, env={"GNOMON_DATABASE_URL": strict.url()}).status == 0
    (tmp_path / "labels.csv").write_text("request_id,observed_at,label\nr1,2026-01-01T00:00:00Z,late\n")
    for way in ways(strict, tmp_path):
        env = {"GNOMON_DATABASE_URL": way.url, "GNOMON_STREAM": "s", "HOME": str(tmp_path), **way.env}
        strict.execute(*way.before)
        try:
            ended = enter("labels", "load", "labels.csv", cwd=tmp_path, env=env)
        finally:
            strict.execute(*way.after)
        told.append((way, ended))
        written = ended.stdout + ended.stderr
        for secret in (PASSWORD, KEY_PASSWORD, "not-the-one"):
            assert secret not in written, (way.title, written)
        assert "Traceback" not in written
    wrong = [f"{way.title}: {ended.status} {ended.line}" for way, ended in told if way.status != ended.status]
    assert wrong == [], "\n".join(wrong)
    page = written_page(strict, tmp_path, told)
    if os.environ.get("GNOMON_WRITE_DOCS"):
        PAGE.write_text(page)
    assert page == PAGE.read_text(), "write it anew: GNOMON_WRITE_DOCS=1 pytest " + __file__


def written_page(strict: Strict, folder: Path, told: list[tuple[Way, Ended]]) -> str:
    """Return the page."""
    lines = [
        "# Errors of connections to PostgreSQL",
        "",
        f"Written by `{Path(__file__).relative_to(ROOT)}`,",
        "which runs `gnomon labels load` on a server that requires TLS.",
        "Status 0: it works; 2: you must change something; 3: the server accepts no connections now.",
        "",
        "| way | status | error |",
        "|---|---|---|",
    ]
    for way, ended in told:
        line = ended.line.replace(str(folder), "…").replace(str(strict.authority.folder), "…")
        line = re.sub(rf"\b{strict.port}\b", "PORT", line)
        # PostgreSQL calls a time limit that passes just between two statements a user's request.
        line = line.replace("canceling statement due to user request", "canceling statement due to statement timeout")
        # One key in 256 decrypts to valid padding with a wrong password; then OpenSSL refuses what it decrypted.
        line = line.replace('.key": unsupported', '.key": bad decrypt')
        lines.append(f"| {way.title} | {ended.status} | {line.replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"
