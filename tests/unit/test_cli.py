"""The shipped command: statuses and one-line errors, never a traceback."""

import subprocess
import sys
from pathlib import Path

import pytest
import rich_click as click

import gnomon_producer
from gnomon_consumer import cli
from gnomon_consumer.cli.options import setting_option, settings_options
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
