"""`gnomon score` as a process, on the mock and on real Kafka."""

import json
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.support.live_stream import (
    audit,
    await_sealed,
    covered,
    endless_model,
    outcomes,
    read_all,
    status,
    sum_model,
)
from tests.support.score_command import prepare, start
from tests.support.servers.process import Gnomon


def test_every_capture_is_scored_once_through_restarts(
    gnomon: Gnomon, broker: str, stream_name: str, tmp_path: Path
) -> None:
    live = prepare(gnomon, broker, stream_name)
    live.publish_schema()
    model = sum_model(tmp_path / "sum.onnx", "amount", "age")
    live.send(3000, features=lambda i: {"amount": float(i), "age": 0.25})
    first = start(gnomon, broker, stream_name, model)
    await_sealed(broker, stream_name, "boost", 1000)
    first.kill()
    live.send(2000, features=lambda i: {"amount": float(i), "age": 0.25})
    second = start(gnomon, broker, stream_name, model)
    await_sealed(broker, stream_name, "boost", 5000)
    assert second.terminate(12) == 0
    log = audit(broker, stream_name, "boost")
    found = outcomes(log)
    assert {place: row["request_id"] for place, row in found.items()} == live.sent
    assert {status(row) for row in found.values()} == {"scored"}
    assert all(row["inclusion_probability"] == 1.0 for row in found.values())
    assert all(row["prediction"]["value"] % 1 == 0.25 for row in found.values())
    singles = [row for row in found.values() if row["batch_size"] == 1]
    assert singles
    assert all(row["latency_us"] > 0 for row in singles)
    usage = [window["usage"] for one in log.values() for window in one.windows]
    assert sum(one["cpu_us"] for one in usage) > 0
    assert min(one["peak_rss_bytes"] for one in usage) > 10 * 2**20  # a process with the model's runtime
    said = second.output
    assert 0 < said.index('event="warmed up"') < said.index("event=assigned")


def test_poison_becomes_dead_letters_with_coordinates(
    gnomon: Gnomon, broker: str, stream_name: str, tmp_path: Path
) -> None:
    live = prepare(gnomon, broker, stream_name)
    live.publish_schema()
    good = live.capture("somebody else")
    poison = {
        3: b"\x99garbage",
        7: b"\xc3\x01" + b"unknown!" + b"body",
        11: good + b"trailing",
        13: good,  # readable, but with another key
        40: good[:30],
    }
    live.send(50, values=poison, partition=lambda _: 0)
    process = start(gnomon, broker, stream_name, sum_model(tmp_path / "sum.onnx", "amount"))
    found = outcomes(await_sealed(broker, stream_name, "boost", 50))
    dead = {offset: row["error"]["message"].split(":")[0] for (_, offset), row in found.items() if row["error"]}
    assert dead == {3: "framing", 7: "unknown_schema", 11: "trailing_bytes", 13: "key", 40: "truncated"}
    assert all(found[0, offset]["error"]["kind"] == "dead_letter" for offset in dead)
    assert process.terminate(12) == 0
    letters = [m for messages in read_all(broker, f"gnomon.{stream_name}.dlq").values() for m in messages]
    assert {int(dict(m.headers())["source.offset"]): m.value() for m in letters} == poison
    headers = dict(letters[0].headers())
    assert headers["stage"] == b"score"
    assert headers["source.topic"] == live.live.encode()
    assert headers["reason"].decode() in dead.values()


def test_a_model_that_does_not_fit_is_refused(
    gnomon: Gnomon, mock_bootstrap: str, stream_name: str, tmp_path: Path
) -> None:
    live = prepare(gnomon, mock_bootstrap, stream_name)
    live.publish_schema()
    cases = {
        sum_model(tmp_path / "missing.onnx", "amount", "humidity"): "'humidity'",
        sum_model(tmp_path / "text.onnx", "amount", "country"): "'country' is string",
    }
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model at all")
    cases[broken] = "broken.onnx"
    for model, expected in cases.items():
        process = start(gnomon, mock_bootstrap, stream_name, model)
        assert process.wait(30) == 2, process.output
        last = process.lines[-1]
        assert last.startswith("gnomon: ") or any(line.startswith("gnomon: ") for line in process.lines)
        assert expected in process.output
        assert "Traceback" not in process.output


