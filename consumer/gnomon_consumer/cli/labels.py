"""`gnomon labels`: the ground truth, from a file or from the topic."""

import json
from datetime import UTC, datetime
from pathlib import Path

import rich_click as click

from gnomon_consumer import database
from gnomon_consumer.cli.options import metrics_option, setting_option, settings_options
from gnomon_consumer.labels.files import RowError, checksum, parse_map, read_labels
from gnomon_consumer.labels.service import LabelConsumer
from gnomon_consumer.labels.store import LabelStore
from gnomon_consumer.settings import Settings
from gnomon_consumer.stopping import stop_on_signals
from gnomon_schemas.codec import Record
from gnomon_schemas.errors import ConfigurationError


@click.group()
def labels() -> None:
    """The ground truth of the requests."""


@labels.command()
@settings_options(stream=True, database=True)
@click.option("--drain", is_flag=True, help="End as soon as nothing is left to read.")
@metrics_option
@setting_option("--idle-seconds", "labels.idle_seconds")
@setting_option("--seal-seconds", "labels.seal_seconds")
def consume(settings: Settings, drain: bool, metrics: str | None) -> None:
    """Follow the topics of labels and heartbeats, store every version, and seal cohorts as they come of age."""
    with stop_on_signals() as stop:
        LabelConsumer(settings, stop, drain=drain, metrics=metrics).run()


@labels.command()
@settings_options(stream=True, database=True, kafka=False)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--map", "mapped", multiple=True, metavar="COLUMN=FIELD", help="Where a field stands; repeatable.")
@click.option("--complete-until", metavar="TIME", help="Every label observed before this time is known now (ISO 8601).")
@click.option(
    "--skip-invalid", is_flag=True, help="Leave out the rows that are no labels instead of refusing the file."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def load(
    settings: Settings,
    file: Path,
    mapped: tuple[str, ...],
    complete_until: str | None,
    skip_invalid: bool,
    as_json: bool,
) -> None:
    """Store the labels of a CSV, Parquet or JSON-lines file, whole or not at all; loading it twice changes nothing.

    Fields: request_id and observed_at, and value, label, relevance, items, occurred_at, source as far as there are
    columns for them.
    """
    until = None if complete_until is None else _moment(complete_until)
    columns = parse_map(mapped)
    if not file.is_file():
        raise ConfigurationError(f"{file}: no such file")
    faults: list[RowError] = []
    with database.connect(settings.require_database_url(), "gnomon labels load") as connection:
        store = LabelStore(connection, settings.require_stream())

        def good() -> "list[Record]":
            kept: list[Record] = []
            for _, label in read_labels(file, columns, file.name):
                if not isinstance(label, RowError):
                    kept.append(label)
                elif skip_invalid:
                    faults.append(label)
                else:
                    raise label
            return kept

        result = store.load(good(), file.name, checksum(file), len(faults), until)
        sealed = store.seal_cohorts()
    counts = {
        "received": result.received + len(faults),
        "stored": result.stored,
        "duplicates": result.duplicates,
        "rejected": len(faults),
        "cohorts_sealed": sealed,
    }
    for fault in faults[:3]:
        click.echo(f"left out: {fault}", err=True)
    click.echo(json.dumps(counts) if as_json else ", ".join(f"{name} {count}" for name, count in counts.items()))


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"--complete-until {text}: not a time in ISO 8601") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
