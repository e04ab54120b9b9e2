"""Build a frozen reference from a file or a period of a stream's own pairs, and store it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, fields
from datetime import datetime
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from psycopg import sql

from gnomon_consumer.database.queries import queries_of
from gnomon_consumer.reference.profile import Profile, profile
from gnomon_consumer.reports.files import is_number
from gnomon_schemas.errors import ConfigurationError

_COLUMNS = [field.name for field in fields(Profile)]
SQL = queries_of(__package__)
# The answers of a pair that are profiled in addition to the features: feature, kind, column, statement, and whether
# each deployment has its own.
_ANSWERS = (
    ("@live.value", "numeric", "live_value", SQL.template("live_answers"), False),
    ("@live.label", "text", "live_label", SQL.template("live_answers"), False),
    ("@shadow.value", "numeric", "shadow_value", SQL.template("shadow_answers"), True),
    ("@shadow.label", "text", "shadow_label", SQL.template("shadow_answers"), True),
)


def from_table(table: pa.Table, kinds: Mapping[str, str], source: str) -> dict[str, list[Profile]]:
    """Return profiles of the table's columns, by deployment ('': the features).

    `kinds` are the kinds of the stream's features; if the stream has none yet, every column of numbers or text counts.
    Raises ConfigurationError for a table without any of the features or a column that is not of its kind.
    """
    known = kinds or {
        field.name: "numeric" if is_number(field.type) else "text"
        for field in table.schema
        if is_number(field.type) or pa.types.is_string(field.type)
    }
    found = [name for name in known if name in table.column_names]
    if not found or table.num_rows == 0:
        raise ConfigurationError(f"{source} has no row of any feature of the stream ({', '.join(sorted(known))})")
    ones = np.ones(table.num_rows)
    try:
        return {"": [profile(name, known[name], table.column(name).to_pylist(), ones) for name in found]}
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{source}: {error}") from error


def from_period(
    connection: psycopg.Connection[Any], stream: str, since: datetime, until: datetime
) -> dict[str, list[Profile]]:
    """Return weighted profiles of the pairs of a past period: features, live answers, each deployment's answers.

    Features and live answers come from the deployment with the most pairs, because every deployment sampled the same
    traffic. Raises ConfigurationError for a period without pairs.
    """
    arguments = {"stream": stream, "since": since, "until": until}
    counts = connection.execute(SQL["pairs_by_deployment"], arguments).fetchall()
    if not counts:
        raise ConfigurationError(f"no pairs of {stream} between {since.isoformat()} and {until.isoformat()}")
    fullest = counts[0][0]
    made: dict[str, list[Profile]] = {"": []}
    for name, kind, position in connection.execute(SQL["features"], [stream]).fetchall():
        rows = connection.execute(
            SQL.template("feature_values").format(features=sql.Identifier(f"features_{kind}")),
            {**arguments, "deployment": fullest, "position": position},
        )
        made[""].extend(_profiles(name, kind, rows.fetchall()))
    for feature, kind, column, statement, each in _ANSWERS:
        for deployment in [row[0] for row in counts] if each else [fullest]:
            rows = connection.execute(
                statement.format(answer=sql.Identifier(column)),
                {**arguments, "deployment": deployment},
            )
            made.setdefault(deployment if each else "", []).extend(_profiles(feature, kind, rows.fetchall()))
    return made


def store(
    connection: psycopg.Connection[Any], stream: str, name: str, source: str, made: Mapping[str, Sequence[Profile]]
) -> int:
    """Write a reference in one transaction; return the number of profiles.

    Raises ConfigurationError for an unknown stream and for a name in use: a reference never changes.
    """
    stream_id = connection.execute(SQL["stream_id"], [stream]).fetchone()
    if stream_id is None:
        raise ConfigurationError(f"no stream {stream} in this database")
    rows = [
        [stream_id[0], name, deployment, *astuple(one), source]
        for deployment, profiles in made.items()
        for one in profiles
    ]
    columns = ["stream_id", "name", "deployment", *_COLUMNS, "source"]
    statement = SQL.template("add_profile").format(
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        values=sql.SQL(", ").join([sql.Placeholder()] * len(columns)),
    )
    try:
        with connection.transaction(), connection.cursor() as cursor:
            cursor.executemany(statement, rows)
    except psycopg.errors.UniqueViolation as error:
        raise ConfigurationError(
            f"reference {name} of {stream} exists already and is frozen: choose another --name"
        ) from error
    return len(rows)


def feature_kinds(connection: psycopg.Connection[Any], stream: str) -> dict[str, str]:
    """Return the stream's features and their kinds; empty before its first pair."""
    return {name: kind for name, kind, _ in connection.execute(SQL["features"], [stream]).fetchall()}


def _profiles(feature: str, kind: str, rows: Sequence[tuple[Any, float]]) -> Iterable[Profile]:
    """Return the profile of these values; none if no row has one (an answer without labels, a feature never sent)."""
    if any(value is not None for value, _ in rows):
        yield profile(feature, kind, [value for value, _ in rows], np.array([weight for _, weight in rows]))
