"""Whatever process is killed, each capture is in exactly one bucket, and each sampled capture in one pair.

100,000 captures go through the hook into a real Kafka while the shipped `gnomon score` and `gnomon join` are killed
with SIGKILL twice each, at moments determined by their progress, while they have work. Afterwards the test compares
the sets of offsets in the live log, in the shadow log and in PostgreSQL.
"""

from pathlib import Path

import pytest
from tests.support.live_stream import sum_model
from tests.support.pipeline import CAPTURES, DEPLOYMENT, LEAD, LiveService, Pipeline, captured, check_ledger
from tests.support.servers.process import Gnomon
from tests.support.tap import make_tap

KILLS = ("scorer", "joiner", "scorer", "joiner")
PARTITIONS = 4


@pytest.fixture
def pipeline(gnomon: Gnomon, kafka_bootstrap: str, database_url: str, stream_name: str, tmp_path: Path) -> Pipeline:
    """Return a stream with its topics, its database and a model; nothing runs yet."""
    model = sum_model(tmp_path / "sum.onnx", "amount")
    made = Pipeline(gnomon, kafka_bootstrap, database_url, stream_name, model)
    create = ("topics", "create", "--partitions", PARTITIONS, "--deployment", DEPLOYMENT)
    done = gnomon.enter(*create, env=made.env)
    assert done.returncode == 0, done.stderr
    return made


@pytest.mark.timeout(600)
def test_nothing_is_lost_or_doubled_through_kills(pipeline: Pipeline, kafka_bootstrap: str, stream_name: str) -> None:
    tap = make_tap(kafka_bootstrap, stream_name)
    service = LiveService(tap)
    service.serve_up_to(LEAD)
    running = {"scorer": pipeline.score(), "joiner": pipeline.join()}
    for number, victim in enumerate(KILLS, 1):
        pipeline.await_joined(CAPTURES * number // (len(KILLS) + 2), service, *running.values())
        pipeline.kill_at_work(running[victim], service)
        running[victim] = pipeline.score() if victim == "scorer" else pipeline.join()
    pipeline.await_joined(CAPTURES, service, *running.values())
    assert tap.flush(60)
    stats = tap.stats()
    tap.close()
    assert (stats.delivered, dict(stats.dropped)) == (CAPTURES, {})
    assert [process.terminate(15) for process in running.values()] == [0, 0]

    live = captured(kafka_bootstrap, stream_name)
    assert sorted(live.values()) == sorted(f"request-{number}" for number in range(CAPTURES))
    check_ledger(kafka_bootstrap, stream_name, pipeline.database_url, live)
