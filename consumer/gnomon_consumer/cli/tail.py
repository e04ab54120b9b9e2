"""`gnomon tail`: a stream, live."""

import itertools
import json
import time
from contextlib import suppress

import psycopg
import rich_click as click
from psycopg.rows import dict_row
from rich.console import Console
from rich.live import Live

from gnomon_consumer.cli.options import settings_options
from gnomon_consumer.database import unreachable
from gnomon_consumer.reports.query import open_reports
from gnomon_consumer.reports.tail import Look, line, rates, table
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import GnomonError


@click.command()
@click.option("--deployment", metavar="NAME", help="Only this one; default: every deployment.")
@click.option(
    "--every", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True, help="Seconds between looks."
)
@click.option(
    "--seconds", type=click.FloatRange(1, 86_400), default=60.0, show_default=True,
    help="How far back agreement and errors look.",
)  # fmt: skip
@click.option("--count", type=click.IntRange(1), default=None, help="Looks before it ends; default: until Ctrl-C.")
@settings_options(stream=True, database=True, kafka=False)
def tail(settings: Settings, deployment: str | None, every: float, seconds: float, count: int | None) -> None:
    """A stream, live: rate, lag, sampling fraction, agreement and errors of each deployment.

    On a terminal a table that is drawn anew; elsewhere one JSON object a deployment and look.
    """
    stream, url = settings.require_stream(), settings.require_database_url()
    console = Console()
    with open_reports(url) as connection, suppress(KeyboardInterrupt):
        before: Look | None = None
        drawn = Live(console=console, auto_refresh=False) if console.is_terminal else None
        if drawn:
            drawn.start()
        try:
            for number in itertools.count(1):
                now = _look(connection, url, stream, deployment, seconds)
                if drawn:
                    drawn.update(table(before, now), refresh=True)
                else:
                    speed = rates(before, now)
                    for row in now.rows:
                        click.echo(json.dumps(line(row, speed.get(row["deployment"]))))
                if number == count:
                    return
                before = now
                time.sleep(every)
        finally:
            if drawn:
                drawn.stop()


def _look(
    connection: psycopg.Connection[tuple[object, ...]], url: str, stream: str, deployment: str | None, seconds: float
) -> Look:
    try:
        with connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute("select * from report_v1.tail(%s, %s, %s)", [stream, deployment, seconds])
            return Look(time.monotonic(), cursor.fetchall())
    except (psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName) as error:
        raise GnomonError("the database has no live view: run `gnomon db upgrade`") from error
    except psycopg.OperationalError as error:
        raise unreachable(url, error) from error
