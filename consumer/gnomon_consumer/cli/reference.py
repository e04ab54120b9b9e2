"""`gnomon reference`: build and list the references that drift is measured against."""

from contextlib import closing
from datetime import datetime
from pathlib import Path

import rich_click as click
from rich import box
from rich.console import Console
from rich.table import Table

from gnomon_consumer.cli.json_option import echo_json, json_option
from gnomon_consumer.cli.options import settings_options
from gnomon_consumer.cli.report_options import Moment
from gnomon_consumer.database.connections import Access, connect
from gnomon_consumer.database.queries import queries_of
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import ConfigurationError


@click.group()
def reference() -> None:
    """Build and list references: frozen profiles of features and answers for `report drift`."""


@reference.command()
@click.argument("source")
@click.option("--name", default="training", show_default=True, help="Name of the reference; it must be new.")
@settings_options(stream=True, database=True, kafka=False)
def build(settings: Settings, source: str, name: str) -> None:
    """Build a reference from SOURCE: a CSV, Parquet or JSON-lines file of training data, or a past period.

    A file has one column per feature, with the feature's name. A period is written SINCE..UNTIL
    (2013-04-01..2013-05-01, UTC if it has no zone); its reference also includes the answers of both models.
    """
    from gnomon_consumer.reference import build as references
    from gnomon_consumer.reports.files import read_table

    stream = settings.require_stream()
    with closing(connect(settings.require_database_url(), "gnomon reference")) as connection:
        if (period := period_of(source)) is not None:
            made = references.from_period(connection, stream, *period)
        else:
            kinds = references.feature_kinds(connection, stream)
            table = read_table(Path(source), [name for name, kind in kinds.items() if kind == "text"])
            made = references.from_table(table, kinds, source)
        count = references.store(connection, stream, name, source, made)
    click.echo(f"reference {name} of {stream}: {count} profiles frozen")


@reference.command("list")
@settings_options(stream=True, database=True, kafka=False)
@json_option("Print one JSON list.")
def list_(settings: Settings, as_json: bool) -> None:
    """List the references of a stream, newest first; `report drift` uses the newest."""
    with closing(connect(settings.require_database_url(), "gnomon reference", Access.READ)) as connection:
        rows = connection.execute(
            queries_of("gnomon_consumer.reference")["references"], [settings.require_stream()]
        ).fetchall()
    titles = ("name", "source", "profiles", "rows", "built at")
    if as_json:
        echo_json([dict(zip((title.replace(" ", "_") for title in titles), row, strict=True)) for row in rows])
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in titles:
        table.add_column(title)
    for row in rows:
        table.add_row(row[0], row[1], str(row[2]), f"{row[3]:,}", row[4].strftime("%Y-%m-%d %H:%M"))
    Console().print(table)


def period_of(source: str) -> tuple[datetime, datetime] | None:
    """Return the period of the text `SINCE..UNTIL`, None for a file name. Raises ConfigurationError if it is empty."""
    since, dots, until = source.partition("..")
    if not dots or Path(source).exists():
        return None
    kind = Moment()
    first, last = (kind.convert(text, None, None) for text in (since, until))
    if first >= last:
        raise ConfigurationError(f"period {source}: its end must be after its start")
    return first, last
