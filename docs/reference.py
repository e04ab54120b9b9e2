"""Writes the generated pages of docs/ (`PAGES`, below) from the code that they describe: `make reference`.

A test compares pages and code.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from gnomon_consumer.cli import gnomon
from gnomon_consumer.runtime.metrics import JoinerMetrics, LabelMetrics, ScorerMetrics
from gnomon_consumer.sections import Section
from gnomon_consumer.settings import ENV_PREFIX, Settings
from gnomon_consumer.verdict.rules.codes import MEANINGS
from gnomon_migrations.views import scripts

HERE = Path(__file__).parent
_FUNCTION = re.compile(r"create function report_v1\.(\w+)\([^$]*?returns table\s*\(([^)]*)\)")
_COMMENT = re.compile(r"comment on column report_v1\.pairs\.(\w+) is '((?:[^']|'')*)';")
# Not a report: described with report_v1.pairs, or with the verdict.
_INNER = {"pair_features"}


def commands(
    command: click.Command, path: str, parent: click.Context | None = None
) -> Iterator[tuple[str, click.Context]]:
    """Yield every command without subcommands, with its full name, in the order of the help."""
    context = click.Context(command, info_name=path.rsplit(" ", 1)[-1], parent=parent)
    if isinstance(command, click.Group):
        if command.invoke_without_command:
            yield path, context
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from commands(child, f"{path} {name}", context)
    else:
        yield path, context


def cli_page() -> str:
    """Return docs/cli.md."""
    parts = ["# Commands\n\nWritten by `make reference` from the commands' own help; do not edit.\n"]
    for path, context in commands(gnomon, "gnomon"):
        command = context.command
        usage = " ".join([path, *command.collect_usage_pieces(context)])
        parts.append(f"\n## `{path}`\n\n{_paragraphs(command.help or '').strip()}\n\n```\n{usage}\n```\n")
        rows = [row for parameter in command.params if (row := parameter.get_help_record(context))]
        # Click names a command's help option after the first caller's context; here it has the name that users see.
        rows.append((", ".join(context.help_option_names), "Show this message and exit."))
        parts.append("\n| option | meaning |\n|---|---|\n")
        parts += [f"| `{_cell(names)}` | {_cell(' '.join(meaning.split()))} |\n" for names, meaning in rows if meaning]
    return "".join(parts)


def configuration_page() -> str:
    """Return docs/configuration.md."""
    introduction = (
        "# Configuration\n\nWritten by `make reference` from the settings themselves; do not edit.\n\n"
        "A flag wins over the environment, the environment over `gnomon.toml` (or the file of `--config`), the file"
        " over the default. The hook, which needs none of this, is configured in code or by its own variables: see"
        " [hook.md](hook.md).\n"
    )
    parts = [introduction]
    top = [name for name, field in Settings.model_fields.items() if not _is_section(field.annotation)]
    parts.append(_table("Top level", Settings, "", ENV_PREFIX, top))
    parts += _sections(Settings, "")
    return "".join(parts)


def _sections(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        section = field.annotation
        if not (isinstance(section, type) and issubclass(section, Section)):
            continue
        path = f"{prefix}{name}"
        own = [key for key, inner in section.model_fields.items() if not _is_section(inner.annotation)]
        yield _table(f"`[{path}]`", section, f"{path}.", f"{ENV_PREFIX}{path.upper().replace('.', '__')}__", own)
        yield from _sections(section, f"{path}.")


def metrics_page() -> str:
    """Return docs/metrics.md."""
    introduction = (
        "# Metrics and health checks\n\nWritten by `make reference` from the metrics themselves; do not edit.\n\n"
        "`--metrics HOST:PORT` makes a long-running command serve three pages (port 0: a free port, named in the log):"
        " `/metrics` for Prometheus; `/healthz`, 200 while its loop runs (503 after a minute without a step);"
        " `/readyz`, 200 while it has partitions and reaches its dependencies, including the database.\n"
    )
    parts = [introduction]
    for command, metric_set in (
        ("gnomon score", ScorerMetrics("", "")),
        ("gnomon join", JoinerMetrics("", "")),
        ("gnomon labels consume", LabelMetrics("")),
    ):
        parts.append(f"\n## `{command}`\n\n| metric | kind | labels | meaning |\n|---|---|---|---|\n")
        for name, kind, labels, meaning in metric_set.described():
            parts.append(f"| `{name}` | {kind} | {', '.join(labels)} | {_cell(meaning)} |\n")
    return "".join(parts)


def decisions_page() -> str:
    """Return docs/adr/README.md; a record begins with `# NNNN. Title` and says `State: …`."""
    introduction = (
        "# Decisions\n\nWritten by `make reference` from the records themselves; do not edit.\n\n"
        "A record states the decision, the alternatives and the costs. Its decision does not change afterwards;"
        " a later record may replace it, and its state then names that record. States: *accepted*,"
        " *replaced by NNNN*, *replaced in part by NNNN*.\n\n"
        "The first three digits of a number are the part of Gnomon: 001x joiner, ledger and database; 002x the"
        " hook; 003x the scorer; 004x reports and statistics; 005x the house: layout, words, tooling; 006x the"
        " sandbox.\n\n"
        "| number | decision | state |\n|---|---|---|\n"
    )
    parts = [introduction]
    for record in sorted((HERE / "adr").glob("[0-9]*.md")):
        lines = record.read_text(encoding="utf-8").splitlines()
        number, title = lines[0].removeprefix("# ").split(". ", 1)
        state = next(line.removeprefix("State: ") for line in lines if line.startswith("State: "))
        parts.append(f"| [{number}]({record.name}) | {title} | {state} |\n")
    return "".join(parts)


def report_columns() -> dict[str, list[tuple[str, str]]]:
    """Return, for each report function of report_v1, its columns with their meaning, in the order of the file.

    Raises KeyError for a column without a description.
    """
    described = tomllib.loads((HERE / "report_columns.toml").read_text(encoding="utf-8"))
    common = described.pop("all")
    found: dict[str, list[tuple[str, str]]] = {}
    for _, text in scripts("report_v1"):
        for name, columns in _FUNCTION.findall(text):
            if name not in _INNER:
                names = [column.split()[0].strip('"') for column in columns.split(",")]
                own = described.get(name, {})
                found[name] = [(column, own[column] if column in own else common[column]) for column in names]
    return found


def report_columns_page() -> str:
    """Return docs/report-columns.md."""
    introduction = (
        "# Columns of the reports\n\nWritten by `make reference` from the functions of `report_v1`, the comments in the"
        " database and docs/report_columns.toml; do not edit.\n\nJSON, CSV and SQL have these columns; a terminal shows"
        " some of them. Shares are between 0 and 1, times have a zone.\n\n## `report_v1.pairs`\n\n"
        "One row per pair. The comments are in the database too: `\\d+ report_v1.pairs` in psql. Features by name:"
        " `select * from report_v1.pair_features('STREAM')`.\n\n| column | meaning |\n|---|---|\n"
    )
    parts = [introduction]
    comments = dict(scripts("report_v1"))["012_pair_columns.sql"]
    parts += [
        f"| `{name}` | {_cell(text.replace(chr(39) * 2, chr(39)))} |\n" for name, text in _COMMENT.findall(comments)
    ]
    for name, columns in report_columns().items():
        parts.append(f"\n## `{name}`\n\n| column | meaning |\n|---|---|\n")
        parts += [f"| `{column}` | {_cell(meaning)} |\n" for column, meaning in columns]
    return "".join(parts)


def verdict_codes_page() -> str:
    """Return docs/verdict-codes.md."""
    introduction = (
        "# Codes of a verdict's reasons\n\nWritten by `make reference` from the codes themselves; do not edit.\n\n"
        "Every reason of a [verdict](verdict.md) has one of these codes, and the numbers that it is about.\n\n"
        "| code | meaning |\n|---|---|\n"
    )
    return introduction + "".join(f"| `{code}` | {_cell(meaning)} |\n" for code, meaning in MEANINGS.items())


def _is_section(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _table(title: str, model: type, prefix: str, environment: str, names: list[str]) -> str:
    lines = [f"\n## {title}\n\n| key | environment | meaning |\n|---|---|---|\n"]
    for name in names:
        field = model.model_fields[name]  # type: ignore[attr-defined]  # both kinds of model have it
        default = field.default
        shown = (
            ""
            if default is PydanticUndefined or default in (None, ()) or "efault" in (field.description or "")
            else (f" Default `{default}`.")
        )
        lines.append(
            f"| `{prefix}{name}` | `{environment}{name.upper()}` | {_cell(field.description or '')}{shown} |\n"
        )
    return "".join(lines)


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.replace("\b", "").split("\n\n"))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


PAGES = {
    "cli.md": cli_page,
    "configuration.md": configuration_page,
    "metrics.md": metrics_page,
    "adr/README.md": decisions_page,
    "report-columns.md": report_columns_page,
    "verdict-codes.md": verdict_codes_page,
}

if __name__ == "__main__":
    for file, page in PAGES.items():
        (HERE / file).write_text(page(), encoding="utf-8")
