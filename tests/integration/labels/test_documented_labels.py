"""The hook and label code of README and docs/hook.md, run unchanged, gives the correct quality report."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.support.servers.process import Gnomon

import gnomon_producer

ROOT = Path(__file__).parents[3]
REQUESTS = 60
MODEL = """
import numpy as np

def perfect():
    def predict(columns):
        probability = np.where(columns["amount"] >= 0.5, 0.9, 0.1)
        return {"value": probability, "label": np.where(probability > 0.5, POSITIVE, NEGATIVE)}
    return predict
"""


class Live:
    """A live model that is wrong for about every third request."""

    def predict(self, features: dict[str, float]) -> float:
        right = features["number"] % 3 != 0
        return 0.9 if (features["amount"] >= 0.5) == right else 0.1


def blocks(page: str) -> list[str]:
    """Return the Python code of a page that holds a capture or a label, in order."""
    found = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    return [block for block in found if "tap.capture(" in block or block.startswith("tap.label(")]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("page", "stream", "truth", "classes"),
    [
        ("README.md", "flight-delay", "late", ("late", "on_time")),
        ("docs/hook.md", "payments", "fraud", ("review", "accept")),
    ],
)
def test_the_documented_code_gives_the_right_quality(
    page: str,
    stream: str,
    truth: str,
    classes: tuple[str, str],
    gnomon: Gnomon,
    mock_bootstrap: str,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fields = [{"name": name, "type": "double"} for name in ("amount", "number")]
    for name in ("flight_delay.avsc", "payment.avsc"):
        schema = {"type": "record", "name": "Features", "fields": fields}
        (tmp_path / name).write_text(json.dumps(schema))
    monkeypatch.chdir(tmp_path)
    taps: dict[str, Any] = {}
    real = gnomon_producer.Tap

    def one_tap(**settings: Any) -> gnomon_producer.Tap:
        if not taps:
            taps["tap"] = real(**settings | {"bootstrap_servers": mock_bootstrap})
        tap: gnomon_producer.Tap = taps["tap"]
        return tap

    monkeypatch.setattr(gnomon_producer, "Tap", one_tap)
    for number in range(REQUESTS):
        happened = number % 2 == 0
        names = {
            "request_id": f"r{number}", "features": {"amount": float(happened), "number": float(number)},
            "model": Live(), truth: happened, "customer": f"c{number}",
        }  # fmt: skip
        for block in blocks(page):
            exec(compile(block, page, "exec"), names)
    assert taps["tap"].close(60)
    assert taps["tap"].stats().delivered == REQUESTS

    (tmp_path / "perfect.py").write_text(
        MODEL.replace("POSITIVE", repr(classes[0])).replace("NEGATIVE", repr(classes[1]))
    )
    (tmp_path / "last.csv").write_text("request_id,observed_at,value\nnobody,2020-01-01,0\n")
    where = ("--stream", stream, "--bootstrap-servers", mock_bootstrap)
    base = ("--stream", stream, "--database-url", database_url)
    later = (datetime.now(UTC) + timedelta(days=9)).isoformat()
    for command in (
        ("score", *where, "--deployment", "new", "--model", "perfect:perfect", "--exit-when-idle", "1"),
        ("join", *where, "--database-url", database_url, "--deployment", "new", "--drain"),
        ("labels", "consume", *where, "--database-url", database_url, "--drain"),
        ("labels", "load", "last.csv", *base, "--complete-until", later),
    ):
        done = gnomon.run(*command, timeout=120)
        assert done.returncode == 0, done.stderr
    shown = gnomon.run("report", "quality", *base, "--format", "json", timeout=60)
    assert shown.returncode == 0, shown.stderr
    rows = {(row["metric"], row["side"]): row for row in json.loads(shown.stdout)["rows"]}
    for metric in ("accuracy", "precision", "recall", "auc"):
        assert rows[metric, "shadow"]["estimate"] == 1, metric
        assert rows[metric, "live"]["estimate"] == pytest.approx(2 / 3), metric
        assert rows[metric, "shadow"]["n"] == REQUESTS
    assert rows["label_coverage", "pair"]["estimate"] == 1
    with psycopg.connect(database_url) as connection:
        assert connection.execute("select count(*) from gnomon.labels").fetchone() == (REQUESTS + 1,)
