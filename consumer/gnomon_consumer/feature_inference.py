"""A feature record inferred from a sample of the data: the Avro type of each column of a file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet, types
from pyarrow import json as arrow_json

from gnomon_consumer import tabular
from gnomon_schemas.checking import avro_name
from gnomon_schemas.drawing import record_of
from gnomon_schemas.errors import ConfigurationError, SchemaError
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.json_text import load_json
from gnomon_schemas.schema import Json

_LONG_MAX = 2**63 - 1
_EXACT = 2.0**53
_INDEX_NAMES = ("", "Unnamed: 0")
"""The names that pandas gives to a frame's index in a CSV file."""


def infer(path: Path, name: str, *, leave_out: frozenset[str] = frozenset()) -> Json:
    """Infer a feature record from a CSV, Parquet or JSON-lines sample (see `tabular`).

    A column with an empty value in the sample becomes a union with null. An index that pandas wrote is left out. Whole
    numbers that need more than 64 bits or have leading zeros are ids and become texts, never doubles. Raises
    SchemaError that names a column without an Avro type, ConfigurationError if the file cannot be read.
    """
    table = _read(path)
    unknown = leave_out - set(table.column_names)
    if unknown:
        raise ConfigurationError(f"{path} has no column {min(unknown)!r} to leave out")
    kinds = {}
    for column in table.column_names:
        if column not in leave_out:
            _refuse_rounded(column, table[column])
            kind = _avro_type(column, table.schema.field(column).type, table[column])
            kinds[column] = ["null", kind] if table[column].null_count else kind
    return FeatureSchema.of(kinds, name).record


def _read(path: Path) -> pa.Table:
    kind = tabular.kind_of(path)
    readers = {"csv": _read_csv, "parquet": _read_parquet, "json": _read_json}
    try:
        table = readers[kind](path)
        names = table.column_names  # decodes them
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or ' '.join(str(error).split())}") from error
    except (pa.ArrowException, ValueError) as error:
        hint = "; one JSON object a line is expected" if kind == "json" else ""
        raise ConfigurationError(f"{path} cannot be read as {kind}: {' '.join(str(error).split())}{hint}") from error
    if not table.num_rows:
        raise ConfigurationError(f"{path} has no rows")
    tabular.refuse_repeated(path, names)
    return table.drop_columns(_index_columns(table))


def _read_parquet(path: Path) -> pa.Table:
    tabular.refuse_repeated(path, parquet.read_schema(path).names)
    return parquet.read_table(path)


def _read_csv(path: Path) -> pa.Table:
    """Return the table with ids as texts: Arrow alone converts them to doubles, or drops their leading zeros."""
    parsing = tabular.csv_options(tabular.delimiter_of(path))
    nulls = csv.ConvertOptions(strings_can_be_null=True)
    with tabular.opened(path) as stream:
        table = csv.read_csv(stream, parse_options=parsing, convert_options=nulls)
    tabular.refuse_repeated(path, table.column_names)
    numbers = [one.name for one in table.schema if types.is_integer(one.type) or types.is_floating(one.type)]
    if not numbers:
        return table
    as_texts = csv.ConvertOptions(
        strings_can_be_null=True, column_types=dict.fromkeys(numbers, pa.string()), include_columns=numbers
    )
    with tabular.opened(path) as stream:
        written = csv.read_csv(stream, parse_options=parsing, convert_options=as_texts)
    for name in numbers:
        texts = written[name].drop_null()
        floating = types.is_floating(table.schema.field(name).type)
        if (floating and _all_match(texts, r"^\s*[+-]?\d+\s*$")) or _any_match(texts, r"^\s*[+-]?0[\dxX]"):
            table = table.set_column(table.column_names.index(name), name, written[name])
    return table


def _all_match(texts: pa.ChunkedArray, pattern: str) -> bool:
    return len(texts) > 0 and bool(pc.all(pc.match_substring_regex(texts, pattern)).as_py())


def _any_match(texts: pa.ChunkedArray, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(texts, pattern)).as_py())


