"""`gnomon replay --like`: another challenger on the sample of the first one, through kills, restarts and retention."""

from pathlib import Path

import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from tests.support.live_stream import Stream, audit, await_sealed, covered, outcomes, status, sum_model
from tests.support.servers.process import Gnomon

SETTINGS = {
    "GNOMON_SCORE__WINDOW_SECONDS": "0.5",
    "GNOMON_SCORE__WINDOW_CAPTURES": "300",
    "GNOMON_SCORE__BUDGET_ROWS_PER_SECOND": "400",
}
PAIRS = (
    "select source_partition, source_offset, inclusion_probability, rank, stratum, request_id, outcome, live_value"
    " from gnomon.pairs join gnomon.deployments using (deployment_id) where name = %s order by 1, 2"
)
# As in docs/scorer.md, with values instead of labels.
DIFFER = (
    "SELECT sum(a.weight * (a.shadow_value IS DISTINCT FROM b.shadow_value)::int) / sum(a.weight) AS differ"
    " FROM report_v1.pairs a JOIN report_v1.pairs b USING (stream, event_time, source_partition, source_offset)"
    " WHERE stream = %s AND a.deployment = 'boost' AND b.deployment = 'second'"
)
LEDGER = (
    "select source_partition, start_offset, stratum, seen, sampled, draw_probability, threshold, joined_seen,"
    " joined_scored, joined_dead_lettered, joined_orphaned from gnomon.cells join gnomon.deployments using"
    " (deployment_id) where name = %s order by 1, 2, 3"
)


def test_two_challengers_on_one_sample(
    gnomon: Gnomon, kafka_bootstrap: str, stream_name: str, database_url: str, tmp_path: Path
) -> None:
    env = SETTINGS | {
        "GNOMON_BOOTSTRAP_SERVERS": kafka_bootstrap,
        "GNOMON_STREAM": stream_name,
        "GNOMON_DATABASE_URL": database_url,
    }
    created = gnomon.enter("topics", "create", "--deployment", "boost", env=env)
    assert created.returncode == 0, created.stderr
    live = Stream(kafka_bootstrap, stream_name)
    live.publish_schema()
    one = sum_model(tmp_path / "one.onnx", "amount")
    score = ("score", "--deployment", "boost", "--model", one, "--member", "a", "--exit-when-idle", "0.3")
    replay = ("replay", "--like", "boost", "--deployment", "second", "--model", "two:make", "--json")
    (tmp_path / "two.py").write_text("def make():\n    return lambda columns: columns['amount'] + columns['visits']\n")

    def send(count: int) -> None:
        poison = dict.fromkeys(range(0, count, 10), b"\x99garbage")
        live.send(
            count,
            features=lambda i: {"amount": float(i)},
            stratum=lambda i: "ab"[i % 2],
            values=poison,
            partition=lambda i: i % 4,
        )
        scored = gnomon.run(*score, env=env)
        assert scored.returncode == 0, scored.stderr

    def like() -> None:
        done = gnomon.run(*replay, env=env)
        assert done.returncode == 0, done.stderr

    send(3000)
    killed = gnomon.start(*replay, env=env)
    await_sealed(kafka_bootstrap, stream_name, "second", 1)
    killed.kill()
    like()
    first, second = (outcomes(audit(kafka_bootstrap, stream_name, name)) for name in ("boost", "second"))
    assert 0 < len(first) < 3000
    assert second.keys() == first.keys()
    for place, row in second.items():
        theirs = first[place]
        for name in ("request_id", "rank", "stratum", "inclusion_probability"):
            assert row[name] == theirs[name]
        assert status(row) == status(theirs)
        if status(row) == "scored":
            assert row["prediction"]["value"] == theirs["prediction"]["value"] + 3
    assert {status(row) for row in second.values()} == {"scored", "dead_lettered"}

    for name in ("boost", "second"):
        joined = gnomon.run("join", "--deployment", name, "--drain", env=env)
        assert joined.returncode == 0, joined.stderr
    with psycopg.connect(database_url) as connection:
        pairs = [connection.execute(PAIRS, [name]).fetchall() for name in ("boost", "second")]
        assert len(pairs[0]) == sum(status(row) == "scored" for row in first.values())
        assert pairs[0] == pairs[1]
        assert connection.execute(DIFFER, [stream_name]).fetchone() == (1.0,)
        cells = [connection.execute(LEDGER, [name]).fetchall() for name in ("boost", "second")]
        assert cells[0] == cells[1]
        assert all(seen == joined and orphaned == 0 for _, _, _, seen, *_, joined, _, _, orphaned in cells[1])

    # Later samples follow; captures that retention removed meanwhile become gaps of whole windows; nothing else is
    # lost.
    send(1000)
    windows = audit(kafka_bootstrap, stream_name, "boost")[2].windows
    later = [window for window in windows if window["start_offset"] >= 750]
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    cut = TopicPartition(live.live, 2, later[0]["end_offset"] - 1)
    admin.delete_records([cut])[cut].result()
    like()
    log, mine = (audit(kafka_bootstrap, stream_name, name) for name in ("boost", "second"))
    assert covered(mine) == covered(log)
    gaps = [(p, window) for p, part in mine.items() for window in part.windows if window["gap"]]
    lost = range(later[0]["start_offset"], later[0]["end_offset"])
    assert [(p, range(window["start_offset"], window["end_offset"])) for p, window in gaps] == [(2, lost)]
    assert gaps[0][1]["gap"]["reason"] == "truncated"
    assert outcomes(mine).keys() == outcomes(log).keys() - {(2, offset) for offset in lost}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "give --rate for a load test, or --like"),
        (("--rate", "5", "--like", "boost"), "give --rate for a load test, or --like"),
        (("--like", "boost"), "give --like and --deployment together"),
        (("--like", "boost", "--deployment", "boost"), "give the replay its own name"),
        (("--like", "nobody", "--deployment", "second"), "has no deployment nobody to be --like"),
    ],
)
def test_what_cannot_be_replayed_is_one_line_and_status_2(
    gnomon: Gnomon, kafka_bootstrap: str, tmp_path: Path, arguments: tuple[str, ...], expected: str
) -> None:
    model = sum_model(tmp_path / "sum.onnx", "amount")
    where = ("--stream", "nowhere", "--bootstrap-servers", kafka_bootstrap, "--model", model)
    done = gnomon.run("replay", *where, *arguments)
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_running_scorer_keeps_its_log_to_itself(
    gnomon: Gnomon, kafka_bootstrap: str, stream_name: str, tmp_path: Path
) -> None:
    where = ("--stream", stream_name, "--bootstrap-servers", kafka_bootstrap)
    names = ("--deployment", "boost", "--deployment", "second")
    assert gnomon.enter("topics", "create", *where, *names).returncode == 0
    Stream(kafka_bootstrap, stream_name).publish_schema()
    model = ("--model", sum_model(tmp_path / "sum.onnx", "amount"))
    scorer = gnomon.start("score", *where, *model, "--deployment", "second", "--member", "a")
    scorer.wait_for("assigned")
    done = gnomon.run("replay", *where, *model, "--like", "boost", "--deployment", "second")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "`gnomon score` runs as second" in done.stderr
    assert scorer.terminate(15) == 0
