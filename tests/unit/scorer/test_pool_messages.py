"""The pool's checks of a worker whose model may have written into its pipe."""

import dataclasses
import io
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gnomon_consumer.scorer.captures import Row, Rows
from gnomon_consumer.scorer.pool import messages
from gnomon_consumer.scorer.pool.jobs import Finished, Job
from gnomon_consumer.scorer.pool.messages import OUTCOME
from gnomon_consumer.scorer.worker import pipe
from gnomon_consumer.scorer.worker.encoding import encode, encode_batch
from gnomon_consumer.scorer.worker.models.base import Answers
from gnomon_schemas.codec import Reader, Record
from gnomon_schemas.records import Artefact, Failure, FailureKind, FeatureState, Prediction, as_dict
from gnomon_schemas.store import packaged_schemas

MODEL = Artefact("challenger", "1", "a" * 64)
ROWS = Rows.of([Row(3, 10 + at, b"r%d" % at, b"capture", "JFK", at, 0.25) for at in range(3)])
COST: dict[str, Any] = {"seconds": 1.5, "cpu_us": 7, "peak_rss_bytes": 9, "gpu_us": None, "gpu_peak_bytes": 4}
HEADER = COST | {"dead": []}
SAID: dict[str, Any] = {"request_id": "r1", "scored_at": 5, "latency_us": 3, "batch_size": 3, "queued_us": 2}


def job(careful: bool = False) -> Job:
    return Job(window_id="w", partition=3, sealed_at=0, rows=ROWS, places=np.arange(3), single=False, careful=careful)


def answered(rows: Rows = ROWS, window: str = "w", **changes: Any) -> list[bytes]:
    """Return outcomes as a worker writes them, one by one."""
    said = SAID | changes
    lines = [
        encode(row, window, as_dict(MODEL), Prediction(value=1.0), **(said | {"request_id": row.key.decode()}))
        for row in rows
    ]
    return [bytes(len(lines)), *pipe.joined(lines)]


def columns(**changes: Any) -> tuple[dict[str, Any], list[bytes]]:
    """Return outcomes as a worker returns them together."""
    told: dict[str, Any] = {
        "request_ids": pa.array(["r0", "r1", "r2"]), "scored_at": 5, "latency_us": [1, 2, 3], "batch_size": 3,
        "queued_us": 0, "feature_state": FeatureState("v1", 1, 2),
    }  # fmt: skip
    answers = Answers(3, value=np.array([0.1, 0.2, 0.3]), label=["a", "b", "c"], scores=[[0.5], [], [0.5, 0.5]])
    answers.failures = {1: Failure(FailureKind.MODEL_ERROR, "no")}
    found = encode_batch(ROWS, "w", as_dict(MODEL), answers, **(told | changes)).columns
    assert found is not None
    present, buffers = pipe.taken_apart(found)
    return HEADER | {"present": present}, buffers


def records(found: Finished) -> list[Record]:
    return [Reader(packaged_schemas()).decode(one.message).record for one in found.scored]


def test_an_answer_in_columns_gets_the_scorers_own_coordinates() -> None:
    found = messages.finished(job(), MODEL, *columns())
    assert [one.status for one in found.scored] == ["scored", "failed", "scored"]
    first, second, third = records(found)
    assert (first["source_partition"], first["source_offset"], first["request_id"]) == (3, 10, "r0")
    assert (first["rank"], first["inclusion_probability"], first["stratum"]) == (0, 0.25, "JFK")
    assert (third["window_id"], third["model"]["sha256"], third["prediction"]["scores"]) == ("w", "a" * 64, [0.5, 0.5])
    assert (second["prediction"], second["error"]["kind"]) == (None, "model_error")
    assert (found.seconds, found.cpu_us, found.peak_rss_bytes) == (1.5, 7, 9)
    assert (found.gpu_us, found.gpu_peak_bytes) == (None, 4)


def test_outcomes_that_a_worker_has_written_are_taken_where_they_are_those_asked_for() -> None:
    found = messages.finished(job(), MODEL, HEADER | {"present": []}, answered())
    assert [one.status for one in found.scored] == ["scored"] * 3
    dead = answered()
    lines = pipe.parted(*dead[1:]).to_pylist()
    lines[1] = encode(ROWS[1], "w", as_dict(MODEL), Failure(FailureKind.DEAD_LETTER, "x"), request_id="r1", scored_at=5)
    said = HEADER | {"present": [], "dead": [[1, "framing", "no header"]]}
    found = messages.finished(job(), MODEL, said, [bytes(3), *pipe.joined(lines)])
    assert (found.scored[1].status, found.scored[1].reason) == ("dead_lettered", "framing")


