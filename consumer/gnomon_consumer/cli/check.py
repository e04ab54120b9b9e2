"""`gnomon check`: do predictions and reports stay within their bounds?"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import rich_click as click
from prometheus_client import write_to_textfile
from psycopg.rows import dict_row
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gnomon_consumer.cli.options import settings_options
from gnomon_consumer.cli.report import Moment
from gnomon_consumer.reports.checks import Result, hold, metrics, read_bounds
from gnomon_consumer.reports.query import open_reports
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import ConfigurationError, GnomonError

_STATES = {True: ("holds", "green"), False: ("BROKEN", "red"), None: ("unknown", "yellow")}


@click.command()
@click.argument("bounds", type=click.Path(path_type=Path))
@click.option("--until", type=Moment(), help="End of the window, event time; default: now.")
@click.option("--textfile", type=click.Path(path_type=Path), help="Also write Prometheus metrics to this *.prom file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
@settings_options(stream=True, database=True, kafka=False)
@click.pass_context
def check(
    context: click.Context,
    settings: Settings,
    bounds: Path,
    until: datetime | None,
    textfile: Path | None,
    as_json: bool,
) -> None:
    """Hold the numbers of the last while against BOUNDS, a TOML file of `[[check]]` tables.

    Status 1 if a bound is broken or too little is known to say.
    """
    wanted, stream = read_bounds(bounds), settings.require_stream()
    end = until or datetime.now(UTC)
    with open_reports(settings.require_database_url()) as connection:
        try:
            with connection.cursor(row_factory=dict_row) as cursor:
                since = end - timedelta(seconds=wanted.window_seconds)
                cursor.execute("select * from report_v1.signs(%s, null, %s, %s)", [stream, since, end])
                signs = cursor.fetchall()
        except (psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName) as error:
            raise GnomonError("the database knows no signs: run `gnomon db upgrade`") from error
    results = hold(wanted.check, signs)
    if textfile is not None:
        try:
            write_to_textfile(str(textfile), metrics(stream, signs, results, datetime.now(UTC).timestamp()))
        except OSError as error:
            raise ConfigurationError(f"--textfile {textfile}: {error.strerror}") from error
    if as_json:
        click.echo(json.dumps([_plain(result) for result in results]))
    else:
        _show(results)
    if any(result.holds is not True for result in results):
        context.exit(1)


def _plain(result: Result) -> dict[str, object]:
    return {
        "check": result.bound.name, "number": result.bound.number, "part": result.bound.part,
        "deployment": result.deployment, "value": result.value, "n": result.n, "holds": result.holds,
        "remark": result.remark,
    }  # fmt: skip


def _show(results: list[Result]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("check", "deployment", "value", "state", ""):
        table.add_column(title, justify="right" if title == "value" else "left", overflow="fold")
    for result in results:
        value = "–" if result.value is None else f"{result.value:.5g}"
        word, colour = _STATES[result.holds]
        table.add_row(result.bound.name, result.deployment, value, Text(word, colour), result.remark)
    Console().print(table)
