"""`gnomon labels`: the ground truth, from a file or from the topic."""

from datetime import datetime
from pathlib import Path
from typing import Any

import rich_click as click

from gnomon_consumer.cli.json_option import echo_json, json_option
from gnomon_consumer.cli.options import metrics_option, setting_option, settings_options
from gnomon_consumer.database import connections
from gnomon_consumer.database.stream_settings import declare
from gnomon_consumer.labels.files import RowError, checksum, parse_map, read_labels
from gnomon_consumer.labels.service import LabelConsumer
from gnomon_consumer.labels.store import LabelStore
from gnomon_consumer.labels.values import Formats
from gnomon_consumer.runtime.signals import stop_on_signals
from gnomon_consumer.runtime.visible import visible
from gnomon_consumer.settings import Settings
from gnomon_consumer.times import instant
from gnomon_schemas.codec import Record
from gnomon_schemas.errors import ConfigurationError


@click.group()
def labels() -> None:
    """Load or consume the ground truth of the requests."""


@labels.command()
@settings_options(stream=True, database=True)
@click.option("--drain", is_flag=True, help="End as soon as nothing is left to read.")
@metrics_option
@setting_option("--idle-seconds", "labels.idle_seconds")
@setting_option("--seal-seconds", "labels.seal_seconds")
def consume(settings: Settings, drain: bool, metrics: str | None) -> None:
    """Consume labels and heartbeats, store every version of a label, and seal cohorts when they are mature."""
    with stop_on_signals() as stop:
        LabelConsumer(settings, stop, drain=drain, metrics=metrics).run()


@labels.command()
@settings_options(stream=True, database=True, kafka=False)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--map", "mapped", multiple=True, metavar="COLUMN=FIELD", help="The column that holds a field; repeatable."
)
@click.option(
    "--complete-until", metavar="TIME", help="All labels observed before this time are now loaded (ISO 8601)."
)
@click.option(
    "--delimiter", metavar="CHARACTER", help="Delimiter of a CSV file; default: the one its header uses: , ; tab or |."
)
@click.option(
    "--date-format", metavar="FORMAT", help="Format of the times, such as %d.%m.%Y; ISO 8601 is always accepted."
)
@click.option("--decimal-comma", is_flag=True, help="The decimal separator is a comma, as in 0,5.")
@click.option("--skip-invalid", is_flag=True, help="Skip rows that are not valid labels instead of refusing the file.")
@json_option()
def load(
    settings: Settings,
    file: Path,
    mapped: tuple[str, ...],
    complete_until: str | None,
    delimiter: str | None,
    date_format: str | None,
    decimal_comma: bool,
    skip_invalid: bool,
    as_json: bool,
) -> None:
    """Store the labels of a CSV, Parquet or JSON-lines file, all or none; loading it twice changes nothing.

    A CSV or JSON-lines file may be compressed (.gz, .bz2, .zst).

    Required fields: request_id and observed_at. Optional fields: value, label, relevance, items, occurred_at and
    source.
    """
    until = None if complete_until is None else _moment(complete_until)
    columns = parse_map(mapped)
    formats = Formats(date_format, decimal_comma)
    if delimiter is not None and (len(delimiter) != 1 or not delimiter.isascii()):
        raise ConfigurationError(f"--delimiter {delimiter!r}: not one ASCII character")
    if not file.is_file():
        raise ConfigurationError(f"{file}: no such file")
    faults: list[RowError] = []
    with connections.connect(settings.require_database_url(), "gnomon labels load") as connection:
        store = LabelStore(connection, settings.require_stream())
        declare(connection, settings.require_stream(), settings.stream_settings)

        def good() -> "list[Record]":
            kept: list[Record] = []
            for _, label in read_labels(file, columns, file.name, formats, delimiter):
                if not isinstance(label, RowError):
                    kept.append(label)
                elif skip_invalid:
                    faults.append(label)
                else:
                    raise label
            return kept

        result = store.load(good(), file.name, checksum(file), len(faults), until)
        sealed = store.seal_cohorts()
        maturity = store.maturity()
    counts: dict[str, Any] = {
        "received": result.received + len(faults),
        "stored": result.stored,
        "duplicates": result.duplicates,
        "conflicts": result.conflicts,
        "rejected": len(faults),
        "cohorts_sealed": sealed,
    }
    for fault in faults[:3]:
        click.echo(visible(f"left out: {fault}"), err=True)
    if as_json:
        echo_json(counts | maturity.as_json())
        return
    click.echo(", ".join(f"{name} {count}" for name, count in counts.items()))
    click.echo(maturity.sentence())


def _moment(text: str) -> datetime:
    try:
        return instant("--complete-until", text)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
