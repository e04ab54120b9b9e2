"""The whole pipeline as processes: live service, scorers, joiner; and the audit of the result."""

import signal
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import psycopg

from gnomon_producer import Tap
from gnomon_schemas.topics import Topics
from tests.support.live_stream import audit, outcomes, read_all, status
from tests.support.ranks import ranker
from tests.support.servers.process import Gnomon, GnomonProcess

DEPLOYMENT = "challenger"
CAPTURES = 100_000
# The joiner is at most this many captures behind, so that the kills occur during steady work and not at its end.
LEAD = 10_000
SEED = 7
# Small windows and a budget below the arrival rate: many transactions to be killed in, and captures sampled out.
SETTINGS = {
    "GNOMON_SCORE__SEED": str(SEED),
    "GNOMON_SCORE__WINDOW_CAPTURES": "1500",
    "GNOMON_SCORE__WINDOW_SECONDS": "1",
    "GNOMON_SCORE__BUDGET_ROWS_PER_SECOND": "4000",
}
# A killed member is detected sooner than by default, so that the test spends its time on work.
QUICK_GROUP = ("-X", "session.timeout.ms=4000", "-X", "heartbeat.interval.ms=500")
Place = tuple[int, int]
"""Partition and offset of a capture."""


class Pipeline:
    """One scorer and one joiner of a stream, and the joiner's progress in the database."""

    def __init__(self, gnomon: Gnomon, bootstrap: str, database_url: str, stream: str, model: Path) -> None:
        self.gnomon = gnomon
        self.database_url = database_url
        self.model = model
        self.env = SETTINGS | {
            "GNOMON_BOOTSTRAP_SERVERS": bootstrap,
            "GNOMON_DATABASE_URL": database_url,
            "GNOMON_STREAM": stream,
        }

    def score(self, *more: str) -> GnomonProcess:
        """Start the scorer."""
        model = ("--model", self.model, "--member", "a")
        return self.gnomon.start("score", "--deployment", DEPLOYMENT, *model, *QUICK_GROUP, *more, env=self.env)

    def join(self) -> GnomonProcess:
        """Start the joiner."""
        return self.gnomon.start("join", "--deployment", DEPLOYMENT, *QUICK_GROUP, env=self.env)

    def joined(self) -> int:
        """Return the number of captures up to which the database is joined."""
        with psycopg.connect(self.database_url) as connection:
            row = connection.execute(
                "SELECT coalesce(sum(next_source_offset - start_offset), 0)::bigint FROM gnomon.join_progress"
            ).fetchone()
        assert row is not None
        return int(row[0])

    def await_joined(self, wanted: int, service: "LiveService", *running: GnomonProcess, timeout: float = 120.0) -> int:
        """Keep the live service busy until `wanted` captures are joined; return the number of joined captures then.

        A process that ends meanwhile fails the test.
        """
        deadline = time.monotonic() + timeout
        while (joined := self.joined()) < wanted:
            service.serve_up_to(joined + LEAD)
            for process in running:
                assert process.popen.poll() is None, process.output
            assert time.monotonic() < deadline, f"stuck at {joined} of {wanted}:\n" + "\n\n".join(
                process.output[-4000:] for process in running
            )
            time.sleep(0.02)
        return joined

    def kill_at_work(self, victim: GnomonProcess, service: "LiveService") -> None:
        """Kill a process with SIGKILL while it has work: new captures, of which the database lacks some.

        This is checked while the process is stopped, so it is also true at its death.
        """
        for _ in range(LEAD // 1000):
            service.serve_up_to(service.served + 1000)
            victim.send(signal.SIGSTOP)
            if self.joined() < service.served:
                assert service.served < CAPTURES
                assert victim.kill() == -9
                return
            victim.send(signal.SIGCONT)
        raise AssertionError(f"{victim} joins whatever is served at once")


class LiveService:
    """Requests answered one after the other, with the hook around them."""

    def __init__(self, tap: Tap) -> None:
        self.tap = tap
        self.served = 0

    def serve_up_to(self, wanted: int) -> None:
        """Answer requests until `wanted` (at most CAPTURES) are answered, no faster than the hook can deliver."""
        for number in range(self.served, min(wanted, CAPTURES)):
            if number % 1000 == 0:
                while self.tap.stats().in_flight > 20_000:
                    time.sleep(0.005)
            features = {"amount": number / 8, "country": "NZ", "visits": number % 50}
            with self.tap.capture(f"request-{number}", features) as shot:
                shot.predicted(value=number / 8)
            self.served += 1


def captured(bootstrap: str, stream: str) -> dict[Place, str]:
    """Return every capture of the live log: its coordinates, and its request id."""
    return {
        (partition, message.offset()): message.key().decode()
        for partition, messages in read_all(bootstrap, Topics(stream).live).items()
        for message in messages
    }


def check_ledger(bootstrap: str, stream: str, database_url: str, live: dict[Place, str]) -> None:
    """Compare live log, shadow log and database as sets of offsets."""
    shadow = audit(bootstrap, stream, DEPLOYMENT)  # checks that windows cover each partition without gap or overlap
    scored = outcomes(shadow)  # ... and that each sampled offset has one outcome
    with psycopg.connect(database_url) as connection:
        windows = connection.execute(
            "SELECT source_partition, start_offset, end_offset, window_id::text, gap_reason, seen, joined_seen,"
            " joined_missing FROM gnomon.windows"
        ).fetchall()
        pairs = connection.execute(
            "SELECT source_partition, source_offset, request_id, outcome, rank FROM gnomon.pairs"
        ).fetchall()
        cells = connection.execute(
            "SELECT source_partition, start_offset, seen, sampled, threshold, draw_probability, joined_seen,"
            " joined_scored + joined_failed + joined_timed_out AS paired, joined_dead_lettered, joined_orphaned"
            " FROM gnomon.cells"
        ).fetchall()

    # The database holds the shadow log's windows, and they hold every capture once.
    assert {(p, start, end, key) for p, start, end, key, *_ in windows} == {
        (p, window["start_offset"], window["end_offset"], window["window_id"])
        for p, one in shadow.items()
        for window in one.windows
    }
    in_window = [(p, offset) for p, start, end, *_ in windows for offset in range(start, end)]
    assert len(in_window) == len(set(in_window))
    assert set(in_window) == set(live)
    assert all((gap, seen, missing) == (None, joined, 0) for *_, gap, seen, joined, missing in windows)

    # Every sampled capture is in exactly one pair, with the right request and outcome.
    paired = {(p, offset): (request, outcome) for p, offset, request, outcome, _ in pairs}
    assert len(paired) == len(pairs)
    assert paired == {place: (live[place], status(row)) for place, row in scored.items()}
    assert {outcome for _, outcome in paired.values()} == {"scored"}

    # The sample, computed from the request ids and the seed alone, equals the paired captures; the rest was sampled
    # out.
    rank = ranker(SEED)
    of_window: dict[Place, dict[str, Any]] = {
        (p, start): {"end": end, "sampled": set(), "out": set()} for p, start, end, *_ in windows
    }
    buckets: dict[str, set[Place]] = defaultdict(set)
    for p, start, seen, sampled, threshold, _, joined_seen, cell_paired, dead, orphaned in cells:
        places = [(p, offset) for offset in range(start, of_window[p, start]["end"])]
        inside = {place for place in places if threshold is None or rank(live[place].encode()) < threshold}
        assert (seen, joined_seen) == (len(places), len(places))
        assert (sampled, cell_paired, dead, orphaned) == (len(inside), len(inside), 0, 0)
        buckets["paired"] |= inside
        buckets["sampled_out"] |= set(places) - inside
    assert buckets["paired"] == set(paired)
    assert buckets["paired"] | buckets["sampled_out"] == set(live)
    assert not buckets["paired"] & buckets["sampled_out"]
    assert buckets["sampled_out"], "nothing was sampled out: the budget did not bind"
    assert all(row_rank == rank(request.encode()) for _, _, request, _, row_rank in pairs)
