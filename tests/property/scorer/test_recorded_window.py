"""A replay has the sample of the other deployment: the same captures and cells, and so the same probabilities."""

import uuid
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.support.logs import cell, row, seal

from gnomon_consumer.scorer.replay.recorded_window import RecordedWindow, recorded_windows, sealed
from gnomon_consumer.scorer.sealed.window import Tick
from gnomon_schemas.codec import Reader, Record
from gnomon_schemas.records import as_dict
from gnomon_schemas.store import packaged_schemas

NOW = 1_800_000_000_000_000
OWN = {"window_id", "opened_at", "sealed_at", "usage"}
OUTCOMES = {"scored", "failed", "timed_out", "dead_lettered", "probed", "probe_probability"}
Records = list[tuple[str, Record]]
DEAD = {"prediction": None, "error": {"kind": "dead_letter", "message": "framing"}}


@st.composite
def windows(draw: st.DrawFn) -> list[Records]:
    """Draw consecutive windows of one partition: rows in any order, and the seal."""
    found = []
    start = draw(st.integers(0, 5))
    for _ in range(draw(st.integers(1, 4))):
        strata = draw(st.lists(st.sampled_from(["", "a", "b"]), max_size=12))
        window_id, end = str(uuid.UUID(int=2**64 + start)), start + len(strata)
        drawn = draw(st.sampled_from([1.0, 0.5]))
        rows: list[Record] = []
        cells = []
        for stratum in sorted(set(strata)):
            of_stratum = [start + at for at, one in enumerate(strata) if one == stratum]
            sampled = draw(st.sets(st.sampled_from(of_stratum)))
            share: dict[str, Any] = {"inclusion_probability": drawn * len(sampled) / len(of_stratum)}
            mine = [
                row(3, at, f"r{at}", window_id, stratum=stratum or None, rank=draw(st.integers(0, 2**63 - 1)), **share)
                | (DEAD if draw(st.booleans()) else {})
                for at in sampled
            ]
            rows += mine
            claim = cell(mine, len(of_stratum), stratum)
            cells.append(claim | {"draw_probability": drawn, "threshold": draw(st.none() | st.integers(0, 9))})
        gap = {"reason": "hole", "lost": 7} if not strata else None
        end += 7 if gap else 0
        limit = draw(st.sampled_from([None, "budget"]))
        closed = seal(3, start, end, cells, window_id, gap=gap, limited_by=limit, seed=5, policy="drawn")
        shuffled = draw(st.permutations(rows))
        found.append([*(("gnomon.v1.ShadowPrediction", one) for one in shuffled), ("gnomon.v1.SamplingWindow", closed)])
        start = end
    return found


def captures(window: RecordedWindow) -> dict[int, tuple[bytes, bytes]]:
    return {one["source_offset"]: (one["request_id"].encode(), b"capture") for one in window.rows}


@given(windows())
def test_the_same_captures_with_the_same_probabilities(drawn: list[Records]) -> None:
    found = list(recorded_windows(record for window in drawn for record in window))
    assert [as_dict(one.seal) for one in found] == [window[-1][1] for window in drawn]
    for one, records in zip(found, drawn, strict=True):
        assert one.whole
        window = sealed(one, captures(one), NOW, probe_rows=4, allocation="default")
        told = {row["source_offset"]: row for _, row in records[:-1]}
        assert list(window.sample.rows.offsets) == sorted(told)
        for mine in window.sample.rows:
            theirs = told[mine.offset]
            assert mine.key.decode() == theirs["request_id"]
            assert (mine.stratum, mine.rank) == (theirs["stratum"], theirs["rank"])
            assert abs(mine.inclusion_probability - theirs["inclusion_probability"]) < 1e-12
        tick = Tick(
            windows=[window], deadline=0.0, seed=one.seal.seed, policy=one.seal.policy, tick_id=one.seal.tick_id
        )
        written = Reader(packaged_schemas()).decode(window.record(tick)).record
        assert written["window_id"] != one.seal.window_id
        assert (written["opened_at"], written["sealed_at"]) == (NOW, NOW)
        same = {name: value for name, value in as_dict(one.seal).items() if name not in OWN | {"cells"}}
        assert {name: written[name] for name in same} == same
        for mine, theirs in zip(written["cells"], as_dict(one.seal)["cells"], strict=True):
            same = {name: value for name, value in theirs.items() if name not in OUTCOMES}
            assert {name: mine[name] for name in same} == same


@given(windows(), st.data())
def test_what_a_joiner_would_pass_over_is_passed_over(drawn: list[Records], data: st.DataObject) -> None:
    """Rows that were never sealed, and rows and windows that were written twice, are skipped as by the joiner."""
    log: Records = []
    for at, window in enumerate(drawn):
        unsealed = [row(3, n, "ghost", str(uuid.UUID(int=at)), rank=1) for n in range(data.draw(st.integers(0, 2)))]
        log += [("gnomon.v1.ShadowPrediction", one) for one in unsealed]
        log += window[:-1] if data.draw(st.booleans()) else []
        log += window
        log += window if data.draw(st.booleans()) else []
    plain = [(one.seal, one.rows) for one in recorded_windows(record for window in drawn for record in window)]
    assert [(one.seal, one.rows) for one in recorded_windows(log)] == plain


@given(windows(), st.data())
def test_a_window_that_lacks_rows_is_not_whole(drawn: list[Records], data: st.DataObject) -> None:
    """Retention removes from the front: only the first windows may be affected, and they report it."""
    log = [record for window in drawn for record in window]
    gone = data.draw(st.integers(0, len(log)))
    ends = [sum(len(window) for window in drawn[: at + 1]) for at in range(len(drawn))]
    found = list(recorded_windows(log[gone:]))
    kept = [(window, end) for window, end in zip(drawn, ends, strict=True) if end > gone]
    assert [one.whole for one in found] == [end - len(window) >= gone or len(window) == 1 for window, end in kept]
