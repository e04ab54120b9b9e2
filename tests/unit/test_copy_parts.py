"""The bytes of COPY do not depend on how many pieces they are made in."""

import random

import pyarrow as pa
import pytest

from gnomon_consumer.joiner import wire
from gnomon_consumer.joiner.assemble import PAIRS


def some(kind: pa.DataType, draw: random.Random) -> object:
    if kind in (pa.string(), pa.binary(16)):
        return draw.randbytes(16) if kind == pa.binary(16) else "ä" * draw.randrange(9)
    if pa.types.is_list(kind):
        return [some(kind.value_type, draw) for _ in range(draw.randrange(5))]
    return draw.random() if kind == pa.float64() else draw.randrange(2**31)


def test_pieces_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(7)
    filled = {"segments", "window_id", "producer_id"}
    rows = [
        {one.name: None if one.name not in filled and draw.random() < 0.2 else some(one.type, draw) for one in PAIRS}
        for _ in range(2 * wire._PIECE + 345)
    ]
    batch = pa.RecordBatch.from_pylist(rows, schema=PAIRS)
    in_pieces = wire.copy_bytes(batch.slice(5))
    monkeypatch.setattr(wire, "_PIECE", len(rows))
    assert in_pieces == wire.copy_bytes(pa.RecordBatch.from_pylist(rows[5:], schema=PAIRS))
    assert len(in_pieces) > 100 * len(rows)
