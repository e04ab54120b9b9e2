"""The settings of a stream: task and classes, tolerance, the reading of labels, retention."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from gnomon_consumer.database.connections import Connection
from gnomon_consumer.database.queries import queries_of
from gnomon_consumer.settings import DeclaredSettings, environment_name
from gnomon_consumer.times import interval_text
from gnomon_schemas.errors import ConfigurationError

SQL = queries_of(__package__)

COLUMNS = (
    "task", "positive_class", "negative_class", "classes", "value_tolerance", "relative_tolerance", "horizons",
    "label_kind", "label_choice", "label_grace", "retention", "time_zone",
)  # fmt: skip
"""Columns of gnomon.streams that a user sets. `granularity` is one setting for the whole database."""
_COLUMN_LIST = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
_QUALITY = {"task", "positive_class", "negative_class", "classes", "label_kind", "label_choice", "label_grace"}
_TOLERANCES = {"value_tolerance", "relative_tolerance"}


def declare(connection: Connection, stream: str, declared: DeclaredSettings) -> list[str]:
    """Store the settings of a stream, creating it if it is new; return the names of changed settings.

    Raises ConfigurationError if PostgreSQL refuses a value, or if the settings contradict one another.
    """
    given = declared.model_dump(exclude_none=True)
    if not given:
        return []
    granularity = given.pop("granularity", None)
    with connection.transaction():
        connection.execute(SQL["new_stream"], [stream])
        row = connection.execute(SQL["stream_id"], [stream]).fetchone()
        assert row is not None
        changed = _update(connection, row[0], given)
        if granularity is not None:
            made = connection.execute(SQL["change_granularity"], [granularity])
            changed += ["granularity"] if made.rowcount else []
        if _TOLERANCES & set(changed):
            connection.execute(SQL["recount_agreement"], row)
        if (_QUALITY | _TOLERANCES) & set(changed):
            connection.execute(SQL["forget_cohort_estimates"], row)
    return changed


def _update(connection: Connection, stream_id: int, given: Mapping[str, Any]) -> list[str]:
    """Store the changed settings in one statement, because some are valid only together."""
    new = {name: _stored(connection, name, value) for name, value in given.items()}
    with connection.cursor(row_factory=dict_row) as cursor:
        old = cursor.execute(SQL.template("locked_settings").format(columns=_COLUMN_LIST), [stream_id]).fetchone()
    assert old is not None
    changed = [name for name, value in new.items() if value != old[name]]
    _check({**old, **new})
    if changed:
        changes = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in changed)
        connection.execute(
            SQL.template("change_settings").format(changes=changes), [*(new[name] for name in changed), stream_id]
        )
    return changed


def _stored(connection: Connection, name: str, value: Any) -> Any:
    """Return a setting in the form in which PostgreSQL returns it; an empty text or list is null."""
    if value in ("", ()):
        return None
    if name == "time_zone":
        question, argument = SQL["as_time_zone"], [value, value]
    elif name == "horizons":
        question, argument = SQL["as_intervals"], [list(value)]
    elif name in ("label_grace", "retention"):
        question, argument = SQL["as_interval"], [value]
    else:
        return list(value) if isinstance(value, tuple) else value
    try:
        with connection.transaction():
            row = connection.execute(question, argument).fetchone()
    except psycopg.DataError as error:
        raise ConfigurationError(
            f"{_setting_and_value(name, value)}: {' '.join(str(error).splitlines()[0].split())}"
        ) from None
    except (ValueError, OverflowError):  # PostgreSQL has longer spans than Python, and infinite ones
        raise ConfigurationError(
            f"{_setting_and_value(name, value)}: is too long; write a span such as '90 days'"
        ) from None
    assert row is not None
    return row[0]


def _setting_and_value(name: str, value: Any) -> str:
    """Return a setting of a stream with its value, as messages about other settings name them."""
    key = f"stream_settings.{name}"
    return f"{environment_name(key)} (file key {key}): {plain(value)!r}"


def _check(settings: Mapping[str, Any]) -> None:
    """Raise ConfigurationError if settings contradict one another."""
    task, positive, negative = (settings[name] for name in ("task", "positive_class", "negative_class"))
    classes = settings["classes"]
    horizons, retention, grace = (settings[name] for name in ("horizons", "retention", "label_grace"))
    if (positive is None) != (negative is None):
        raise ConfigurationError("positive_class and negative_class belong together: give both")
    if positive is not None and positive == negative:
        raise ConfigurationError(f"positive_class and negative_class are both {positive!r}")
    if positive is not None and task not in (None, "binary"):
        raise ConfigurationError(
            f"positive_class is for a binary stream, and task is {task}; remove one with an empty text"
        )
    if classes is not None and len(set(classes)) < len(classes):
        raise ConfigurationError(f"classes name one twice: {classes}")
    if classes is not None and task not in (None, "multiclass"):
        raise ConfigurationError(f"classes are for a multi-class stream, and task is {task}")
    if settings["label_kind"] == "absence_is_negative" and task not in (None, "binary"):
        raise ConfigurationError(f"absence_is_negative is for a binary stream, and task is {task}")
    if any(span <= timedelta(0) for span in horizons):
        raise ConfigurationError(f"{_setting_and_value('horizons', horizons)}: each must be longer than 0")
    if retention <= timedelta(0):
        raise ConfigurationError(f"{_setting_and_value('retention', retention)}: must be longer than 0")
    if grace < timedelta(0):
        raise ConfigurationError(f"{_setting_and_value('label_grace', grace)}: must not be negative")


def settings_of(connection: Connection, stream: str) -> dict[str, Any]:
    """Return the settings of a stream; raise ConfigurationError for an unknown stream."""
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(SQL.template("settings").format(columns=_COLUMN_LIST), [stream]).fetchone()
        if row is None:
            names = [found["name"] for found in cursor.execute(SQL["stream_names"])]
            raise ConfigurationError(
                f"no stream {stream}; " + (f"there is {', '.join(names)}" if names else "there is none yet")
            )
        unit = cursor.execute(SQL["granularity"]).fetchone()
    return {**row, "granularity": unit["granularity"] if unit else "month"}


def plain(value: Any) -> Any:
    """Return a setting as JSON and the command line write it."""
    if isinstance(value, timedelta):
        return interval_text(value)
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value
