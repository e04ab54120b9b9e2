"""Races in the pool's bookkeeping."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from tests.support.live_stream import FEATURES, Stream, sum_model

from gnomon_consumer.scorer.captures import Row, Rows
from gnomon_consumer.scorer.pool import pool as pool_module
from gnomon_consumer.scorer.pool.jobs import Finished, Job
from gnomon_consumer.scorer.pool.pool import Pool
from gnomon_consumer.scorer.worker import models
from gnomon_consumer.scorer.worker.sandbox import Limits
from gnomon_schemas.codec import Reader
from gnomon_schemas.store import packaged_schemas

ROWS = 3


def job(window: str, **features: object) -> Job:
    stream = Stream("127.0.0.1:1", "none")
    names = [f"{window}-{number}" for number in range(ROWS)]
    rows = [
        Row(0, place, name.encode(), stream.capture(name, **features), None, place, 1.0)
        for place, name in enumerate(names)
    ]
    return Job(window_id=window, partition=0, sealed_at=0, rows=Rows.of(rows), places=np.arange(ROWS), single=False)


@pytest.mark.timeout(300)
def test_the_answer_to_a_cancelled_job_is_never_the_next_jobs(tmp_path: Path) -> None:
    pool = Pool(1, models.describe(str(sum_model(tmp_path / "sum.onnx", "amount"))), Limits(2**31), call_seconds=60.0)
    try:
        pool.start(FEATURES.live)
        pool.submit(job("cancelled"))
        assert pool.poll() == []
        while pool._events.empty():  # the worker has answered, but the answer is not read yet
            time.sleep(0.001)
        pool.cancel({"cancelled"})
        pool.submit(job("wanted"))
        done: list[Finished] = []
        while not done:
            done = pool.poll(wait=0.05)
    finally:
        pool.close()
    assert [one.job.window_id for one in done] == ["wanted"]
    reader = Reader(packaged_schemas())
    found = [reader.decode(message).record for message in done[0].scored.messages]
    assert [(one["window_id"], one["request_id"]) for one in found] == [
        ("wanted", f"wanted-{number}") for number in range(ROWS)
    ]


FOREST = """
import numpy as np
from joblib import Parallel, delayed
from sklearn.ensemble import RandomForestClassifier

def make():
    model = RandomForestClassifier(3, n_jobs=-1).fit(np.arange(8.0)[:, None], np.arange(8) % 2)
    def predict(columns):
        Parallel(n_jobs=2)(delayed(float)(number) for number in range(3))
        return model.predict_proba(np.asarray(columns["amount"])[:, None])[:, 1]
    return predict
"""


@pytest.mark.timeout(300)
def test_a_forest_scores_without_a_word_of_joblibs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "forest.py").write_text(FOREST)
    pool = Pool(1, models.describe("forest:make"), Limits(2**32), call_seconds=60.0)
    try:
        pool.start(FEATURES.live)
        pool.submit(job("forest"))
        done: list[Finished] = []
        while not done:
            done = pool.poll(wait=0.05)
    finally:
        pool.close()
    assert [one.status for one in done[0].scored] == ["scored"] * ROWS
    said = "".join(capfd.readouterr())
    assert "joblib" not in said
    assert "worker output" not in said


HANGS = """
import time
def make():
    def predict(columns):
        time.sleep(600 if 666.0 in list(columns["amount"]) else 0)
        return columns["amount"]
    return predict
"""


@pytest.mark.timeout(300)
def test_a_worker_that_hangs_below_a_stopped_keeper_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pool_module, "KEEPER_SECONDS", 0.5)
    (tmp_path / "hangs.py").write_text(HANGS)
    pool = Pool(1, models.describe("hangs:make"), Limits(2**30), call_seconds=1.0)
    try:
        pool.start(FEATURES.live)
        first = pool.pids
        os.kill(first[0], signal.SIGSTOP)
        pool.submit(job("hung", amount=666.0))
        done: list[Finished] = []
        while sum(len(one.places) for one in done) < ROWS:
            done += pool.poll(wait=0.05)
        assert set(pool.pids).isdisjoint(first)
    finally:
        pool.close()
    assert {scored.status for one in done for scored in one.scored} == {"timed_out"}


FORGES = """
import contextlib, os, stat
from gnomon_consumer.scorer.worker import pipe as frames

def make():
    def predict(columns):
        if 666.0 in list(columns["amount"]):
            for number in range(3, 64):  # in the worker's place, through whatever pipe it has
                with contextlib.suppress(OSError):
                    if stat.S_ISFIFO(os.fstat(number).st_mode):
                        with os.fdopen(os.dup(number), "wb") as sink:
                            frames.write(sink, SAYS)
        return columns["amount"]
    return predict
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("says", [{"op": "done"}, {"op": "ready"}], ids=str)
def test_a_model_that_answers_in_its_workers_place_is_quarantined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: dict[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "forges.py").write_text(f"SAYS = {says!r}\n{FORGES}")
    pool = Pool(1, models.describe("forges:make"), Limits(2**30), call_seconds=20.0)
    rows = [one for amount in (1.0, 666.0, 2.0) for one in job(f"a{amount:.0f}", amount=amount).rows][::ROWS]
    try:
        pool.start(FEATURES.live)
        pool.submit(
            Job(
                window_id="forged",
                partition=0,
                sealed_at=0,
                rows=Rows.of(rows),
                places=np.arange(len(rows)),
                single=False,
            )
        )
        done: list[Finished] = []
        while sum(len(one.places) for one in done) < len(rows):
            done += pool.poll(wait=0.05)
    finally:
        pool.close()
    found = {int(place): scored for one in done for place, scored in zip(one.places, one.scored, strict=True)}
    assert {place: scored.status for place, scored in found.items()} == {0: "scored", 1: "failed", 2: "scored"}
    assert Reader(packaged_schemas()).decode(found[1].message).record["error"]["kind"] == "quarantined"
