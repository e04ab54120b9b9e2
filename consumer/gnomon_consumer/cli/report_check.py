"""`gnomon report check`: hold the reports' numbers against bounds."""

import json
from dataclasses import asdict
from datetime import datetime

import rich_click as click
from rich import box
from rich.console import Console
from rich.table import Table

from gnomon_consumer.cli.options import settings_options
from gnomon_consumer.cli.report import Moment
from gnomon_consumer.reports import Question, ask
from gnomon_consumer.reports.bounds import hold, parse
from gnomon_consumer.reports.query import open_reports
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import ConfigurationError


@click.command()
@click.option(
    "--bound",
    "texts",
    multiple=True,
    metavar="BOUND",
    help="Such as 'agreement.low >= 0.9'; repeatable; default: `report.bounds` of the settings.",
)
@click.option("--deployment", metavar="NAME", help="Only this one; default: every deployment.")
@click.option("--since", type=Moment(), help="From this event time on.")
@click.option("--until", type=Moment(), help="Before this event time.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
@settings_options(stream=True, database=True, kafka=False)
@click.pass_context
def check(
    context: click.Context,
    settings: Settings,
    texts: tuple[str, ...],
    deployment: str | None,
    since: datetime | None,
    until: datetime | None,
    as_json: bool,
) -> None:
    """Hold the reports' numbers against bounds; status 1 if one is broken or has no number to go by."""
    bounds = [parse(text) for text in texts or settings.report.bounds]
    if not bounds:
        raise ConfigurationError("no bound given: --bound 'agreement.low >= 0.9', or bounds = […] under [report]")
    stream = settings.require_stream()
    with open_reports(settings.require_database_url()) as connection:
        answers = {}
        for name in dict.fromkeys(bound.report for bound in bounds):
            # The period narrows every report that knows one.
            answers[name] = ask(connection, name, Question(stream, deployment, since, until).fitting(name))
    found = []
    for bound in bounds:
        found += hold(bound, answers[bound.report].columns, answers[bound.report].rows)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in found]))
    else:
        grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for title in ("bound", "deployment", "value", ""):
            grid.add_column(title, justify="right" if title == "value" else "left")
        for finding in found:
            value = "–" if finding.value is None else f"{finding.value:.6g}"
            style = "" if finding.met else "bold red"
            grid.add_row(finding.bound, finding.deployment or "", value, finding.reason, style=style)
        Console().print(grid)
    if not all(finding.met for finding in found):
        context.exit(1)
