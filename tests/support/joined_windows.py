"""Joined windows as the joiner hands them to its sink, and a sink to take them."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import psycopg

from gnomon_consumer.database import maintenance
from gnomon_consumer.joiner.merge.merge_join import MergeJoin
from gnomon_consumer.joiner.merge.window import JoinedWindow
from gnomon_consumer.joiner.postgres.sink import Sink
from gnomon_schemas.codec import Codec
from gnomon_schemas.columnar import ColumnarReader
from gnomon_schemas.records import DeploymentStart, from_dict
from gnomon_schemas.store import MemorySchemas
from tests.support.drawn_logs import Live
from tests.support.logs import FEATURES, START_US, capture, cell, row, seal, start

READER = ColumnarReader(MemorySchemas([FEATURES.live]))
Connection = psycopg.Connection[Any]
CODEC = Codec(FEATURES.live)


def sink_of(connection: Connection) -> Sink:
    sink = Sink(connection, "s", "challenger")
    sink.begin(0, from_dict(DeploymentStart, start(0, "c", None)), 0)
    return sink


def window(
    begin: int,
    size: int,
    *,
    changes: Mapping[int, Mapping[str, Any]] | None = None,
    answers: Mapping[int, Mapping[str, Any]] | None = None,
) -> JoinedWindow:
    """Return a window in which every capture is sampled;

    `changes` and `answers` alter captures and shadow rows by offset.
    """
    offsets = range(begin, begin + size)
    window_id = str(uuid.UUID(int=begin + 1))
    rows = [row(0, o, f"r{o}", window_id, **(answers or {}).get(o, {})) for o in offsets]
    merge_join = MergeJoin(0, begin)
    for at, record in enumerate(rows):
        merge_join.shadow(begin + at, "ShadowPrediction", record)
    times = [(changes or {}).get(o, {}).get("captured_at", START_US + o * 1_000_000) for o in offsets]
    span = {"first_captured_at": times[0], "last_captured_at": times[-1]}
    claim = seal(0, begin, begin + size, [cell(rows, size)], window_id, **span)
    merge_join.shadow(begin + size, "SamplingWindow", claim)
    merge_join.live(
        Live(o, f"r{o}", body=CODEC.encode({**capture(o, f"r{o}"), **(changes or {}).get(o, {})})) for o in offsets
    )
    (joined,) = merge_join.pop_complete()
    return joined


def one(connection: Connection, query: str) -> tuple[Any, ...]:
    found: tuple[Any, ...] | None = connection.execute(query).fetchone()
    assert found is not None
    return found


def at(moment: datetime, *offsets: int) -> dict[int, dict[str, Any]]:
    return {offset: {"captured_at": micros(moment)} for offset in offsets}


def differences(connection: Connection) -> list[str]:
    return [row["kind"] for row in maintenance.ledger_differences(connection, "s")]


def micros(moment: datetime) -> int:
    return int(moment.timestamp() * 1e6)
