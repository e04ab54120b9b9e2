"""Every command that uses PostgreSQL, in every reported situation: a status and a line, never a traceback.

The results are docs/database-errors.md: with GNOMON_WRITE_DOCS=1 the test writes the page, else it compares.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import psycopg
import pytest
import rich_click as click
from sqlalchemy import text
from tests.support.database_commands import ASKED, LEFT_OUT
from tests.support.door import Ended, enter
from tests.support.live_stream import sum_model
from tests.support.servers.process import Gnomon
from tests.support.servers.stock import ESCAPED, NOBODY, OWNER, READER, WRITER, Stock

from gnomon_consumer.cli import COMMANDS
from gnomon_consumer.cli import gnomon as command_line
from gnomon_consumer.database.connections import engine_for
from gnomon_consumer.database.roles import make_roles
from gnomon_migrations import runner
from gnomon_schemas.errors import ConfigurationError

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "database-errors.md"
STREAM = "s"
INSUFFICIENT_DATA = 12  # a verdict's
# The databases have fixed names, so one worker creates them.
pytestmark = pytest.mark.xdist_group("situations")


@dataclass(frozen=True, slots=True)
class Situation:
    """A URL, and how its database got into this state."""

    name: str
    title: str
    url: str


@pytest.fixture(scope="module")
def situations(stock: Stock) -> Iterator[list[Situation]]:
    """Create the databases."""
    with ExitStack() as stack:
        names = ("fine", "behind", "ahead", "before", "pooled")
        urls = {name: stack.enter_context(stock.database(f"situation_{name}")) for name in names}
        for name in ("fine", "ahead", "pooled"):
            runner.upgrade(engine_for(urls[name]))
            with psycopg.connect(urls[name]) as made:
                made.execute("insert into gnomon.streams (name) values (%s)", [STREAM])
                made.execute(
                    "insert into gnomon.feature_columns (stream_id, name, kind, position, avro_type)"
                    " select stream_id, 'distance', 'numeric', 1, 'double' from gnomon.streams"
                )
        with engine_for(urls["behind"]).begin() as connection:
            connection.execute(text("create schema gnomon"))
            runner.migrate(connection, sorted(runner.known())[-2])
        with psycopg.connect(urls["ahead"]) as ahead:
            ahead.execute("update gnomon.alembic_version set version_num = %s", ["9999"])
        stock.wait_for_replica()
        fine = "situation_fine"
        yield [
            Situation("owner", "the tables' owner, everything in place", urls["fine"]),
            Situation("pgbouncer", "the owner through pgbouncer in transaction mode",
                      stock.url("situation_pooled", OWNER, stock.pooler)),
            Situation("writer", "a role with gnomon_writer", stock.url(fine, WRITER)),
            Situation("reader", "a role with gnomon_reader", stock.url(fine, READER)),
            Situation("nobody", "a role without rights", stock.url(fine, NOBODY)),
            Situation("replica", "a hot standby, by the owner", stock.url(fine, OWNER, stock.replica)),
            Situation("before upgrade", "an empty database", urls["before"]),
            Situation("behind", "one migration behind this program", urls["behind"]),
            Situation("ahead", "one migration ahead of this program", urls["ahead"]),
            Situation("no database", "a database that does not exist", stock.url("absent")),
            Situation("no role", "a role that does not exist", stock.url(fine, "absent")),
            Situation("wrong password", "a wrong password", stock.url(fine, OWNER, password="not-the-one")),
            Situation("away", "no server at that port", stock.url(fine, OWNER, 1)),
        ]  # fmt: skip


def database_commands() -> set[str]:
    """Return every command that has --database-url."""
    context, found = click.Context(command_line), set()
    for name in COMMANDS:
        command = command_line.get_command(context, name)
        assert command is not None
        parts = [("", command), *(command.commands.items() if isinstance(command, click.Group) else ())]
        for sub, one in parts:
            if any("--database-url" in parameter.opts for parameter in one.params):
                found.add(f"{name} {sub}".strip())
    return found


def test_every_command_is_asked() -> None:
    named = {name for name in database_commands() if not name.startswith("report ")}
    assert named <= ASKED.keys() | LEFT_OUT.keys(), named - ASKED.keys() - LEFT_OUT.keys()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the files that the commands read."""
    (tmp_path / "labels.csv").write_text("request_id,observed_at,label\nr1,2026-01-01T00:00:00Z,late\n")
    (tmp_path / "training.csv").write_text("request_id,distance\nr1,1.5\n")
    sum_model(tmp_path / "model.onnx", "distance")
    return tmp_path


SERVICES = {"join": "event=joining", "labels consume": 'event="consuming labels"'}


def served(gnomon: Gnomon, name: str, arguments: tuple[str, ...], env: Mapping[str, str]) -> Ended:
    """Return how a service ends that is stopped once it has its database: empty topics never finish a drain."""
    process = gnomon.start(*name.split(), *(argument for argument in arguments if argument != "--drain"), env=env)
    process.wait_for(SERVICES[name], timeout=60)
    return Ended(process.terminate(60), process.stdout, process.output)


