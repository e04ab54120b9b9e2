"""Unreadable or harmful captures at every position of a batch: only they fail, and their neighbours are scored."""

from pathlib import Path

from tests.support.live_stream import Stream, await_sealed, outcomes, read_all
from tests.support.servers.process import Gnomon

BATCH = 8
KILLS = (0, BATCH // 2, BATCH - 1)
MODEL = """
import os
import numpy as np

def make():
    def predict(columns):
        amounts = np.asarray(columns["amount"])
        if (amounts == -1.0).any():
            raise RuntimeError("poison")
        if (amounts == -2.0).any():
            os.abort()
        return 3.0 * amounts
    return predict
"""
# One window of everything, cut into batches from its first capture on, so that nothing depends on speed.
SETTINGS = {
    "GNOMON_SCORE__BATCH_ROWS": str(BATCH),
    "GNOMON_SCORE__PROBE_ROWS": "0",
    "GNOMON_SCORE__WORKERS": "2",
    "GNOMON_SCORE__WINDOW_SECONDS": "600",
    "GNOMON_SCORE__MIN_WINDOW_SECONDS": "60",
    "GNOMON_SCORE__DEADLINE_SECONDS": "300",
}


def hostile(live: Stream, at: int) -> bytes:
    """Return bytes that are not a capture of their key, of another kind at each position."""
    good = live.capture("somebody else")
    kinds = (
        b"\x99garbage",
        b"\xc3\x01unknown!body",
        good + b"trailing",
        good,
        good[:30],
        b"\xc3",
        good[:10],
        b"\x00" * 40,
    )
    return kinds[at]


def test_poison_at_every_position_of_a_batch(
    gnomon: Gnomon, kafka_bootstrap: str, stream_name: str, tmp_path: Path
) -> None:
    (tmp_path / "poisoned.py").write_text(MODEL)
    where = ("--stream", stream_name, "--bootstrap-servers", kafka_bootstrap, "--deployment", "boost")
    created = gnomon.enter("topics", "create", *where)
    assert created.returncode == 0, created.stderr
    live = Stream(kafka_bootstrap, stream_name)
    live.publish_schema()
    # For each kind of poison a batch with it at each position, and a batch without any at the end. A kind that kills
    # its worker twice takes seconds, so it is only at the first position, in the middle and at the last.
    kinds = {0: "dead_letter", 1: "exception", 2: "quarantined"}
    places = {
        BATCH * (BATCH * kind + at) + at: kind for kind in kinds for at in range(BATCH) if kind < 2 or at in KILLS
    }
    count = BATCH * (BATCH * len(kinds) + 1)
    live.send(
        count,
        features=lambda i: {"amount": -float(places.get(i) or 0) or float(i)},
        values={place: hostile(live, place % BATCH) for place, kind in places.items() if kind == 0},
        partition=lambda _: 1,
    )
    process = gnomon.start(
        *("score", *where, "--model", "poisoned:make", "--member", "a", "--no-sampling"),
        env=SETTINGS | {"GNOMON_SCORE__WINDOW_CAPTURES": str(count)},
    )
    log = await_sealed(kafka_bootstrap, stream_name, "boost", count, 120)
    assert process.terminate(15) == 0, process.output
    assert [(window["start_offset"], window["end_offset"]) for window in log[1].windows] == [(0, count)]
    found = {offset: row for (_, offset), row in outcomes(log).items()}
    assert {offset: row["error"]["kind"] for offset, row in found.items() if row["error"]} == {
        place: kinds[kind] for place, kind in places.items()
    }
    answers = {offset: row["prediction"]["value"] for offset, row in found.items() if not row["error"]}
    assert answers == {offset: 3.0 * offset for offset in range(count) if offset not in places}
    # They did share batches: the readable captures next to the unreadable kind remain.
    assert {found[offset]["batch_size"] for offset in range(BATCH * BATCH) if offset not in places} == {BATCH - 1}
    assert {found[offset]["batch_size"] for offset in range(count - BATCH, count)} == {BATCH}
    letters = [one for several in read_all(kafka_bootstrap, f"gnomon.{stream_name}.dlq").values() for one in several]
    addressed = {
        tuple(dict(one.headers())[f"source.{part}"].decode() for part in ("topic", "partition", "offset"))
        for one in letters
    }
    assert addressed == {(live.live, "1", str(place)) for place, kind in places.items() if kind == 0}
    assert len(letters) == BATCH
    assert {one.key().decode() for one in letters} == {found[place]["request_id"] for place in places if place < 64}