def test_waits_for_the_schema_and_still_stops(
    gnomon: Gnomon, mock_bootstrap: str, stream_name: str, tmp_path: Path
) -> None:
    live = prepare(gnomon, mock_bootstrap, stream_name)
    model = sum_model(tmp_path / "sum.onnx", "amount")
    process = start(gnomon, mock_bootstrap, stream_name, model)
    process.wait_for("waiting for the first capture's schema")
    assert process.terminate(10) == 0
    process = start(gnomon, mock_bootstrap, stream_name, model)
    process.wait_for("waiting for the first capture's schema")
    live.publish_schema()
    live.send(20)
    process.wait_for("assigned")
    await_sealed(mock_bootstrap, stream_name, "boost", 20)
    process.send(signal.SIGTERM)
    assert process.wait(10) == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--model", "nowhere.onnx"), "nowhere.onnx: no such file"),
        (("--model", "sum.onnx", "--from", "yesterday"), "--from: 'yesterday' is not a valid time"),
        (("--model", "sum.onnx", "--model-sha256", "00"), "pinned 00"),
        (("--model", "sum.onnx", "--workers", "0"), "GNOMON_SCORE__WORKERS"),
    ],
)
def test_bad_usage_is_status_2_and_one_line(
    gnomon: Gnomon, tmp_path: Path, arguments: tuple[str, ...], expected: str
) -> None:
    sum_model(tmp_path / "sum.onnx", "amount")
    done = gnomon.run("score", "--stream", "s", "--deployment", "d", *arguments)
    assert done.returncode == 2
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1


def test_another_model_under_an_old_name_is_refused(
    gnomon: Gnomon, broker: str, stream_name: str, tmp_path: Path
) -> None:
    live = prepare(gnomon, broker, stream_name)
    live.publish_schema()
    live.send(10)
    process = start(gnomon, broker, stream_name, sum_model(tmp_path / "one.onnx", "amount"))
    await_sealed(broker, stream_name, "boost", 10)
    assert process.terminate(12) == 0
    process = start(gnomon, broker, stream_name, sum_model(tmp_path / "two.onnx", "amount", "age"))
    assert process.wait(30) == 2
    assert "was started with model one" in process.output
    assert "Traceback" not in process.output


def test_deployments_start_and_stop_without_each_other(
    gnomon: Gnomon, mock_bootstrap: str, stream_name: str, tmp_path: Path
) -> None:
    live = prepare(gnomon, mock_bootstrap, stream_name, ("boost", "control"))
    live.publish_schema()
    live.send(500)
    model = sum_model(tmp_path / "sum.onnx", "amount")
    boost = start(gnomon, mock_bootstrap, stream_name, model)
    control = start(gnomon, mock_bootstrap, stream_name, model, "--role", "control", deployment="control")
    for name in ("boost", "control"):
        assert set(outcomes(await_sealed(mock_bootstrap, stream_name, name, 500))) == set(live.sent)
    assert boost.terminate(12) == 0
    live.send(300)
    assert set(outcomes(await_sealed(mock_bootstrap, stream_name, "control", 800))) == set(live.sent)
    assert sum(covered(audit(mock_bootstrap, stream_name, "boost")).values()) == 500
    again = start(gnomon, mock_bootstrap, stream_name, model)
    found = await_sealed(mock_bootstrap, stream_name, "boost", 800)
    assert set(outcomes(found)) == set(live.sent)
    starts = [one.start for name in ("boost", "control") for one in audit(mock_bootstrap, stream_name, name).values()]
    assert {start["seed"] for start in starts if start} == {0}
    assert {start["role"] for start in starts if start} == {"challenger", "control"}
    assert (again.terminate(12), control.terminate(12)) == (0, 0)


def test_a_new_deployment_begins_where_it_is_told(
    gnomon: Gnomon, kafka_bootstrap: str, stream_name: str, tmp_path: Path
) -> None:
    now = time.time()
    half_an_hour_ago = datetime.fromtimestamp(now - 1800, UTC).isoformat()
    begins = {"all": (), "some": ("--from", half_an_hour_ago), "new": ("--from", "latest")}
    live = prepare(gnomon, kafka_bootstrap, stream_name, tuple(begins))
    live.publish_schema()
    live.send(40, timestamp=int(1000 * (now - 3600)))
    old = set(live.sent)
    live.send(60)
    before = set(live.sent)
    model = sum_model(tmp_path / "sum.onnx", "amount")
    running = {
        name: start(gnomon, kafka_bootstrap, stream_name, model, *where, deployment=name)
        for name, where in begins.items()
    }
    for process in running.values():
        process.wait_for("assigned")
    live.send(30)
    expected = {"all": set(live.sent), "some": live.sent.keys() - old, "new": live.sent.keys() - before}
    for name, process in running.items():
        found = await_sealed(kafka_bootstrap, stream_name, name, len(expected[name]))
        assert set(outcomes(found)) == expected[name]
        assert process.terminate(12) == 0
    # Its log states where it began: a later run under the same name continues there.
    live.send(10)
    again = start(gnomon, kafka_bootstrap, stream_name, model, "--from", "earliest", deployment="new")
    assert len(outcomes(await_sealed(kafka_bootstrap, stream_name, "new", 40))) == 40
    assert again.terminate(12) == 0


