"""Labels from CSV, Parquet and JSON-lines files, in batches; columns are mapped to the fields of a Label by name."""

import hashlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from gnomon_consumer import tabular
from gnomon_consumer.labels import values
from gnomon_consumer.labels.store import fault_of
from gnomon_consumer.labels.values import Formats
from gnomon_schemas.codec import Record
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.json_text import load_json

FIELDS = ("request_id", "value", "label", "relevance", "items", "occurred_at", "observed_at", "source")
REQUIRED = ("request_id", "observed_at")
WHOLE = ("request_id", "label")
"""Ids and classes: if every row of such a column in a CSV file looks like `1.0`, it is read as 1."""
BATCH_ROWS = 50_000


class RowError(ConfigurationError):
    """A row of the file is not a valid label; the text names the row and its fault."""


def parse_map(pairs: tuple[str, ...]) -> dict[str, str]:
    """Parse `column=field` pairs into field -> column; raise ConfigurationError for a field that a Label lacks."""
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
    """Return the SHA-256 of the file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_labels(
    path: Path, columns: Mapping[str, str], source: str, formats: Formats | None = None, delimiter: str | None = None
) -> Iterator[tuple[int, Record | RowError]]:
    """Yield row number (from 1) and label, or the error of the row.

    `columns` maps a field to its column; other fields are read from the column of the same name, if there is one. A
    file may be compressed; without a `delimiter`, the header's is used. Raises ConfigurationError for another file
    format or a missing required column.
    """
    number = 0
    chosen: dict[str, str] | None = None
    formats = formats or Formats()
    try:
        for names, rows in _batches(path, delimiter, columns):
            if chosen is None:
                chosen = _choose(path, names, columns)
            for row in rows:
                number += 1
                yield number, _label(path, number, row, chosen, source, formats)
    except (pa.ArrowException, UnicodeDecodeError, EOFError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or ' '.join(str(error).split())}") from error


RowBatches = Iterator[tuple[list[str], Iterator[Mapping[str, Any]]]]


def _batches(path: Path, delimiter: str | None, columns: Mapping[str, str]) -> RowBatches:
    """Yield column names and rows, by the file's suffix."""
    kind = tabular.kind_of(path)
    if kind == "csv":
        yield from _csv(path, delimiter or tabular.delimiter_of(path), columns)
    elif kind == "parquet":
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH_ROWS):
                yield batch.schema.names, iter(_in_microseconds(batch).to_pylist())
    else:
        yield from _json_lines(path)


def _csv(path: Path, delimiter: str, columns: Mapping[str, str]) -> RowBatches:
    # Every column as text: request ids such as 007 keep their zeros, and times are read by one rule.
    parsing = tabular.csv_options(delimiter)
    with tabular.opened(path) as stream, pyarrow.csv.open_csv(stream, parse_options=parsing) as head:
        names = head.schema.names
    options = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
    )

    def batches() -> Iterator[pa.RecordBatch]:
        with (
            tabular.opened(path) as stream,
            pyarrow.csv.open_csv(stream, parse_options=parsing, convert_options=options) as reader,
        ):
            yield from reader

    whole = {column for name in WHOLE if (column := columns.get(name, name)) in names}
    for batch in batches():
        whole = {name for name in whole if _is_whole(batch.column(names.index(name)))}
    for batch in batches():
        for name in whole:
            texts = pc.replace_substring_regex(batch.column(names.index(name)), r"\.0+$", "")
            batch = batch.set_column(names.index(name), name, texts)
        yield names, iter(batch.to_pylist())


def _is_whole(texts: pa.Array) -> bool:
    """Return whether all are whole floats: ids or classes that pandas wrote in a column with missing values."""
    return bool(pc.all(pc.match_substring_regex(texts, r"^-?\d{1,15}\.0+$")).as_py() is not False)


def _in_microseconds(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Convert times to microseconds, the resolution of a label and of Python."""
    arrays = [
        column.cast(pa.timestamp("us", column.type.tz), safe=False) if pa.types.is_timestamp(column.type) else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _json_lines(path: Path) -> RowBatches:
    with tabular.opened(path) as stream, io.TextIOWrapper(stream, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = load_json(line)
            except (ValueError, RecursionError) as error:
                raise ConfigurationError(f"{path}, line {number}: not JSON: {error}") from error
            if not isinstance(row, dict):
                hint = "; write one object a line" if isinstance(row, list) else ""
                raise ConfigurationError(f"{path}, line {number}: not a JSON object{hint}")
            yield list(FIELDS), iter([row])


def _choose(path: Path, names: list[str], columns: Mapping[str, str]) -> dict[str, str]:
    chosen = {name: columns.get(name, name) for name in FIELDS if name in columns or name in names}
    is_json = names == list(FIELDS)
    there = " ".join(", ".join(names)[:500].split())
    for name in columns:
        if not is_json and columns[name] not in names:
            raise ConfigurationError(f"{path}: no column {columns[name]!r}; it has {there}")
    missing = [name for name in REQUIRED if name not in chosen]
    if missing:
        raise ConfigurationError(
            f"{path}: no column for {' and '.join(missing)}; it has {there}; give --map COLUMN={missing[0]}"
        )
    for column in chosen.values():
        if names.count(column) > 1:
            raise ConfigurationError(f"{path}: two columns are named {column!r}")
    return chosen


def _label(
    path: Path, number: int, row: Mapping[str, Any], chosen: Mapping[str, str], source: str, formats: Formats
) -> Record | RowError:
    given = {name: row.get(chosen[name]) if name in chosen else None for name in FIELDS}
    try:
        record: Record = {
            "request_id": values.text("request_id", given["request_id"]) or "",
            "value": values.number("value", given["value"], formats),
            "label": values.text("label", given["label"]),
            "relevance": values.items("relevance", given["relevance"], values.number),
            "items": values.items("items", given["items"], values.text),
            "occurred_at": values.microseconds("occurred_at", given["occurred_at"], formats),
            "observed_at": values.microseconds("observed_at", given["observed_at"], formats),
            "source": values.text("source", given["source"]) or source,
        }
    except (ValueError, TypeError, OverflowError) as error:
        return RowError(f"{path}, row {number}: {error}")
    if record["observed_at"] is None:
        return RowError(f"{path}, row {number}: it has no observed_at")
    fault = fault_of(record)
    return record if fault is None else RowError(f"{path}, row {number}: {fault}")
