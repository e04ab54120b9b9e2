"""`gnomon tail`: show the current state of a stream."""

import itertools
import json
import time
from contextlib import suppress
from typing import Any

import psycopg
import rich_click as click
from psycopg.rows import dict_row
from rich.console import Console
from rich.live import Live

from gnomon_consumer.cli.options import settings_options
from gnomon_consumer.database.queries import queries_of
from gnomon_consumer.reports.query import open_reports
from gnomon_consumer.reports.tail import Look, line, rates, table
from gnomon_consumer.settings import Settings


@click.command()
@click.option("--deployment", metavar="NAME", help="Only this one; default: every deployment.")
@click.option(
    "--every", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True, help="Seconds between two updates."
)
@click.option(
    "--seconds", type=click.FloatRange(1, 86_400), default=60.0, show_default=True,
    help="Agreement and errors cover this many seconds.",
)  # fmt: skip
@click.option("--count", type=click.IntRange(1), default=None, help="Number of updates; default: until Ctrl-C.")
@settings_options(stream=True, database=True, kafka=False)
def tail(settings: Settings, deployment: str | None, every: float, seconds: float, count: int | None) -> None:
    """Show rate, lag, sampling fraction, agreement and errors of each deployment, updated continuously.

    A terminal shows a table that is updated; other outputs get one JSON object per deployment and update.
    """
    stream = settings.require_stream()
    console = Console()
    with open_reports(settings.require_database_url()) as connection, suppress(KeyboardInterrupt):
        before: Look | None = None
        drawn = Live(console=console, auto_refresh=False) if console.is_terminal else None
        if drawn:
            drawn.start()
        try:
            for number in itertools.count(1):
                now = _look(connection, stream, deployment, seconds)
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


def _look(connection: psycopg.Connection[Any], stream: str, deployment: str | None, seconds: float) -> Look:
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(queries_of("gnomon_consumer.reports")["tail"], [stream, deployment, seconds])
        return Look(time.monotonic(), cursor.fetchall())
