"""The lag bound in the real loop: arrivals triple, the model slows to a fifth, hangs, and recovers."""

import json
import time
from pathlib import Path

from tests.support.live_stream import Stream, audit, await_sealed, outcomes, read_all, status
from tests.support.servers.process import Gnomon

from gnomon_schemas.codec import Reader, Record
from gnomon_schemas.store import packaged_schemas

# Each capture sets how long the model takes for it, so that the phases are exact.
MODEL = """
import time
class Sleeper:
    features = ("amount",)
    def predict(self, columns):
        time.sleep(float(columns["amount"].sum()))
        return columns["amount"]
make = Sleeper
"""
WINDOW, DEADLINE, READ_AND_WRITE = 1.0, 4.0, 1.5
PHASES = [  # seconds, captures a second, seconds a row
    ("steady", 4, 150, 0.002),
    ("triple", 4, 450, 0.002),
    ("a fifth", 5, 150, 0.010),
    ("hung", 4, 150, 1000.0),
    ("recovered", 8, 150, 0.002),
]


def all_sampled(window: Record) -> bool:
    """Return whether every capture was sampled."""
    return all(cell["sampled"] == cell["seen"] and cell["draw_probability"] == 1 for cell in window["cells"])


def test_the_measured_worst_delay_stays_under_the_bound(
    gnomon: Gnomon, mock_bootstrap: str, stream_name: str, tmp_path: Path
) -> None:
    (tmp_path / "sleeper.py").write_text(MODEL)
    warm = tmp_path / "warm.jsonl"
    features = {"amount": 0.002, "age": None, "visits": 1, "country": "NZ"}
    warm.write_text(f"{json.dumps({'features': features})}\n" * 64)
    where = ("--stream", stream_name, "--bootstrap-servers", mock_bootstrap, "--deployment", "slow")
    assert gnomon.enter("topics", "create", *where).returncode == 0
    live = Stream(mock_bootstrap, stream_name)
    live.publish_schema()
    settings = {
        "GNOMON_SCORE__WINDOW_SECONDS": str(WINDOW),
        "GNOMON_SCORE__DEADLINE_SECONDS": str(DEADLINE),
        "GNOMON_SCORE__CALL_SECONDS": "20",
        "GNOMON_SCORE__BREAKER_SECONDS": "1",
        "GNOMON_SCORE__BATCH_ROWS": "32",
        "GNOMON_SCORE__PROBE_ROWS": "4",
    }
    process = gnomon.start("score", *where, "--model", "sleeper:make", "--warm-up", warm, env=settings)
    process.wait_for("assigned")
    phase_of: dict[tuple[int, int], str] = {}

    def scored(since: set[tuple[int, int]]) -> bool:
        """Return whether a capture after those is scored."""
        found = outcomes(audit(mock_bootstrap, stream_name, "slow"))
        return any(status(row) == "scored" for place, row in found.items() if place not in since)

    for name, seconds, rate, cost in PHASES:
        began = time.monotonic()
        sent = 0
        before = set(live.sent)
        # On a busy machine the worker that replaces the hung one may need longer than the phase to start.
        while (now := time.monotonic() - began) < seconds or (name == "recovered" and now < 60 and not scored(before)):
            wanted = int(now * rate)
            live.send(wanted - sent, features=lambda _, cost=cost: {"amount": cost})  # type: ignore[misc]  # bound at once
            sent = wanted
            time.sleep(0.02)
        phase_of.update(dict.fromkeys(live.sent.keys() - before, name))
    await_sealed(mock_bootstrap, stream_name, "slow", len(live.sent))
    assert process.terminate(12) == 0

    arrived = {
        (message.partition(), message.offset()): message.timestamp()[1] / 1000
        for messages in read_all(mock_bootstrap, live.live).values()
        for message in messages
    }
    committed = {}
    reader = Reader(packaged_schemas())
    for messages in read_all(mock_bootstrap, f"gnomon.{stream_name}.shadow.slow").values():
        for message in messages:
            name, _, record = reader.decode(message.value())
            if name.endswith("SamplingWindow"):
                committed[record["window_id"]] = message.timestamp()[1] / 1000
    log = audit(mock_bootstrap, stream_name, "slow")
    found = outcomes(log)
    worst = dict.fromkeys((name for name, *_ in PHASES), 0.0)
    for place, row in found.items():
        delay = committed[row["window_id"]] - arrived[place]
        worst[phase_of[place]] = max(worst[phase_of[place]], delay)
    bound = WINDOW + DEADLINE + READ_AND_WRITE
    sampled = {name: sum(phase_of[place] == name for place in found) for name in worst}
    print(f"worst delay, seconds: {worst}; bound {bound}; sampled {sampled} of {len(live.sent)}")
    assert max(worst.values()) <= bound
    assert all(sampled.values())
    windows = [window for one in log.values() for window in one.windows]
    assert {"budget", "breaker"} <= {window["limited_by"] for window in windows}
    assert all((window["limited_by"] is None) == all_sampled(window) for window in windows)
    assert {status(row) for place, row in found.items() if phase_of[place] == "recovered"} >= {"scored"}
    assert "timed_out" in {status(row) for place, row in found.items() if phase_of[place] == "hung"}
    assert sum(1 / row["inclusion_probability"] for row in found.values()) <= len(live.sent) + 1e-6