def _read_json(path: Path) -> pa.Table:
    """Return the table with integers beyond 64 bits as texts: Arrow converts them to doubles."""
    with tabular.opened(path) as stream:
        table = arrow_json.read_json(stream)
    for at, field in enumerate(table.schema):
        if types.is_timestamp(field.type):  # Arrow's guess: JSON has no times, so a service has read a text
            table = table.set_column(at, field.name, table[at].cast(pa.string()))
    suspects = {one.name for one in table.schema if types.is_floating(one.type) and _has_large_whole(table[one.name])}
    if not suspects:
        return table
    written: dict[str, list[Any]] = {name: [] for name in suspects}
    with tabular.opened(path) as stream:
        for line in bytes(stream.read()).splitlines():
            if line.strip():
                row = load_json(line)
                for name in suspects:
                    written[name].append(row.get(name))
    for name, values in written.items():
        if all(isinstance(value, int) for value in values if value is not None):
            texts = pa.chunked_array([[None if value is None else str(value) for value in values]], pa.string())
            table = table.set_column(table.column_names.index(name), name, texts)
    return table


def _has_large_whole(column: pa.ChunkedArray) -> bool:
    return (pc.max(pc.abs(column)).as_py() or 0.0) > _EXACT


def _refuse_rounded(column: str, values: pa.ChunkedArray) -> None:
    """Raise SchemaError for ids that a tool has written as floats, which have lost their last digits."""
    if not types.is_floating(values.type) or types.is_float16(values.type):
        return
    numbers = values.cast(pa.float64()).drop_null().to_numpy()
    largest = np.abs(numbers).max(initial=0.0)
    if _EXACT < largest < 2.0**64 and (numbers == np.round(numbers)).all():
        raise SchemaError(
            f"column {column!r} holds whole numbers beyond 2^53 as floats, so their last digits are lost; write them as"
            f" integers or texts, or leave the column out with --leave-out {column}"
        )


def _index_columns(table: pa.Table) -> list[str]:
    """Return the columns that are a frame's index."""
    found = [name for name in table.column_names[:1] if name in _INDEX_NAMES and types.is_integer(table[name].type)]
    try:
        stated = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}"))["index_columns"]
    except (ValueError, KeyError, TypeError, RecursionError):
        stated = []  # the note that pandas leaves in a Parquet file
    return found + [name for name in stated if isinstance(name, str) and name in table.column_names]


def _avro_type(column: str, kind: pa.DataType, values: pa.ChunkedArray | None = None) -> Json:
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if types.is_dictionary(kind):
        kind = kind.value_type
    plain = _plain_type(kind)
    if plain is not None:
        return plain
    if kind == "uint64" and values is not None and (pc.max(values).as_py() or 0) <= _LONG_MAX:
        return "long"
    if types.is_decimal(kind):
        if kind.scale:
            return "double"
        return "long" if kind.precision <= 18 or _within_long(values) else "string"
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return {"type": "array", "items": _avro_type(column, kind.value_type)}
    if types.is_map(kind) and types.is_string(kind.key_type):
        return {"type": "map", "values": _avro_type(column, kind.item_type)}
    if types.is_struct(kind):
        within = {field.name: ["null", _avro_type(f"{column}.{field.name}", field.type)] for field in kind}
        return record_of(avro_name(f"{column}_record"), within)
    if types.is_null(kind):
        raise SchemaError(
            f"column {column!r} has no value in the sample, so its type is unknown; leave it out with --leave-out"
            f" {column}, or take a larger sample"
        )
    raise SchemaError(
        f"column {column!r} is of type {kind}, which is not a type of features; leave it out with --leave-out {column},"
        " or make a number or text of it"
    )


def _within_long(values: pa.ChunkedArray | None) -> bool:
    return values is not None and all(abs(one) <= _LONG_MAX for one in pc.unique(values).to_pylist() if one is not None)


def _plain_type(kind: pa.DataType) -> Json | None:
    if types.is_boolean(kind):
        return "boolean"
    if types.is_integer(kind) and kind != "uint64":
        return "int" if kind.bit_width < 32 or kind == "int32" else "long"
    if types.is_float16(kind) or types.is_float32(kind):
        return "float"
    if types.is_floating(kind):
        return "double"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "string"
    if types.is_date(kind):
        return {"type": "int", "logicalType": "date"}
    if types.is_time(kind):
        return {"type": "long", "logicalType": "time-micros"}
    if types.is_timestamp(kind):
        return {"type": "long", "logicalType": "timestamp-micros" if kind.tz else "local-timestamp-micros"}
    return None