def _other(**changes: Any) -> list[bytes]:
    return answered(Rows.of([ROWS[0]._replace(**changes), ROWS[1], ROWS[2]]))


FORGED: dict[str, list[bytes]] = {
    "nothing": [],
    "too few buffers": answered()[:2],
    "garbage": [bytes(3), *pipe.joined([OUTCOME + b"garbage"] * 3)],
    "another record": [bytes(3), *pipe.joined([b"\xc3\x01a window, for instance"] * 3)],
    "trailing bytes": [bytes(3), *pipe.joined([one + b"\0" for one in pipe.parted(*answered()[1:]).to_pylist()])],
    "a row less": answered(ROWS.cut(0, 2)),
    "swapped rows": answered(ROWS.select(np.array([1, 0, 2]))),
    "a row twice": answered(ROWS.select(np.array([0, 0, 2]))),
    "another row's offset": _other(offset=99),
    "another partition": answered(dataclasses.replace(ROWS, partition=4)),
    "another request": _other(key=b"r9"),
    "another rank": _other(rank=7),
    "another stratum": _other(stratum=None),
    "a probability of 1e-9": _other(inclusion_probability=1e-9),
    "another window": answered(window="v"),
    "a time beyond all calendars": answered(scored_at=2**62),
    "a latency below nothing": answered(latency_us=-1),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_answer_is_none(what: str) -> None:
    with pytest.raises(pipe.WireError):
        messages.finished(job(), MODEL, HEADER | {"present": []}, FORGED[what])


@pytest.mark.parametrize("at", range(12))
@pytest.mark.parametrize("how", ["short", "garbage", "missing"])
def test_columns_that_do_not_hold_what_they_announce_are_none(at: int, how: str) -> None:
    header, buffers = columns()
    if how == "missing":
        header["present"] = header["present"][:-1]
    else:
        buffers[at] = buffers[at][:-3] if how == "short" else b"\xff" * len(buffers[at])
    try:
        found = messages.finished(job(), MODEL, header, buffers)
    except pipe.WireError:
        return
    # An accepted answer is one to the requested rows, whatever its content.
    assert [one["source_offset"] for one in records(found)] == [10, 11, 12]


@pytest.mark.parametrize(
    "changes",
    [
        {"dead": [[0, "framing", "x"]]},
        {"dead": [[9, "framing", "x"]]},
        {"dead": [["x"]]},
        {"dead": 1},
        {"present": [1]},
        {"present": 7},
        *({name: 10**40} for name in COST),
        *({name: "1"} for name in COST),
        {"seconds": float("nan")},
        {"cpu_us": -1},
        {"cpu_us": None},
    ],
)
def test_what_does_not_fit_is_no_answer(changes: dict[str, Any]) -> None:
    header, buffers = columns()
    with pytest.raises(pipe.WireError):
        messages.finished(job(), MODEL, header | changes, buffers)


def test_a_prediction_that_is_not_finite_is_no_answer() -> None:
    header, buffers = columns()
    at = next(at for at, one in enumerate(buffers) if one[:8] == np.float64(0.1).tobytes())
    buffers[at] = np.array([np.nan, 0.2, 0.3]).tobytes()
    with pytest.raises(pipe.WireError, match="not finite"):
        messages.finished(job(), MODEL, header, buffers)


@pytest.mark.parametrize("name", HEADER)
def test_nothing_may_be_missing(name: str) -> None:
    header, buffers = columns()
    with pytest.raises(pipe.WireError):
        messages.finished(job(), MODEL, {key: value for key, value in header.items() if key != name}, buffers)


def test_a_frame_that_announces_gigabytes_is_refused_before_they_are_asked_for() -> None:
    for prefix in (struct.pack("<II", 2**31, 0), struct.pack("<III", 2, 1, 2**32 - 1), struct.pack("<II", 2, 2**20)):
        with pytest.raises(pipe.WireError, match=r"too large|announces more"):
            pipe.read(io.BytesIO(prefix + b"{}"), 2**20)


def test_progress_only_goes_forward_and_only_row_by_row() -> None:
    assert messages.progress(job(careful=True), 0, {"row": 1}) == 1
    for careful, row in ((True, 0), (True, 3), (True, -1), (True, "1"), (True, None), (False, 1)):
        with pytest.raises(pipe.WireError):
            messages.progress(job(careful=careful), 0, {"row": row})


def test_a_sandbox_is_an_object_or_nothing() -> None:
    assert messages.sandbox({"sandbox": {"network": "none"}}) == {"network": "none"}
    assert messages.sandbox({}) == messages.sandbox({"sandbox": 3}) == {}
