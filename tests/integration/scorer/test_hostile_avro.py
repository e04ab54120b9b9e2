"""Captures that claim to be enormous: a worker under its memory limit refuses them, and the scorer does not grow."""

import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from tests.support.live_stream import Stream, status

from gnomon_consumer.scorer.captures import Row, Rows
from gnomon_consumer.scorer.pool.jobs import Finished, Job
from gnomon_consumer.scorer.pool.pool import Pool
from gnomon_consumer.scorer.worker import models
from gnomon_consumer.scorer.worker.sandbox import Limits
from gnomon_schemas.codec import Reader
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.store import packaged_schemas

FEATURES = FeatureSchema.of(
    {
        "amount": "double",
        "age": ["null", "double"],
        "visits": "int",
        "country": "string",
        "recent": {"type": "array", "items": "double"},
    }
)
MODEL = "def make():\n    return lambda columns: columns['amount']\n"
GROWTH = 64 * 2**20


def long(value: int) -> bytes:
    """Return Avro's zigzag variable-length integer."""
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


class Bombs:
    """Hostile variants of one good capture, made by replacing a length or a count in its bytes."""

    def __init__(self) -> None:
        self.stream = Stream("127.0.0.1:1", "none", FEATURES)

    def good(self, key: str) -> bytes:
        return self.stream.capture(key, recent=[0.25])

    def cut(self, key: str, old: bytes, new: bytes) -> bytes:
        capture = self.good(key)
        assert capture.count(old) == 1, (old, capture)
        return capture.replace(old, new)

    def all(self, key: str) -> dict[str, bytes]:
        """Return all variants by name; each keeps the key."""
        country, recent = long(2) + b"NZ", long(1) + b"\x00\x00\x00\x00\x00\x00\xd0\x3f" + long(0)
        good = self.good(key)
        return {
            "a string of 2^40 bytes": self.cut(key, country, long(2**40) + b"NZ"),
            "a string of negative length": self.cut(key, country, long(-2) + b"NZ"),
            "an array of 2^60 numbers": self.cut(key, recent, long(2**60) + recent[1:]),
            "a block of negative count and enormous size": self.cut(key, recent, long(-(2**60)) + long(2**60)),
            "a megabyte after the end": self.cut(key, recent, b"\x00" * 1_000_000),
            "a map of 2^60 segments": self.cut(key, b"\x00\x00\x00\x08live", b"\x00" + long(2**60) + b"\x00\x08live"),
            "an integer that never ends": good[:10] + b"\xff" * 100_000,
            "nothing but length": good[:10] + long(2**62),
            "a body of 20 MB": good + bytes(20 * 2**20),
        }


@pytest.mark.parametrize("batch", [True, False], ids=["columnar", "one by one"])
def test_bombs_are_dead_letters_and_the_scorer_does_not_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "amounts.py").write_text(MODEL)
    bombs = Bombs()
    names: list[str | None] = []
    rows: list[Row] = []
    for name, value in bombs.all("bomb").items():
        for what, key, message in ((None, f"good-{name}", bombs.good(f"good-{name}")), (name, "bomb", value)):
            names.append(what)
            rows.append(Row(0, len(rows), key.encode(), message, None, len(rows), 1.0))
    pool = Pool(1, models.describe("amounts:make"), Limits(memory_bytes=2**30), call_seconds=20.0)
    before = psutil.Process().memory_info().rss
    try:
        pool.start(FEATURES.live)
        pool.submit(
            Job(
                window_id="w",
                partition=0,
                sealed_at=0,
                rows=Rows.of(rows),
                places=np.arange(len(rows)),
                single=not batch,
            )
        )
        done: list[Finished] = []
        deadline = time.monotonic() + 150
        while sum(len(one.places) for one in done) < len(rows):
            assert time.monotonic() < deadline, "the pool never finished"
            done += pool.poll(wait=0.05)
    finally:
        pool.close()
    assert psutil.Process().memory_info().rss - before < GROWTH
    reader = Reader(packaged_schemas())
    outcomes = {
        place: reader.decode(scored.message).record
        for one in done
        for place, scored in zip(one.places, one.scored, strict=True)
    }
    found = {name: status(outcomes[at]) for at, name in enumerate(names) if name is not None}
    assert found == dict.fromkeys(bombs.all("bomb"), "dead_lettered")
    assert {status(outcomes[at]) for at, name in enumerate(names) if name is None} == {"scored"}
    assert max(one.peak_rss_bytes for one in done) < 2**30
