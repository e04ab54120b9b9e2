"""`gnomon reference`: the frozen past that drift is measured against."""

from contextlib import closing
from datetime import datetime
from pathlib import Path

import rich_click as click
from psycopg.errors import UndefinedTable
from rich import box
from rich.console import Console
from rich.table import Table

from gnomon_consumer.cli.options import settings_options
from gnomon_consumer.cli.report import Moment
from gnomon_consumer.database import connect
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import ConfigurationError, GnomonError


@click.group()
def reference() -> None:
    """Frozen profiles of features and answers that `report drift` compares with."""


@reference.command()
@click.argument("source")
@click.option("--name", default="training", show_default=True, help="Name of the reference; a name is given once.")
@settings_options(stream=True, database=True, kafka=False)
def build(settings: Settings, source: str, name: str) -> None:
    """Freeze SOURCE: a CSV, Parquet or JSON-lines file of training data, or a past period.

    A file has one column a feature, by the feature's name. A period is written SINCE..UNTIL (2013-04-01..2013-05-01,
    UTC unless it says otherwise); it freezes the answers of both models too.
    """
    from gnomon_consumer.reports import reference as references  # pyarrow is slow to load
    from gnomon_consumer.reports.files import read_table

    stream = settings.require_stream()
    with closing(connect(settings.require_database_url(), "gnomon reference")) as connection:
        connection.autocommit = True
        try:
            if (period := period_of(source)) is not None:
                made = references.from_period(connection, stream, *period)
            else:
                kinds = references.feature_kinds(connection, stream)
                table = read_table(Path(source), [name for name, kind in kinds.items() if kind == "text"])
                made = references.from_table(table, kinds, source)
            count = references.store(connection, stream, name, source, made)
        except UndefinedTable as error:
            raise GnomonError("the database knows no references: run `gnomon db upgrade`") from error
    click.echo(f"reference {name} of {stream}: {count} profiles frozen")


@reference.command("list")
@settings_options(stream=True, database=True, kafka=False)
def list_(settings: Settings) -> None:
    """The references of a stream, the newest first: that is the one drift takes."""
    with closing(connect(settings.require_database_url(), "gnomon reference")) as connection:
        rows = connection.execute(
            "select name, source, count(*), max(n), max(built_at) from report_v1.reference_profiles"
            " where stream = %s group by 1, 2 order by 5 desc",
            [settings.require_stream()],
        ).fetchall()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("name", "source", "profiles", "rows", "built at"):
        table.add_column(title)
    for row in rows:
        table.add_row(row[0], row[1], str(row[2]), f"{row[3]:,}", row[4].strftime("%Y-%m-%d %H:%M"))
    Console().print(table)


def period_of(source: str) -> tuple[datetime, datetime] | None:
    """The period that `SINCE..UNTIL` means, None for the name of a file. Raises ConfigurationError for an empty one."""
    since, dots, until = source.partition("..")
    if not dots or Path(source).exists():
        return None
    kind = Moment()
    first, last = (kind.convert(text, None, None) for text in (since, until))
    if first >= last:
        raise ConfigurationError(f"period {source}: it ends before it begins")
    return first, last
