"""`gnomon report`: one command a report, the same options for all."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import rich_click as click
from rich.console import Console

from gnomon_consumer.cli.options import settings_options
from gnomon_consumer.reports import REPORTS, Answer, Question, Report, ask
from gnomon_consumer.reports.hints import hint
from gnomon_consumer.reports.query import open_reports
from gnomon_consumer.reports.terminal import as_csv, as_json, table
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import ConfigurationError


class Moment(click.ParamType[datetime]):
    """A time in ISO 8601; without a zone it is UTC."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The text as a datetime with a zone."""
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"'{value}' is no time; write 2013-04-01 or 2013-04-01T06:00:00+02:00", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def segment_of(pairs: tuple[str, ...]) -> dict[str, str] | None:
    """`("origin=JFK",)` as a mapping; None for nothing. Raises ConfigurationError."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ConfigurationError(f"--segment {pair}: not key=value")
        found[key] = value
    return found or None


def show(answer: Answer, output: str) -> None:
    """Print an answer as the option --format says."""
    if output == "json":
        click.echo(as_json(answer))
    elif output == "csv":
        click.echo(as_csv(answer), nl=False)
    else:
        Console().print(table(answer))


format_option: Callable[[Any], Any] = click.option(
    "--format",
    "output",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="How to print the rows.",
)
pair_options: dict[str, Callable[[Any], Any]] = {
    "deployment": click.option("--deployment", metavar="NAME", help="Only this one; default: every deployment."),
    "since": click.option("--since", type=Moment(), help="From this event time on."),
    "until": click.option("--until", type=Moment(), help="Before this event time."),
    "segment": click.option("--segment", multiple=True, metavar="KEY=VALUE", help="Only this segment; repeatable."),
    "time_zone": click.option("--time-zone", default="UTC", show_default=True, help="Whose hours and days are meant."),
}


@click.group()
def report() -> None:
    """What the pairs in the database say."""


def _command(kind: Report) -> click.Command:
    def run(
        settings: Settings,
        deployment: str | None,
        output: str,
        since: datetime | None = None,
        until: datetime | None = None,
        segment: tuple[str, ...] = (),
        time_zone: str = "UTC",
        **extra: str | None,
    ) -> None:
        question = Question(settings.require_stream(), deployment, since, until, segment_of(segment), time_zone, extra)
        with open_reports(settings.require_database_url()) as connection:
            answer = ask(connection, kind.name, question)
            if remark := hint(connection, question, list(answer.rows)):
                click.echo(remark, err=True)
        show(answer, output)

    run.__doc__ = f"{kind.summary}.\n\n{kind.note}"
    command: Any = settings_options(stream=True, database=True, kafka=False)(run)
    command = format_option(command)
    for name in reversed(kind.arguments):
        option = pair_options.get(name) or click.option(f"--{name.replace('_', '-')}", help=kind.extra[name])
        command = option(command)
    command = pair_options["deployment"](command)
    made: click.Command = click.command(kind.name.replace("_", "-"))(command)
    return made


for _report in REPORTS.values():
    report.add_command(_command(_report))


# They use the options above, hence the late import.
from gnomon_consumer.cli.report_check import check  # noqa: E402
from gnomon_consumer.cli.report_html import html  # noqa: E402
from gnomon_consumer.cli.report_skew import skew  # noqa: E402

report.add_command(skew)
report.add_command(html)
report.add_command(check)
