"""Common parts of the tables: schema, naming, and columns of the usual kinds."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Integer,
    MetaData,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, TIMESTAMP
from sqlalchemy.schema import SchemaItem

SCHEMA = "gnomon"

metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_name)s_key",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_name)s_idx",
    },
)

TIME = TIMESTAMP(timezone=True)
FLOATS = ARRAY(DOUBLE_PRECISION)
TEXTS = ARRAY(Text)


def need(name: str, kind: Any, *items: SchemaItem, default: str | None = None) -> Column[Any]:
    """Return a column that is never null."""
    server_default = None if default is None else text(default)
    return Column(name, kind, *items, nullable=False, server_default=server_default)


def may(name: str, kind: Any) -> Column[Any]:
    """Return a column that may be null."""
    return Column(name, kind, nullable=True)


def counts(*names: str) -> list[Column[Any]]:
    """Return counters that begin at zero."""
    return [need(name, BigInteger, default="0") for name in names]


def sums(*names: str) -> list[Column[Any]]:
    """Return sums that begin at zero."""
    return [need(name, DOUBLE_PRECISION, default="0") for name in names]


def deployment() -> Column[Any]:
    """Return the column of the deployment that a row belongs to."""
    return need("deployment_id", Integer, ForeignKey(f"{SCHEMA}.deployments.deployment_id"))


def stream() -> Column[Any]:
    """Return the column of the stream that a row belongs to."""
    return need("stream_id", Integer, ForeignKey(f"{SCHEMA}.streams.stream_id"))
