"""Writes docs/cli.md, configuration.md and metrics.md from what they describe: `make reference`.

A test compares, so the pages cannot lie.
"""

from collections.abc import Iterator
from pathlib import Path

import click
from pydantic_core import PydanticUndefined

from gnomon_consumer.cli import gnomon
from gnomon_consumer.metrics import JoinerMetrics, LabelMetrics, ScorerMetrics
from gnomon_consumer.settings import ENV_PREFIX, Section, Settings

HERE = Path(__file__).parent


def commands(
    command: click.Command, path: str, parent: click.Context | None = None
) -> Iterator[tuple[str, click.Context]]:
    """Yield every command that does something, with its full name, in the order of the help."""
    context = click.Context(command, info_name=path.rsplit(" ", 1)[-1], parent=parent)
    if isinstance(command, click.Group):
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
        parts.append(f"\n## `{path}`\n\n{_paragraphs(command.help or '')}\n\n```\n{usage}\n```\n")
        rows = [row for parameter in command.get_params(context) if (row := parameter.get_help_record(context))]
        if rows:
            parts.append("\n| option | meaning |\n|---|---|\n")
            parts += [f"| `{_cell(names)}` | {_cell(' '.join(meaning.split()))} |\n" for names, meaning in rows]
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
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            parts.append(
                _table(f"`[{name}]`", section, f"{name}.", f"{ENV_PREFIX}{name.upper()}__", list(section.model_fields))
            )
    return "".join(parts)


def metrics_page() -> str:
    """Return docs/metrics.md."""
    introduction = (
        "# Metrics and probes\n\nWritten by `make reference` from the metrics themselves; do not edit.\n\n"
        "`--metrics HOST:PORT` makes a long-running command serve three pages (port 0: a free one, said in the log):"
        " `/metrics` for Prometheus; `/healthz`, 200 while its loop turns (503 after a minute without a turn);"
        " `/readyz`, 200 while it has partitions to work on and what it needs for that, the database included.\n"
    )
    parts = [introduction]
    for command, vocabulary in (
        ("gnomon score", ScorerMetrics("", "")),
        ("gnomon join", JoinerMetrics("", "")),
        ("gnomon labels consume", LabelMetrics("")),
    ):
        parts.append(f"\n## `{command}`\n\n| metric | kind | labels | meaning |\n|---|---|---|---|\n")
        for name, kind, labels, meaning in vocabulary.described():
            parts.append(f"| `{name}` | {kind} | {', '.join(labels)} | {_cell(meaning)} |\n")
    return "".join(parts)


def _is_section(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _table(title: str, model: type, prefix: str, environment: str, names: list[str]) -> str:
    lines = [f"\n## {title}\n\n| key | environment | meaning |\n|---|---|---|\n"]
    for name in names:
        field = model.model_fields[name]  # type: ignore[attr-defined]  # both kinds of model have it
        default = field.default
        shown = (
            ""
            if default is PydanticUndefined or default is None or "efault" in (field.description or "")
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


PAGES = {"cli.md": cli_page, "configuration.md": configuration_page, "metrics.md": metrics_page}

if __name__ == "__main__":
    for file, page in PAGES.items():
        (HERE / file).write_text(page(), encoding="utf-8")
