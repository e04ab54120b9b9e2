"""The latency probe: one row at a time, and no batch at the same time in another worker."""

import time
from pathlib import Path

import numpy as np
import pytest
from tests.support.live_stream import FEATURES, Stream

from gnomon_consumer.scorer.captures import Row, Rows
from gnomon_consumer.scorer.pool.jobs import Finished, Job
from gnomon_consumer.scorer.pool.pool import Pool
from gnomon_consumer.scorer.worker import models
from gnomon_consumer.scorer.worker.sandbox import Limits
from gnomon_schemas.codec import Reader
from gnomon_schemas.store import packaged_schemas

# The answer is the start time of the call, on a clock that all processes share.
MODEL = """
import time
def make():
    def predict(columns):
        began = time.monotonic()
        time.sleep(SECONDS)
        return [began] * len(columns["amount"])
    return predict
"""
SECONDS = 0.02


def test_probes_and_batches_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slow.py").write_text(f"SECONDS = {SECONDS}\n{MODEL}")
    stream = Stream("127.0.0.1:1", "none")
    pool = Pool(2, models.describe("slow:make"), Limits(memory_bytes=2**30), call_seconds=20.0)
    done: list[Finished] = []
    try:
        pool.start(FEATURES.live)
        for number, single in enumerate([True, False, False, True, False, True, True, False]):
            keys = [f"{number}/{row}" for row in range(6)]
            rows = [Row(0, at, key.encode(), stream.capture(key), None, at, 1.0) for at, key in enumerate(keys)]
            pool.submit(
                Job(
                    window_id=f"w{number}",
                    partition=0,
                    sealed_at=0,
                    rows=Rows.of(rows),
                    places=np.arange(6),
                    single=single,
                )
            )
        deadline = time.monotonic() + 150
        while pool.busy:
            assert time.monotonic() < deadline, "the pool never finished"
            done += pool.poll(wait=0.05)
        done += pool.poll()
    finally:
        pool.close()
    reader = Reader(packaged_schemas())
    calls: dict[bool, set[float]] = {True: set(), False: set()}
    for one in done:
        for scored in one.scored:
            outcome = reader.decode(scored.message).record
            assert outcome["batch_size"] == (1 if one.job.single else 6)
            calls[one.job.single].add(outcome["prediction"]["value"])
    assert (len(calls[True]), len(calls[False])) == (4 * 6, 4)
    assert all(abs(probe - batch) >= SECONDS for probe in calls[True] for batch in calls[False])