def test_a_stream_that_nobody_made_is_refused(gnomon: Gnomon, kafka_bootstrap: str, tmp_path: Path) -> None:
    sum_model(tmp_path / "sum.onnx", "amount")
    where = ("--stream", "nobody-made-it", "--bootstrap-servers", kafka_bootstrap)
    done = gnomon.run("score", *where, "--deployment", "d", "--model", "sum.onnx")
    assert done.returncode == 2
    assert "gnomon.nobody-made-it.live does not exist: run `gnomon topics create --stream nobody-made-it" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_capture_on_which_the_model_hangs_is_timed_out_alone(
    gnomon: Gnomon, mock_bootstrap: str, stream_name: str, tmp_path: Path
) -> None:
    live = prepare(gnomon, mock_bootstrap, stream_name)
    live.publish_schema()
    live.send(60, features=lambda i: {"amount": 1000.0 if i == 33 else 1.0}, partition=lambda _: 1)
    model = endless_model(tmp_path / "endless.onnx", 100.0)
    settings = {"GNOMON_SCORE__PROBE_ROWS": "0", "GNOMON_SCORE__DEADLINE_SECONDS": "60"}
    process = start(gnomon, mock_bootstrap, stream_name, model, **settings)
    found = outcomes(await_sealed(mock_bootstrap, stream_name, "boost", 60))
    assert {offset: row["error"]["kind"] for (_, offset), row in found.items() if row["error"]} == {33: "timeout"}
    assert process.terminate(12) == 0


def test_strata_come_from_the_header(gnomon: Gnomon, mock_bootstrap: str, stream_name: str, tmp_path: Path) -> None:
    live = prepare(gnomon, mock_bootstrap, stream_name)
    live.publish_schema()
    live.send(400, stratum=lambda i: "ab"[i % 2])
    process = start(gnomon, mock_bootstrap, stream_name, sum_model(tmp_path / "sum.onnx", "amount"))
    found = await_sealed(mock_bootstrap, stream_name, "boost", 400)
    strata = {cell["stratum"] for one in found.values() for window in one.windows for cell in window["cells"]}
    assert strata == {"a", "b"}
    assert process.terminate(12) == 0


def test_exit_when_idle(gnomon: Gnomon, broker: str, stream_name: str, tmp_path: Path) -> None:
    live = prepare(gnomon, broker, stream_name)
    live.publish_schema()
    live.send(100)
    process = start(gnomon, broker, stream_name, sum_model(tmp_path / "sum.onnx", "amount"), "--exit-when-idle", "0.5")
    assert process.wait(40) == 0, process.output
    assert set(outcomes(audit(broker, stream_name, "boost"))) == set(live.sent)


def test_golden_answers_are_compared_before_anything_is_scored(
    gnomon: Gnomon, mock_bootstrap: str, stream_name: str, tmp_path: Path
) -> None:
    live = prepare(gnomon, mock_bootstrap, stream_name)
    live.publish_schema()
    live.send(10)
    model = sum_model(tmp_path / "sum.onnx", "amount", "age")
    rows = [{"features": {"amount": i, "age": 1.0, "visits": 1, "country": "NZ"}, "value": i + 1.0} for i in range(9)]
    rows[7]["value"] = 99.0  # the training code used another feature here
    golden = tmp_path / "golden.jsonl"
    golden.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    refused = start(gnomon, mock_bootstrap, stream_name, model, "--golden", str(golden))
    assert refused.wait(40) == 2
    assert "1 of 9 rows differ by more than 0.0001; the worst are line 8: value is 8.0, not 99.0" in refused.output
    golden.write_text("".join(f"{json.dumps(row)}\n" for row in rows[:7]))
    accepted = start(gnomon, mock_bootstrap, stream_name, model, "--golden", str(golden), "--warm-up", str(golden))
    accepted.wait_for("event=golden .*largest_difference=0.0")
    await_sealed(mock_bootstrap, stream_name, "boost", 10)
    assert accepted.terminate(12) == 0
    golden.write_text('{"features": {"amount": 1}}\n')
    refused = start(gnomon, mock_bootstrap, stream_name, model, "--golden", str(golden))
    assert refused.wait(40) == 2
    assert "golden.jsonl:1: no feature 'visits'" in refused.output


def test_metrics_and_probes_answer(gnomon: Gnomon, mock_bootstrap: str, stream_name: str, tmp_path: Path) -> None:
    live = prepare(gnomon, mock_bootstrap, stream_name)
    live.publish_schema()
    live.send(70)
    model = sum_model(tmp_path / "sum.onnx", "amount")
    process = start(gnomon, mock_bootstrap, stream_name, model, "--metrics", "127.0.0.1:0")
    get = process.page
    assert get("/healthz")[0] == 200
    await_sealed(mock_bootstrap, stream_name, "boost", 70)
    process.wait_for("assigned")
    assert get("/readyz")[0] == 200
    labels = f'{{deployment="boost",stream="{stream_name}"}}'
    deadline = time.monotonic() + 60
    while f"gnomon_score_seen_total{labels} 70.0" not in get("/metrics")[1]:
        assert time.monotonic() < deadline, get("/metrics")[1]
    assert (
        f'gnomon_score_outcomes_total{{deployment="boost",status="scored",stream="{stream_name}"}} 70.0'
        in get("/metrics")[1]
    )
    assert get("/elsewhere")[0] == 404
    assert process.terminate(12) == 0
