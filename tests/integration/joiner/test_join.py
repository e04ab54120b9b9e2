"""The shipped `gnomon join`: every captured offset in one bucket, every sampled one in one pair."""

import threading
import time

import psycopg
import pytest
from tests.support.join_processes import arguments, settings_of
from tests.support.logs import make_logs
from tests.support.servers.process import Gnomon

from gnomon_consumer.joiner.merge.window import JoinedWindow, MergingWindow
from gnomon_consumer.joiner.postgres.sink import Sink
from gnomon_consumer.joiner.service import Joiner
from gnomon_consumer.settings import load_settings


def test_a_drain_joins_everything(gnomon: Gnomon, broker: str, stream_name: str, database_url: str) -> None:
    logs = make_logs(broker, stream_name)
    rows = 0
    for _ in range(5):
        logs.capture(200)
        rows += logs.score(0.5)
    ended = gnomon.run("join", *arguments(broker, stream_name, database_url), "--drain", timeout=60)
    assert ended.returncode == 0, ended.stderr
    with psycopg.connect(database_url) as connection:
        pairs = connection.execute("select source_partition, source_offset, request_id from gnomon.pairs").fetchall()
        assert len(pairs) == rows, ended.stderr
        assert {(p, o) for p, o, _ in pairs} == {(p, o) for p, offsets in logs.sampled.items() for o in offsets}
        assert all(logs.captured[p][o] == request_id for p, o, request_id in pairs)
        ledger = connection.execute(
            "select sum(seen), sum(sampled), sum(joined_seen), sum(joined_scored), sum(joined_orphaned)"
            " from gnomon.cells"
        ).fetchone()
        assert ledger == (1000, rows, 1000, rows, 0)
        assert connection.execute("select sum(received), sum(repeated) from gnomon.producer_tallies").fetchone() == (
            1000,
            0,
        )


def test_a_backlog_of_tiny_windows_leaves_no_write_waiting(
    broker: str, stream_name: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two pushes of a write the server waits, and it ends a session that waits for half a minute."""
    logs = make_logs(broker, stream_name)
    for _ in range(400):
        logs.capture(40)
        logs.score(0.5)
    finished = [0]  # windows since each push
    finish, push = MergingWindow.finish, Sink.push

    def counted(window: MergingWindow) -> JoinedWindow:
        finished[-1] += 1
        return finish(window)

    def pushed(sink: Sink) -> int:
        finished.append(0)
        return push(sink)

    monkeypatch.setattr(MergingWindow, "finish", counted)
    monkeypatch.setattr(Sink, "push", pushed)
    settings = load_settings(settings_of(broker, stream_name, database_url))
    Joiner(settings, "challenger", threading.Event(), drain=True).run()
    assert sum(finished) == 1600
    assert max(finished) <= 200


def test_metrics_and_probes_answer(gnomon: Gnomon, broker: str, stream_name: str, database_url: str) -> None:
    """The joiner and the label consumer report their health and their counts, on one port each."""
    logs = make_logs(broker, stream_name)
    logs.live(2, "request", b"no capture at all")
    logs.capture(70)
    logs.score()
    logs.producer.produce(logs.topics.labels, b"no label", b"r1", partition=1)
    logs.producer.flush(60)
    options = arguments(broker, stream_name, database_url)
    joining = gnomon.start("join", *options, "--metrics", "127.0.0.1:0")
    consuming = gnomon.start("labels", "consume", *options[:4], *options[6:], "--metrics", "127.0.0.1:0")
    of_deployment = f'{{deployment="challenger",stream="{stream_name}"}}'
    of_stream = f'{{stream="{stream_name}"}}'
    for process, wanted in (
        (
            joining,
            {"seen_total": 71, "pairs_total": 70, "dead_letters_total": 1, "orphans_total": 0, "partitions": 4}
            | {"failed_partitions": 0, "database_unreachable": 0, "windows_total": 4, "delay_seconds_count": 4},
        ),
        (consuming, {"received_total": 1, "rejected_total": 1, "stored_total": 0, "partitions": 4}),
    ):
        prefix, of = ("join", of_deployment) if process is joining else ("labels", of_stream)
        lines = {f"gnomon_{prefix}_{name}{of} {number:.1f}" for name, number in wanted.items()}
        deadline = time.monotonic() + 120
        while missing := lines - set(process.page("/metrics")[1].splitlines()):
            assert time.monotonic() < deadline, missing
            time.sleep(0.05)
        assert [process.page(path)[0] for path in ("/healthz", "/readyz", "/elsewhere")] == [200, 200, 404]
    assert [process.terminate() for process in (joining, consuming)] == [0, 0]


@pytest.mark.parametrize("command", [("join", "--deployment", "challenger"), ("labels", "consume")])
def test_a_missing_dependency_is_one_line(
    gnomon: Gnomon, mock_bootstrap: str, empty_database_url: str, command: tuple[str, ...]
) -> None:
    nothing = "127.0.0.1:1"
    environment = {"GNOMON_KAFKA__TIMEOUT_SECONDS": "1", "GNOMON_STREAM": "s"}
    cases = [
        (nothing, empty_database_url, 3, "no Kafka broker answers at 127.0.0.1:1"),
        (mock_bootstrap, f"postgresql://nobody@{nothing}/none", 3, "no PostgreSQL at"),
        (mock_bootstrap, empty_database_url, 2, "run `gnomon db upgrade`"),
    ]
    for bootstrap, url, status, words in cases:
        where = ("--bootstrap-servers", bootstrap, "--database-url", url)
        ended = gnomon.enter(*command, "--drain", *where, env=environment)
        assert (ended.returncode, words in ended.stderr) == (status, True), ended.stderr
        assert len(ended.stderr.splitlines()) == 1
    invalid = {**environment, "GNOMON_JOIN__BATCH_MESSAGES": "0"}
    assert gnomon.enter(*command, "--database-url", empty_database_url, env=invalid).returncode == 2
