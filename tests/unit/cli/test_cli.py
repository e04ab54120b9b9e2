"""The shipped command: statuses and one-line errors, never a traceback."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import rich_click as click

import gnomon_producer
from gnomon_consumer import cli
from gnomon_consumer.cli.options import setting_option, settings_options
from gnomon_consumer.runtime.json_text import json_text
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import DependencyUnreachableError


@click.command()
@settings_options(stream=True)
@setting_option("--workers", "score.workers")
def probe(settings: Settings) -> None:
    """Show what a command is given."""
    click.echo(f"{settings.stream} {settings.score.workers} {sorted(settings.kafka.properties.items())}")


@click.command()
def broken() -> None:
    """Fail as a service does."""
    raise DependencyUnreachableError("no broker\nanswers")


@pytest.fixture(autouse=True)
def _commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "probe_commands", sys.modules[__name__])
    monkeypatch.setattr(cli, "COMMANDS", {"probe": "probe_commands:probe", "broken": "probe_commands:broken"})


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as done:
        cli.main(list(arguments))
    assert isinstance(done.value.code, int)
    return done.value.code


def test_flags_become_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("probe", "--stream", "s", "--workers", "3", "-X", "a.b=c=d", "-X", "e=") == 0
    assert capsys.readouterr().out == "s 3 [('a.b', 'c=d'), ('e', '')]\n"


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (("probe", "--workers", "many"), 2, "GNOMON_SCORE__WORKERS (file key score.workers): 'many'"),
        (("probe", "-X", "novalue"), 2, "-X number 1 is not KEY=VALUE"),
        (("probe", "--nonsense"), 2, "--nonsense"),
        (("nonsense",), 2, "nonsense"),
        (("broken",), 3, "no broker answers"),
    ],
)
def test_errors_are_one_line(
    arguments: tuple[str, ...], status: int, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert expected in captured.err


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    out = capsys.readouterr().out
    assert "probe" in out
    assert "Show what a command is given" in out
    assert run("probe", "--help") == 0
    assert "Worker processes" in capsys.readouterr().out


def test_every_command_of_the_table_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    context = click.Context(cli.gnomon)
    for name in cli.COMMANDS:
        command = cli.gnomon.get_command(context, name)
        assert command is not None
        assert command.help, name


def test_the_installed_command_has_a_version() -> None:
    done = subprocess.run([sys.executable, "-m", "gnomon_consumer", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"gnomon, version {gnomon_producer.__version__}\n")
    named = [line.split()[:-1] for line in done.stdout.splitlines()[1:]]
    assert [words[0] for words in named] == [
        "Python",
        "librdkafka",
        "fastavro",
        "PyArrow",
        "ONNX",
        "libpq",
        "PostgreSQL",
    ]


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Return every command below one, by its words."""
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        yield from leaves(below, (*path, name))


def test_every_command_that_prints_json_prints_it_for_people_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    flags = {name: {flag for one in command.params for flag in one.opts} for name, command in leaves(cli.gnomon)}
    with_json = {name for name, found in flags.items() if "--json" in found}
    assert len(with_json) > 10
    assert {name for name in with_json if "--pretty" not in flags[name]} == set()


def test_pretty_asks_for_json_with_one_value_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()
    record = tmp_path / "features.avsc"
    record.write_text('{"type": "record", "name": "f", "fields": [{"name": "amount", "type": "double"}]}')
    for flags in (("--json",), ("--json", "--pretty"), ("--pretty",)):
        assert run("schemas", "check", str(record), str(record), *flags) == 0
        out = capsys.readouterr().out
        assert json.loads(out)["backward"] is True
        assert (out.count("\n") > 3) == ("--pretty" in flags)


def test_json_has_no_number_that_a_parser_refuses() -> None:
    found = json_text({"mean": float("nan"), "high": [float("inf"), 1.5], "day": datetime(2026, 1, 2, tzinfo=UTC)})
    assert found == '{"mean": null, "high": [null, 1.5], "day": "2026-01-02T00:00:00+00:00"}'


@pytest.mark.parametrize(
    ("arguments", "number"),
    [
        (["prob?"], 1),
        (["probe", "--stream", "canary7?"], 3),
        (["probe", "--stream=canary7?"], 2),
        (["probe", "-X", "sasl.password=canary7?"], 3),
        (["probe", "-Xsasl.password=canary7?"], 2),
        (["probe", "-X", "--canary7", "a?"], 4),
    ],
)
def test_an_argument_that_is_not_text_is_counted_and_not_shown(
    arguments: list[str], number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for character, fault in (
        ("\udce4", "is not UTF-8 text; names of files must be UTF-8, too"),
        ("\0", "has a NUL character"),
    ):
        assert run(*(argument.replace("?", character) for argument in arguments)) == 2
        assert capsys.readouterr().err == f"gnomon: argument {number} {fault}\n"
