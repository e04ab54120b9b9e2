"""The merge join against an oracle with both logs at once: any interleaving, torn windows, replays, truncation."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.drawn_logs import VALUES, Live, Logs, logs
from tests.support.logs import FEATURES, START_US, cell, row, seal, start

from gnomon_consumer.joiner.merge.merge_join import ContradictionError, MergeJoin
from gnomon_consumer.joiner.merge.window import JoinedWindow, LiveRun, MergingWindow
from gnomon_consumer.times import HOUR_US
from gnomon_schemas.codec import Codec

CODEC = Codec(FEATURES.live)
UNREAD, FOREIGN = ("score", "truncated"), ("join", "correlation")


def drive(logs: Logs, choose: Callable[[], int]) -> tuple[MergeJoin, list[JoinedWindow]]:
    """Feed both logs in the interleaving that `choose` determines: a number of shadow steps, then of live messages."""
    merge_join = MergeJoin(0)
    shadow, live = list(enumerate(logs.shadow)), list(logs.live)
    done: list[JoinedWindow] = []
    told = False
    while shadow or live or not told:
        for _ in range(min(len(shadow), choose())):
            offset, step = shadow.pop(0)
            merge_join.shadow(offset, step.name, step.record)
        # Also at the end of the shadow log, because a `choose` that is never odd must not wait forever.
        if not told and (choose() % 2 or not shadow):
            merge_join.live_reached(logs.low)
            told = True
        count = min(len(live), choose()) if told else 0
        merge_join.live(live[:count])
        del live[:count]
        done += merge_join.pop_complete()
    merge_join.live_reached(max(logs.low, logs.end))
    return merge_join, done + merge_join.pop_complete()


@settings(max_examples=300, deadline=None)
@given(logs(), st.lists(st.integers(1, 9), min_size=4, max_size=12))
def test_any_interleaving_joins_each_offset_once(logs: Logs, pace: list[int]) -> None:
    turn = iter(range(10**9))
    merge_join, done = drive(logs, lambda: pace[next(turn) % len(pace)])

    assert [(w.seal.start_offset, w.seal.end_offset) for w in done] == [(a, b) for a, b, _ in logs.windows]
    assert merge_join.next_source == logs.end
    for window, (begin, end, chosen) in zip(done, logs.windows, strict=True):
        readable = {message.at for message in logs.live if begin <= message.at < end}
        wrong = (logs.foreign | logs.unread) & chosen & readable
        assert [m.shadow["source_offset"] for m in window.matches] == sorted(chosen & readable - wrong)
        assert [
            (letter.shadow["source_offset"], letter.stage, letter.reason, letter.cell) for letter in window.refusals
        ] == [(o, *(UNREAD if o in logs.unread else FOREIGN), logs.strata[o]) for o in sorted(wrong)]
        assert {r["source_offset"] for _, r in window.orphans} == chosen - readable
        assert window.joined_seen == len(readable)
        if readable == set(range(begin, end)):
            claims = {c.stratum: c.seen for c in window.seal.cells}
            assert dict(window.seen) == claims
        assert window.runs.received.sum() == len(readable)
        assert window.hours.total() == len(readable)
        for match in window.matches:
            assert match.value == VALUES[match.shadow["source_offset"] % 64]
            assert match.cell == (match.shadow["stratum"] or "")
    assert merge_join.idle


@settings(max_examples=100, deadline=None)
@given(logs(), st.data())
def test_a_restart_at_any_window_loses_and_doubles_nothing(logs: Logs, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(logs.windows)))
    progress = logs.windows[cut][0] if cut < len(logs.windows) else logs.end
    merge_join = MergeJoin(0, progress)
    for offset, step in enumerate(logs.shadow):
        merge_join.shadow(offset, step.name, step.record)
    merge_join.live([message for message in logs.live if message.at >= progress])
    merge_join.live_reached(max(logs.low, logs.end))
    assert [w.seal.start_offset for w in merge_join.pop_complete()] == [a for a, _, _ in logs.windows[cut:]]


def opened(*steps: tuple[str, dict[str, Any]], begin: int = 0) -> MergeJoin:
    merge_join = MergeJoin(0)
    for offset, (name, record) in enumerate([("DeploymentStart", start(0, "c", None, start_offset=begin)), *steps]):
        merge_join.shadow(offset, name, record)
    return merge_join


W = str(uuid.UUID(int=1))


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([("SamplingWindow", seal(0, 3, 5, [], W))], r"hole \[0, 3\) that no gap record explains"),
        (
            [("SamplingWindow", seal(0, 0, 3, [], W)), ("SamplingWindow", seal(0, 2, 5, [], W))],
            r"\[2, 5\) straddles 3",
        ),
        ([("ShadowPrediction", row(1, 0, "r0", W))], "source partition 1"),
        ([("SamplingWindow", seal(1, 0, 3, [], W))], "a window of partition 1"),
        (
            [("ShadowPrediction", row(0, 9, "r9", W)), ("SamplingWindow", seal(0, 0, 3, [], W))],
            "offset 9 is outside",
        ),
        ([("Label", {})], "is not allowed"),
    ],
)
def test_contradictions_stop_the_partition(steps: list[tuple[str, dict[str, Any]]], words: str) -> None:
    with pytest.raises(ContradictionError, match=words):
        opened(*steps)


def test_a_log_without_its_beginning_is_refused() -> None:
    with pytest.raises(ContradictionError, match="before any DeploymentStart"):
        MergeJoin(0).shadow(7, "ShadowPrediction", row(0, 0, "r0", W))


def test_another_request_at_the_offset_is_a_correlation_letter() -> None:
    rows = [row(0, 0, "r0", W), row(0, 1, "somebody else", W)]
    merge_join = opened(*(("ShadowPrediction", r) for r in rows), ("SamplingWindow", seal(0, 0, 2, [cell(rows, 2)], W)))
    merge_join.live([Live(0, "r0"), Live(1, "r1")])
    (window,) = merge_join.pop_complete()
    assert [match.shadow["request_id"] for match in window.matches] == ["r0"]
    assert [(letter.reason, letter.shadow["source_offset"]) for letter in window.refusals] == [("correlation", 1)]


def test_what_the_scorer_could_not_read_is_a_letter_not_a_pair() -> None:
    error = {"kind": "dead_letter", "message": "truncated: the message ends within a number"}
    rows = [row(0, 0, "r0", W, prediction=None, error=error)]
    merge_join = opened(*(("ShadowPrediction", r) for r in rows), ("SamplingWindow", seal(0, 0, 1, [cell(rows, 1)], W)))
    merge_join.live([Live(0, "r0", body=b"\xc3\x01broken")])
    (window,) = merge_join.pop_complete()
    assert not window.matches
    (letter,) = window.refusals
    assert (letter.stage, letter.reason, letter.detail) == ("score", "truncated", "the message ends within a number")
    assert window.joined_seen == 1
    assert not window.runs.producers


def test_a_gap_needs_no_live_log() -> None:
    gap = seal(0, 0, 10, [], W, gap={"reason": "expired", "lost": 10}, first_captured_at=None)
    rows = [row(0, 10, "r10", W)]
    merge_join = opened(
        ("SamplingWindow", gap),
        ("ShadowPrediction", rows[0]),
        ("SamplingWindow", seal(0, 10, 11, [cell(rows, 1)], W)),
    )
    assert [w.seal.end_offset for w in merge_join.pop_complete()] == [10]
    merge_join.live([Live(10, "r10")])
    (window,) = merge_join.pop_complete()
    assert len(window.matches) == 1


def test_strata_over_the_limit_are_counted_with_the_rest() -> None:
    cells = [cell([], 1, "a"), cell([], 2, "other")]
    merge_join = opened(("SamplingWindow", seal(0, 0, 3, cells, W)))
    merge_join.live([Live(0, "r0", "a"), Live(1, "r1", "b"), Live(2, "r2", "c")])
    (window,) = merge_join.pop_complete()
    assert dict(window.seen) == {"a": 1, "other": 2}
    assert sum(window.hours.values()) == 3
    assert {hour for hour, _ in window.hours} == {(START_US + n * 1_000_000) // HOUR_US for n in range(3)}


def test_live_messages_ahead_are_held_and_bounded_by_the_caller() -> None:
    merge_join = opened()
    merge_join.live([Live(n, f"r{n}") for n in range(5)])
    merge_join.live([Live(n, f"r{n}") for n in range(3)])  # redelivered
    assert merge_join.held_ahead == 5
    merge_join.shadow(1, "SamplingWindow", seal(0, 0, 4, [cell([], 4)], W))
    assert merge_join.held_ahead == 1
    assert [w.joined_seen for w in merge_join.pop_complete()] == [4]


def test_pieces_read_ahead_of_a_seal_are_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    take = MergingWindow.read

    def counted(window: MergingWindow, run: LiveRun) -> None:
        taken.append(len(run.messages))
        take(window, run)

    monkeypatch.setattr(MergingWindow, "read", counted)
    merge_join = opened()
    for at in range(40):
        merge_join.live([Live(at, f"r{at}")])
    merge_join.shadow(1, "SamplingWindow", seal(0, 0, 30, [cell([], 30)], W))
    merge_join.shadow(2, "SamplingWindow", seal(0, 30, 35, [cell([], 5)], W))
    assert taken == [30, 5]
    assert merge_join.held_ahead == 5
    assert [window.joined_seen for window in merge_join.pop_complete()] == [30, 5]
