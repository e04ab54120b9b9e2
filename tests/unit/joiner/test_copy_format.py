"""The bytes of COPY do not depend on the number of pieces."""

import random
from typing import Any

import pyarrow as pa
import pytest

from gnomon_consumer.joiner.pairs import copy_format
from gnomon_consumer.joiner.pairs.assemble import PAIRS

FILLED = {"segments", "window_id", "producer_id"}


def some(kind: pa.DataType, draw: random.Random) -> object:
    if kind in (pa.string(), pa.binary(16)):
        return draw.randbytes(16) if kind == pa.binary(16) else "ä" * draw.randrange(9)
    if pa.types.is_list(kind):
        return [some(kind.value_type, draw) for _ in range(draw.randrange(5))]
    return draw.random() if kind == pa.float64() else draw.randrange(2**31)


def test_pieces_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(7)
    rows = [
        {one.name: None if one.name not in FILLED and draw.random() < 0.2 else some(one.type, draw) for one in PAIRS}
        for _ in range(2 * copy_format._PIECE + 345)
    ]
    batch = pa.RecordBatch.from_pylist(rows, schema=PAIRS)
    in_pieces = copy_format.copy_bytes(batch.slice(5))
    monkeypatch.setattr(copy_format, "_PIECE", len(rows))
    assert in_pieces == copy_format.copy_bytes(pa.RecordBatch.from_pylist(rows[5:], schema=PAIRS))
    assert len(in_pieces) > 100 * len(rows)


EMPTY = {one.name: "" if one.type == pa.string() else bytes(16) for one in PAIRS if one.name in FILLED}


def by_the_encoder(name: str, lists: list[Any], monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, bytes]:
    """Return the COPY bytes of a column of lists, and the encoder's own bytes; also for a part of a batch."""
    rows = pa.RecordBatch.from_pylist([{**EMPTY, name: one} for one in lists], schema=PAIRS)
    batch = rows.slice(1) if rows.num_rows > 1 else rows
    made = copy_format.copy_bytes(batch)
    for ours in ("_numbers", "_texts"):
        monkeypatch.setattr(copy_format, ours, lambda column: column)
    return made, copy_format.copy_bytes(batch)


@pytest.mark.parametrize(
    "lists",
    [
        [["alpha", "", "ä\U0001f600"], ["b" * 300, "c", ""]] * 700,
        [["a", None], [None, "b"], [None, None]],
        [["a"], ["b", "c"]],
        [[], []],
        [["a", "b"], None],
        [None],
        [],
    ],
)
def test_texts_are_what_the_encoder_makes_of_them(monkeypatch: pytest.MonkeyPatch, lists: list[Any]) -> None:
    made, expected = by_the_encoder("features_text", lists, monkeypatch)
    assert made == expected


@pytest.mark.parametrize(
    "lists",
    [
        [[1.5, -0.0, float("nan")], [float("inf"), 1e-320, 2.0]] * 700,
        [[1.5, None], [2.0, 3.0]],
        [[1.5], [2.0, 3.0], [1.0, 2.0, 3.0]],
        [[], []],
        [[1.5, 2.0], None],
        [],
    ],
)
def test_numbers_are_what_the_encoder_makes_of_them(monkeypatch: pytest.MonkeyPatch, lists: list[Any]) -> None:
    made, expected = by_the_encoder("features_numeric", lists, monkeypatch)
    assert made == expected
