"""Each component is killed with SIGKILL at random instructions, under load; afterwards the sets are compared.

GNOMON_TEST_SEED chooses other moments, GNOMON_TEST_KILLS another number of kills for the long suite.
"""

import os
import random
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import psycopg
import pytest
from tests.support import join_processes
from tests.support.join_processes import arguments
from tests.support.joined_database import STATIC, assert_all_joined, drain, joined, labels, one, wait_until
from tests.support.live_stream import Stream, sum_model
from tests.support.load import load
from tests.support.logs import CODECS, START_US, label, make_logs
from tests.support.pipeline import DEPLOYMENT, Pipeline, captured, check_ledger
from tests.support.servers.process import Gnomon

LONG = (pytest.mark.long, pytest.mark.timeout(3600))
# Next to two busy processes on two cores, a start and its progress took up to a minute.
SHORT = pytest.mark.timeout(1200)
KILLS = pytest.mark.parametrize("kills", [pytest.param(20, marks=SHORT), pytest.param(200, marks=LONG)])
RECOVERY_S = 30.0  # of docs/guarantees.md, if a core is free


def chance(kills: int) -> tuple[int, random.Random]:
    """Return how often to kill, and the random numbers for the moments."""
    seed = int(os.environ.get("GNOMON_TEST_SEED", "26"))
    if kills > 20:
        kills = int(os.environ.get("GNOMON_TEST_KILLS", kills))
    print(f"GNOMON_TEST_SEED={seed}")
    return kills, random.Random(seed)


def beyond(position: Callable[[], int], floor: int) -> bool:
    return position() > floor


def kill_again_and_again(
    start: Callable[[], Callable[[], object]],
    position: Callable[[], int],
    kills: int,
    dice: random.Random,
    moment: tuple[float, float],
) -> None:
    """Start, wait for progress every other time, then kill (the result of `start`) at a random moment.

    Progress is in the database and never goes back; each life that lasts long enough recovers in time.
    """
    longest, highest, at_work = 0.0, 0, 0
    for _ in range(kills):
        floor = position()
        assert floor >= highest
        highest = floor
        begun = time.monotonic()
        kill = start()
        if dice.random() < 0.7:
            wait_until(partial(beyond, position, floor), 90)
            longest = max(longest, time.monotonic() - begun)
        time.sleep(dice.uniform(*moment))
        kill()
        at_work += position() > floor
    print(f"{kills} kills, {at_work} of them after some progress; the longest recovery took {longest:.1f} s")
    # With other tests at the same time, processes wait for a core: the limit grows with how many do.
    crowding = os.getloadavg()[0] / (2 * (os.cpu_count() or 1))
    assert longest < RECOVERY_S * max(1.0, crowding)


@KILLS
def test_the_joiner(kafka_bootstrap: str, stream_name: str, database_url: str, kills: int) -> None:
    """Invariants A, B and D."""
    logs = make_logs(kafka_bootstrap, stream_name)
    kills, dice = chance(kills)

    def publish() -> None:
        logs.capture(40)
        logs.score(0.5)

    def start() -> Callable[[], object]:
        return killer(join_processes.shipped("join", *arguments(kafka_bootstrap, stream_name, database_url), *STATIC))

    with load(publish, 0.02):
        kill_again_and_again(start, partial(joined, database_url), kills, dice, (0, 0.4))
    drain(logs, database_url)
    assert_all_joined(logs, database_url)
    captures, pairs = sum(map(len, logs.captured.values())), sum(map(len, logs.sampled.values()))
    print(f"{captures} captures, {pairs} pairs, {len(logs.written) * 4} windows")


@KILLS
def test_the_label_consumer(kafka_bootstrap: str, stream_name: str, database_url: str, kills: int) -> None:
    """Every version is stored once, although every tenth was sent twice; progress is at the end of every partition."""
    logs = make_logs(kafka_bootstrap, stream_name)
    kills, dice = chance(kills)
    options = list(arguments(kafka_bootstrap, stream_name, database_url))
    del options[4:6]
    command = ("labels", "consume", *options, *STATIC)
    sent: list[tuple[str, int]] = []

    def publish() -> None:
        for _ in range(20):
            n = len(sent)
            record = label(f"r{n}", START_US + n)
            sent.append((f"r{n}", START_US + n))
            for _ in range(2 if n % 10 == 0 else 1):
                logs.producer.produce(logs.topics.labels, CODECS["Label"].encode(record), b"k", partition=n % 4)
        logs.producer.flush(60)

    with load(publish, 0.02):
        kill_again_and_again(
            lambda: killer(join_processes.shipped(*command)), partial(labels, database_url), kills, dice, (0, 0.4)
        )
    process = join_processes.shipped(*command, "--drain")
    process.join(90)
    assert process.exitcode == 0
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "select request_id, (extract(epoch from observed_at) * 1000000)::bigint from gnomon.labels"
        ).fetchall()
    assert len(rows) == len(sent)
    assert set(rows) == set(sent)
    repeated = sum(n % 10 == 0 for n in range(len(sent)))
    totals = "select sum(received), sum(stored), sum(duplicates), sum(next_offset) from gnomon.label_watermarks"
    assert one(database_url, totals) == (len(sent) + repeated, len(sent), repeated, len(sent) + repeated)
    print(f"{len(sent)} versions, {repeated} of them sent twice")


@KILLS
def test_the_scorer(
    gnomon: Gnomon, kafka_bootstrap: str, stream_name: str, database_url: str, tmp_path: Path, kills: int
) -> None:
    """Live log, shadow log and database hold the same sets, and the sample follows from the seed."""
    pipeline = Pipeline(gnomon, kafka_bootstrap, database_url, stream_name, sum_model(tmp_path / "sum.onnx", "amount"))
    # Small windows, and a budget below the arrival rate.
    pipeline.env |= {
        "GNOMON_SCORE__WINDOW_CAPTURES": "100",
        "GNOMON_SCORE__WINDOW_SECONDS": "0.5",
        "GNOMON_SCORE__BUDGET_ROWS_PER_SECOND": "300",
    }
    created = gnomon.enter("topics", "create", "--deployment", DEPLOYMENT, env=pipeline.env)
    assert created.returncode == 0, created.stderr
    live = Stream(kafka_bootstrap, stream_name)
    live.publish_schema()
    kills, dice = chance(kills)
    with join_processes.running("join", *arguments(kafka_bootstrap, stream_name, database_url)):
        with load(lambda: live.send(10), 0.03):
            kill_again_and_again(
                lambda: pipeline.score(*STATIC).kill, partial(joined, database_url), kills, dice, (0, 0.5)
            )
        last = pipeline.score(*STATIC)
        wait_until(lambda: joined(database_url) == len(live.sent), 120)
        assert last.terminate(15) == 0, last.output
    logged = captured(kafka_bootstrap, stream_name)
    assert logged == live.sent
    check_ledger(kafka_bootstrap, stream_name, database_url, logged)
    found = one(database_url, "select (select count(*) from gnomon.pairs), (select count(*) from gnomon.windows)")
    print(f"{len(logged)} captures, {found[0]} pairs, {found[1]} windows")


def killer(process: ForkServerProcess) -> Callable[[], object]:
    def kill() -> None:
        process.kill()
        process.join()

    return kill