def test_every_command_in_every_situation(
    situations: list[Situation], mock_bootstrap: str, folder: Path, gnomon: Gnomon
) -> None:
    outcomes: dict[str, dict[str, Ended]] = {name: {} for name in ASKED}
    for situation in situations:
        for name, given in ASKED.items():
            arguments = tuple(one.format(situation=situation.name) for one in given)
            env = {
                "GNOMON_DATABASE_URL": situation.url,
                "GNOMON_STREAM": STREAM,
                "GNOMON_BOOTSTRAP_SERVERS": mock_bootstrap,
                "GNOMON_LOG__FORMAT": "logfmt",
            }
            if name in SERVICES and situation.name in ("owner", "pgbouncer", "writer"):
                ended = served(gnomon, name, arguments, env)
            else:
                ended = enter(*name.split(), *arguments, cwd=folder, env=env)
            outcomes[name][situation.name] = ended
            said = ended.stdout + ended.stderr
            assert "Traceback" not in said, (situation.name, name, said)
            assert ESCAPED not in said
            assert ended.status in (0, 1, 2, 3, INSUFFICIENT_DATA), (situation.name, name, said)
            if ended.status > 1:
                assert len([line for line in ended.stderr.splitlines() if line.startswith("gnomon: ")]) <= 1, said
    for name, by_situation in outcomes.items():
        # No deployment of this stream has scored anything: there is nothing to replay, decide or roll back.
        empty = {"dlq replay", "promote", "rollback", "verdict --plan", "verdict --as-of"}
        expected = {0, 1} | ({2} if name in empty else set()) | ({INSUFFICIENT_DATA} if "verdict" in name else set())
        assert by_situation["owner"].status in expected, (name, by_situation["owner"])
        assert by_situation["pgbouncer"].status == by_situation["owner"].status, (name, by_situation["pgbouncer"])
        for refused in ("no database", "no role", "wrong password"):
            assert by_situation[refused].status == (1 if name == "doctor" else 2), (name, by_situation[refused])
        assert by_situation["away"].status == 3, (name, by_situation["away"])
    assert (outcomes["db roles"]["writer"].status, outcomes["db roles"]["owner"].status) == (2, 0)
    page = written(situations, outcomes)
    if os.environ.get("GNOMON_WRITE_DOCS"):
        PAGE.write_text(page)
    assert page == PAGE.read_text(), "write it anew: GNOMON_WRITE_DOCS=1 pytest " + __file__


@pytest.mark.parametrize("name", ["reader", "wrong password", "no database"])
def test_a_supervisor_ends_with_what_its_services_cannot_do(
    situations: list[Situation], mock_bootstrap: str, folder: Path, gnomon: Gnomon, name: str
) -> None:
    (situation,) = (one for one in situations if one.name == name)
    model = f"challenger={folder / 'model.onnx'}"
    env = {"GNOMON_DATABASE_URL": situation.url, "GNOMON_STREAM": STREAM, "GNOMON_BOOTSTRAP_SERVERS": mock_bootstrap}
    ended = gnomon.run("run", "--challenger", model, env=env, timeout=120)
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ESCAPED not in ended.stderr


def test_an_owner_who_may_not_create_roles_has_a_script_for_a_dba(stock: Stock, folder: Path) -> None:
    """Roles belong to the whole server, which already has Gnomon's: another name represents a missing role."""
    with stock.database("situation_roles") as url:
        runner.upgrade(engine_for(url))
        stock.execute("create role stock_plain login nocreaterole")
        try:
            stock.execute("alter schema gnomon owner to stock_plain", "situation_roles")
            with psycopg.connect(stock.url("situation_roles", "postgres"), autocommit=True) as connection:
                connection.execute("set role stock_plain")
                with (
                    mock.patch("gnomon_consumer.database.roles.ROLES", ("gnomon_absent",)),
                    pytest.raises(ConfigurationError, match=r"gnomon_absent: it has no CREATEROLE.*db roles --sql"),
                ):
                    make_roles(connection)
            script = enter("db", "roles", "--sql", cwd=folder, env={"GNOMON_DATABASE_URL": url})
            assert script.status == 0
            for _ in range(2):
                stock.execute(script.stdout, "situation_roles")
        finally:
            stock.execute("reassign owned by stock_plain to postgres", "situation_roles")
            stock.execute("drop role stock_plain")


def written(situations: list[Situation], outcomes: Mapping[str, Mapping[str, Ended]]) -> str:
    """Return the page: a table of statuses, and the errors of each situation."""
    lines = [
        "# Errors of each command about PostgreSQL",
        "",
        f"Written by `{Path(__file__).relative_to(ROOT)}`, which runs every command in every situation on Debian's",
        "PostgreSQL. Status 0: done; 1: a check failed; 2: you must change something; 3: the server does not",
        "answer. `gnomon join` and `gnomon labels consume` are run with `--drain` here; without it they wait for a",
        "server that does not answer, also at their start.",
        "",
        "| command | " + " | ".join(one.name for one in situations) + " |",
        "|---|" + "---|" * len(situations),
    ]
    for name, by_situation in outcomes.items():
        lines.append(f"| `gnomon {name}` | " + " | ".join(str(by_situation[s.name].status) for s in situations) + " |")
    for situation in situations:
        told: dict[str, list[str]] = {}
        for name, by_situation in outcomes.items():
            ended = by_situation[situation.name]
            if ended.status > 1 and ended.line:
                told.setdefault(general(ended.line), []).append(name)
        if told:
            lines += ["", f"## {situation.name}", "", f"{situation.title[0].upper()}{situation.title[1:]}.", ""]
            lines += [f"* {', '.join(f'`{name}`' for name in names)}: {line}" for line, names in told.items()]
    return "\n".join(lines) + "\n"


def general(line: str) -> str:
    """Return a line without the parts that differ from run to run."""
    line = re.sub(r"127\.0\.0\.1:\d+", "HOST:PORT", line)
    line = re.sub(r'"127\.0\.0\.1", port \d+', '"HOST", port PORT', line)
    return re.sub(r"\b\d{4}\b", lambda found: "NEWEST" if found[0] == runner.newest() else "OTHER", line)
