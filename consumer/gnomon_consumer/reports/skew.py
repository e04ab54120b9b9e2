"""Features recomputed offline, compared with those that the live service sent: the file's side of `report_v1.skew`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
from psycopg import sql

from gnomon_consumer.database.queries import queries_of
from gnomon_consumer.reports.files import is_number
from gnomon_schemas.errors import ConfigurationError

SQL = queries_of(__package__)

KEY = "request_id"
CHUNK_ROWS = 50_000


@dataclass(frozen=True)
class StoredFeature:
    """The position of a stream's feature in the arrays of `pairs`: `numeric` or `text`, from 1."""

    kind: str
    position: int


def feature_columns(connection: psycopg.Connection[Any], stream: str) -> dict[str, StoredFeature]:
    """Return the features that a stream has sent so far, by name."""
    rows = connection.execute(SQL["feature_columns"], [stream]).fetchall()
    return {name: StoredFeature(kind, position) for name, kind, position in rows}


def chosen(
    table: pa.Table, columns: Mapping[str, StoredFeature], wanted: Sequence[str], source: str
) -> tuple[pa.Table, list[str]]:
    """Return the table with `request_id` as text and each compared feature as double or text, and the features' names.

    `wanted` are the features to compare; without it every other column must be a feature. Raises ConfigurationError if
    a column or request cannot be compared, with its name.
    """
    if KEY not in table.column_names:
        raise ConfigurationError(f"{source} has no column {KEY}, only {', '.join(table.column_names)}")
    names = list(dict.fromkeys(wanted)) or [name for name in table.column_names if name != KEY]
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise ConfigurationError(f"{source} has no column {', '.join(missing)}")
    unknown = [name for name in names if name not in columns]
    if unknown:
        raise ConfigurationError(
            f"{source}: {', '.join(unknown)} is not a feature of the stream"
            f" (it has {', '.join(columns) or 'none yet'}); --feature NAME compares some of the columns"
        )
    if not names:
        raise ConfigurationError(f"{source} has no column other than {KEY}")
    keys = _keys(table.column(KEY), source)
    arrays = [_fitting(name, table.column(name), columns[name].kind, source) for name in names]
    return pa.table([keys, *arrays], [KEY, *names]), names


def _keys(column: pa.ChunkedArray, source: str) -> pa.ChunkedArray:
    if column.null_count:
        raise ConfigurationError(f"{source}: {column.null_count} rows have no {KEY}")
    if not (pa.types.is_integer(column.type) or _is_text(column.type)):
        raise ConfigurationError(f"{source}: {KEY} holds {column.type}, not text")
    keys = column.cast(pa.string())
    counts = pa.table([keys], [KEY]).group_by(KEY).aggregate([([], "count_all")])
    repeated = counts.filter(pyarrow.compute.field("count_all") > 1).column(KEY)
    if len(repeated):
        raise ConfigurationError(f"{source}: {KEY} {repeated[0].as_py()} occurs in more than one row")
    return keys


def _fitting(name: str, column: pa.ChunkedArray, kind: str, source: str) -> pa.ChunkedArray:
    """Return the column as `pairs` holds that kind of feature."""
    empty = pa.types.is_null(column.type)
    if kind == "numeric" and (empty or is_number(column.type)):
        return column.cast(pa.float64(), safe=False)
    if kind == "text" and (empty or _is_text(column.type)):
        return column.cast(pa.string())
    if kind == "text" and (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        # `pairs` stores an array of numbers as JSON.
        rows = [None if row is None else json.dumps(row) for row in column.to_pylist()]
        return pa.chunked_array([pa.array(rows, pa.string())])
    wanted = "a number" if kind == "numeric" else "text"
    raise ConfigurationError(f"{source}: column {name} holds {column.type}, but the stream's feature is {wanted}")


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def copy_file(connection: psycopg.Connection[Any], table: pa.Table, columns: Mapping[str, StoredFeature]) -> None:
    """Copy what `chosen` returned into the transaction's temporary table `offline_features`.

    Raises ConfigurationError if the role may not create one.
    """
    names = table.column_names[1:]
    kinds = [sql.SQL("float8" if columns[name].kind == "numeric" else "text") for name in names]
    places = [sql.Identifier(f"c{at}") for at in range(len(names))]
    fields = sql.SQL(", ").join(sql.SQL("{} {}").format(*pair) for pair in zip(places, kinds, strict=True))
    try:
        connection.execute(SQL.template("make_offline_columns").format(fields=fields))
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigurationError(
            "this role may not create temporary tables, which hold the file: grant temporary on database … to it"
        ) from error
    with connection.cursor().copy("copy offline_columns from stdin (format csv)") as copy:
        for batch in table.to_batches(max_chunksize=CHUNK_ROWS):
            buffer = pa.BufferOutputStream()
            pyarrow.csv.write_csv(batch, buffer, pyarrow.csv.WriteOptions(include_header=False))
            copy.write(buffer.getvalue().to_pybytes())
    arrays = {
        kind: _array([(columns[name].position, place) for name, place in zip(names, places, strict=True)
                      if columns[name].kind == kind])
        for kind in ("numeric", "text")
    }  # fmt: skip
    connection.execute(SQL.template("make_offline_features").format(numbers=arrays["numeric"], texts=arrays["text"]))
    connection.execute(SQL["drop_offline_columns"])
    connection.execute(SQL["index_offline_features"])
    connection.execute(SQL["analyze_offline_features"])


def _array(places: Sequence[tuple[int, sql.Identifier]]) -> sql.Composable:
    """Return `array[null, c3, …]`: each column at its feature's position."""
    at = dict(places)
    items = [at.get(position, sql.SQL("null")) for position in range(1, max(at, default=0) + 1)]
    return sql.SQL("array[{}]").format(sql.SQL(", ").join(items))
