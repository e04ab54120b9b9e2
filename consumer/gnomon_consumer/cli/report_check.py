"""`gnomon report check`: compare numbers of the reports with bounds, once or repeatedly."""

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import rich_click as click
from prometheus_client import write_to_textfile
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gnomon_consumer.cli.json_option import echo_json, json_option
from gnomon_consumer.cli.options import setting_option, settings_options
from gnomon_consumer.cli.report_options import pair_options
from gnomon_consumer.database.errors import explain
from gnomon_consumer.reports import Question, ask
from gnomon_consumer.reports.bounds import BROKEN, MET, UNKNOWN, Bound, BoundResult, hold, metrics, parse
from gnomon_consumer.reports.query import open_reports
from gnomon_consumer.runtime.outage import UNREACHABLE
from gnomon_consumer.runtime.signals import stop_on_signals
from gnomon_consumer.runtime.visible import visible
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import ConfigurationError

_COLOURS = {MET: "green", BROKEN: "bold red", UNKNOWN: "yellow"}


@click.command()
@click.option(
    "--bound",
    "texts",
    multiple=True,
    metavar="BOUND",
    help="A bound such as 'agreement.low >= 0.9'; repeatable; default: `report.bounds` of the settings.",
)
@pair_options["deployment"]
@pair_options["since"]
@pair_options["until"]
@setting_option("--last-seconds", "report.last_seconds")
@click.option(
    "--textfile",
    type=click.Path(path_type=Path),
    help="Also write the results as Prometheus metrics to this *.prom file.",
)
@click.option(
    "--every",
    type=click.FloatRange(0.1, 86_400),
    metavar="SECONDS",
    help="Repeat the check until Ctrl-C or SIGTERM, and print changes; default: check once.",
)
@json_option("Print one JSON list.")
@settings_options(stream=True, database=True, kafka=False)
@click.pass_context
def check(
    context: click.Context,
    settings: Settings,
    texts: tuple[str, ...],
    deployment: str | None,
    since: datetime | None,
    until: datetime | None,
    textfile: Path | None,
    every: float | None,
    as_json: bool,
) -> None:
    """Compare numbers of the reports with bounds; status 1 unless every bound is met.

    A bound is not met when it is broken, and also when there is too little data for it. With --every the status is 0.
    """
    bounds = [parse(text) for text in texts or settings.report.bounds]
    if not bounds:
        raise ConfigurationError("no bound given: --bound 'agreement.low >= 0.9', or bounds = […] under [report]")
    stream, url = settings.require_stream(), settings.require_database_url()

    def look() -> list[BoundResult]:
        now, begin = datetime.now(UTC), since
        if begin is None and settings.report.last_seconds is not None:
            begin = (until or now) - timedelta(seconds=settings.report.last_seconds)
        found = _findings(url, Question(stream, deployment, since=begin, until=until), bounds)
        if textfile is not None:
            try:
                write_to_textfile(str(textfile), metrics(stream, found, now.timestamp()))
            except OSError as error:
                raise ConfigurationError(f"--textfile {textfile}: {error.strerror}") from error
        return found

    show = _as_json if as_json else _show
    if every is not None:
        _watch(look, every, show)
        return
    found = look()
    show(found)
    if any(finding.state != MET for finding in found):
        context.exit(1)


def _watch(look: Callable[[], list[BoundResult]], every: float, show: Callable[[list[BoundResult]], None]) -> None:
    """Check until a signal comes; wait while the database is unreachable, and leave the textfile as it is meanwhile."""
    before: list[tuple[str, str | None, str]] | str = []
    with stop_on_signals() as stop:
        while not stop.is_set():
            now: list[tuple[str, str | None, str]] | str
            try:
                found = look()
                now = [(finding.bound, finding.deployment, finding.state) for finding in found]
                if now != before:
                    show(found)
            except UNREACHABLE as error:
                now = " ".join(str(explain(error) or error).split())
                if now != before:
                    click.echo(f"gnomon: {now}", err=True)
            before = now
            stop.wait(every)


def _findings(url: str, question: Question, bounds: list[Bound]) -> list[BoundResult]:
    """Return the result of every bound. Each report runs once; a report without a period covers all data."""
    with open_reports(url) as connection:
        answers = {
            name: ask(connection, name, question.fitting(name))
            for name in dict.fromkeys(bound.report for bound in bounds)
        }
    return [
        finding
        for bound in bounds
        for finding in hold(bound, answers[bound.report].columns, answers[bound.report].rows)
    ]


def _as_json(found: list[BoundResult]) -> None:
    echo_json([asdict(finding) for finding in found])


def _show(found: list[BoundResult]) -> None:
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("bound", "deployment", "value", "", ""):
        grid.add_column(title, justify="right" if title == "value" else "left", overflow="fold")
    for finding in found:
        value = "–" if finding.value is None else f"{finding.value:.6g}"
        state = Text(finding.state, _COLOURS[finding.state])
        grid.add_row(
            Text(finding.bound), Text(visible(finding.deployment or "")), value, state, Text(visible(finding.reason))
        )
    Console().print(grid)
