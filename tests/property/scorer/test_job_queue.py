"""The order of jobs: probes never run next to batches, and every job is executed."""

from collections import deque

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gnomon_consumer.scorer.captures import Rows
from gnomon_consumer.scorer.pool.jobs import Job, JobQueue

NOTHING, NOWHERE = Rows.of([]), np.empty(0, np.int64)


def job(name: int, single: bool) -> Job:
    return Job(window_id=str(name), partition=0, sealed_at=0, rows=NOTHING, places=NOWHERE, single=single)


# A new probe or batch; the oldest running job is done, or has killed its worker; a window is cancelled.
EVENTS = st.lists(st.sampled_from(["probe", "batch", "done", "died", "cancel"]), max_size=60)


@given(EVENTS, st.integers(1, 4))
def test_probes_and_batches_take_turns_and_nothing_is_lost(events: list[str], workers: int) -> None:
    turns = JobQueue()
    at_work: deque[Job] = deque()
    given_out: dict[str, int] = {}
    waited: dict[str, int] = {}  # how often the turn changed while a job waited
    waiting: dict[str, bool] = {}
    turn: bool | None = None
    for number, event in enumerate(events):
        if event in ("probe", "batch"):
            turns.add_job(job(number, event == "probe"))
            waiting[str(number)], waited[str(number)] = event == "probe", 0
        elif event == "done" and at_work:
            at_work.popleft()
        elif event == "died" and at_work:
            turns.give_back(back := at_work.popleft())
            waiting[back.window_id] = back.single
        elif event == "cancel" and waiting:
            turns.forget({gone := next(iter(waiting))})
            del waiting[gone]
        assert len(turns) == len(waiting)
        while len(at_work) < workers and (taken := turns.pop(at_work=bool(at_work))) is not None:
            del waiting[taken.window_id]
            given_out[taken.window_id] = given_out.get(taken.window_id, 0) + 1
            if taken.single != turn:
                turn = taken.single
                for name in waiting:
                    waited[name] += 1
            at_work.append(taken)
        assert len({one.single for one in at_work}) <= 1
        assert at_work or not waiting, "everybody waits for nobody"
    # Neither kind is overtaken twice.
    assert all(changes <= 2 for changes in waited.values())


def test_a_steady_stream_of_one_kind_does_not_starve_the_other() -> None:
    turns = JobQueue()
    turns.add_job(job(0, True))
    turns.add_job(job(1, True))
    order = []
    turns.add_job(job(2, False))
    for number in range(3, 8):
        taken = turns.pop(at_work=False)
        assert taken is not None
        order.append(taken.window_id)
        turns.add_job(job(number, True))
    assert order == ["0", "1", "2", "3", "4"]
