"""Labels from CSV, Parquet and JSON-lines files, in batches; columns are mapped to the fields of a Label by name."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from gnomon_consumer.labels.store import EPOCH, fault_of
from gnomon_schemas.codec import Record
from gnomon_schemas.errors import ConfigurationError

FIELDS = ("request_id", "value", "label", "relevance", "items", "occurred_at", "observed_at", "source")
REQUIRED = ("request_id", "observed_at")
BATCH_ROWS = 50_000


class RowError(ConfigurationError):
    """A row of the file is no label; the text names the row and its fault."""


def parse_map(pairs: tuple[str, ...]) -> dict[str, str]:
    """`column=field` pairs as field to column; ConfigurationError for a field that a Label does not have."""
    result: dict[str, str] = {}
    for pair in pairs:
        column, equals, name = pair.rpartition("=")
        if not equals or not column:
            raise ConfigurationError(f"--map {pair}: not column=field")
        if name not in FIELDS:
            raise ConfigurationError(f"--map {pair}: a label has no field {name!r}, only {', '.join(FIELDS)}")
        if name in result:
            raise ConfigurationError(f"--map {pair}: {name} is mapped twice")
        result[name] = column
    return result


def checksum(path: Path) -> str:
    """SHA-256 of the file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_labels(path: Path, columns: Mapping[str, str], source: str) -> Iterator[tuple[int, Record | RowError]]:
    """Row number (from 1) and label, or what is wrong with the row.

    `columns` maps a field to its column; a field left out is read from the column of its own name, if there is one.
    Raises ConfigurationError for a file that is none of the three formats or lacks a needed column.
    """
    number = 0
    chosen: dict[str, str] | None = None
    try:
        for names, rows in _batches(path):
            if chosen is None:
                chosen = _choose(path, names, columns)
            for row in rows:
                number += 1
                yield number, _label(path, number, row, chosen, source)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or error}") from error


def _batches(path: Path) -> Iterator[tuple[list[str], Iterator[Mapping[str, Any]]]]:
    """Column names and rows, by the file's suffix."""
    match path.suffix.lower():
        case ".csv":
            # Every column as text: request ids such as 007 keep their zeros, and times are read by one rule.
            with pyarrow.csv.open_csv(path) as head:
                names = head.schema.names
            options = pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
            )
            with pyarrow.csv.open_csv(path, convert_options=options) as reader:
                for batch in reader:
                    yield names, iter(batch.to_pylist())
        case ".parquet":
            with pyarrow.parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(BATCH_ROWS):
                    yield batch.schema.names, iter(batch.to_pylist())
        case ".jsonl" | ".ndjson" | ".json":
            yield from _json_lines(path)
        case suffix:
            raise ConfigurationError(f"{path}: {suffix or 'no suffix'} is none of .csv, .parquet, .jsonl, .ndjson")


def _json_lines(path: Path) -> Iterator[tuple[list[str], Iterator[Mapping[str, Any]]]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ConfigurationError(f"{path}, line {number}: no JSON: {error}") from error
            if not isinstance(row, dict):
                raise ConfigurationError(f"{path}, line {number}: not a JSON object")
            yield list(FIELDS), iter([row])


def _choose(path: Path, names: list[str], columns: Mapping[str, str]) -> dict[str, str]:
    chosen = {name: columns.get(name, name) for name in FIELDS if name in columns or name in names}
    is_json = names == list(FIELDS)
    for name in columns:
        if not is_json and columns[name] not in names:
            raise ConfigurationError(f"{path}: no column {columns[name]!r}; it has {', '.join(names)}")
    missing = [name for name in REQUIRED if name not in chosen]
    if missing:
        raise ConfigurationError(
            f"{path}: no column for {' and '.join(missing)}; it has {', '.join(names)}; give --map COLUMN={missing[0]}"
        )
    return chosen


def _label(
    path: Path, number: int, row: Mapping[str, Any], chosen: Mapping[str, str], source: str
) -> Record | RowError:
    given = {name: row.get(chosen[name]) if name in chosen else None for name in FIELDS}
    try:
        record: Record = {
            "request_id": _text(given["request_id"]) or "",
            "value": _number(given["value"]),
            "label": _text(given["label"]),
            "relevance": _list(given["relevance"], _number),
            "items": _list(given["items"], _text),
            "occurred_at": _micros(given["occurred_at"]),
            "observed_at": _micros(given["observed_at"]),
            "source": _text(given["source"]) or source,
        }
    except (ValueError, TypeError, OverflowError) as error:
        return RowError(f"{path}, row {number}: {error}")
    if record["observed_at"] is None:
        return RowError(f"{path}, row {number}: it has no observed_at")
    fault = fault_of(record)
    return record if fault is None else RowError(f"{path}, row {number}: {fault}")


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _number(value: Any) -> float | None:
    if value is None or value == "":
        return None
    number = float(value)
    return None if math.isnan(number) else number


def _list(value: Any, one: Any) -> list[Any] | None:
    if value is None or value == "":
        return None
    values = json.loads(value) if isinstance(value, str) else value
    if not isinstance(values, list):
        raise TypeError(f"{value!r} is not a list")
    return [one(item) for item in values]


def _micros(value: Any) -> int | None:
    """A time as microseconds since the Unix epoch: ISO 8601 (UTC where it names no zone), or microseconds."""
    if value is None or value == "":
        return None
    if isinstance(value, str) and not value.lstrip("-").isdigit():
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        span = aware - EPOCH
        return (span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds
    if isinstance(value, date):
        return _micros(datetime(value.year, value.month, value.day, tzinfo=UTC))
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(f"{value!r} is no time; give ISO 8601 or whole microseconds")
    return int(value)
