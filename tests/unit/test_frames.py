"""What the pool believes of a worker whose model may have got hold of its pipe."""

from typing import Any

import numpy as np
import pytest

from gnomon_consumer.scorer import frames, wire
from gnomon_consumer.scorer.frames import OUTCOME
from gnomon_consumer.scorer.jobs import Job
from gnomon_consumer.scorer.rows import Row, Rows

ROWS = Rows.of([Row(0, at, b"r", b"capture", None, at, 1.0) for at in range(3)])
COST: dict[str, Any] = {"seconds": 1.5, "cpu_us": 7, "peak_rss_bytes": 9, "gpu_us": None, "gpu_peak_bytes": 4}
HEADER = COST | {"dead": []}
MESSAGES = [OUTCOME + b"body"] * 3


def job(careful: bool = False) -> Job:
    return Job("w", 0, 0, ROWS, np.arange(3), single=False, careful=careful)


def blobs(codes: bytes = bytes(3), messages: list[bytes] = MESSAGES) -> list[bytes]:
    return [codes, *wire.joined(messages)]


def test_an_answer_that_fits_is_taken() -> None:
    dead = {"dead": [[1, "framing", "no header"]]}
    found = frames.finished(job(), HEADER | dead, blobs(b"\0\3\2"))
    assert [one.status for one in found.scored] == ["scored", "dead_lettered", "timed_out"]
    assert (found.scored[1].reason, found.scored[1].detail) == ("framing", "no header")
    assert (found.seconds, found.cpu_us, found.peak_rss_bytes) == (1.5, 7, 9)
    assert (found.gpu_us, found.gpu_peak_bytes) == (None, 4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({}, blobs()[:2]),
        ({}, blobs(b"")),
        ({}, blobs(b"\0\0\4")),
        ({}, blobs(bytes(2), MESSAGES[:2])),
        ({}, blobs(messages=[*MESSAGES[:2], b"\xc3\x01a window, for instance"])),
        ({}, blobs(b"\0\0\3")),
        ({"dead": [[0, "framing", "x"]]}, blobs()),
        ({"dead": [[9, "framing", "x"]]}, blobs(b"\0\0\3")),
        ({"dead": [["x"]]}, blobs()),
        ({"dead": 1}, blobs()),
        *(({name: 10**40}, blobs()) for name in COST),
        *(({name: "1"}, blobs()) for name in COST),
        ({"seconds": float("nan")}, blobs()),
        ({"cpu_us": -1}, blobs()),
        ({"cpu_us": None}, blobs()),
    ],
)
def test_what_does_not_fit_is_no_answer(changes: dict[str, Any], said: list[bytes]) -> None:
    with pytest.raises(wire.WireError):
        frames.finished(job(), HEADER | changes, said)


@pytest.mark.parametrize("name", HEADER)
def test_nothing_may_be_missing(name: str) -> None:
    with pytest.raises(wire.WireError):
        frames.finished(job(), {key: value for key, value in HEADER.items() if key != name}, blobs())


def test_progress_only_goes_forward_and_only_row_by_row() -> None:
    assert frames.progress(job(careful=True), 0, {"row": 1}) == 1
    for careful, row in ((True, 0), (True, 3), (True, -1), (True, "1"), (True, None), (False, 1)):
        with pytest.raises(wire.WireError):
            frames.progress(job(careful=careful), 0, {"row": row})


def test_a_sandbox_is_an_object_or_nothing() -> None:
    assert frames.sandbox({"sandbox": {"network": "none"}}) == {"network": "none"}
    assert frames.sandbox({}) == frames.sandbox({"sandbox": 3}) == {}
