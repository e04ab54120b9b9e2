"""Metrics that no request has the data for, with the reason; and metrics of lists."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.report_database import START, Database
from tests.support.verdict_database import DAY, Traffic, day, fill, lenient, made, seal

from gnomon_consumer.verdict.collect import collect
from gnomon_consumer.verdict.database import deployment_row
from gnomon_consumer.verdict.plans import record_plan, stored_plans
from gnomon_consumer.verdict.rules.answer import Reason
from gnomon_consumer.verdict.rules.evidence import Evidence
from gnomon_consumer.verdict.rules.gate import decide
from gnomon_consumer.verdict.rules.plan import RANKINGS, Plan
from gnomon_consumer.verdict.service import decide_now, export, stored_verdict

DOCS = Path(__file__).parents[3] / "docs" / "verdict.md"


def evidence(db: Database) -> Evidence:
    row = deployment_row(db.connection, "s", "new")
    return collect(db.connection, row, stored_plans(db.connection, row["deployment_id"]))


def why(db: Database, plan: Plan) -> Reason:
    """Return why nothing is known of the plan's metric; the verdict must be INSUFFICIENT_DATA."""
    verdict = decide(plan, evidence(db))
    assert verdict.decision == "INSUFFICIENT_DATA"
    (found,) = [reason for reason in verdict.deciding if reason.numbers.get("metric") == plan.metric]
    assert found.text in verdict.sentence
    return found


@pytest.mark.parametrize(
    ("metric", "change", "code", "text"),
    [
        ("brier", "update gnomon.pairs set shadow_value = 7 * shadow_value - 3", "NOT_PROBABILITIES",
         "the challenger answers values from −2.3 to 3.3, which are not probabilities, so there is no Brier score"),
        ("log_loss", "update gnomon.pairs set live_value = -1.5 where source_offset = 60", "NOT_PROBABILITIES",
         "live answers values from −1.5 to 0.9, which are not probabilities, so there is no log loss"),
        ("brier", "update gnomon.pairs set shadow_value = null", "NO_METRIC",
         "the challenger answers no finite value, so there is no Brier score"),
        ("rmse", "update gnomon.labels set value = null", "LABELS_DO_NOT_FIT",
         "no label has a value, so there is no RMSE"),
        ("brier", "update gnomon.labels set value = 2", "LABELS_DO_NOT_FIT",
         "no label of a request with values is 0 or 1, so there is no Brier score"),
        ("accuracy", "update gnomon.labels set label = null", "LABELS_DO_NOT_FIT",
         "no decision ever equals a label, so there is no accuracy: the decisions are late, on_time, the labels 0, 1"),
        ("accuracy", "update gnomon.pairs set shadow_label = null", "NO_METRIC",
         "no request has a decision of both sides, so there is no accuracy"),
        ("recall", "update gnomon.labels set value = null", "LABELS_DO_NOT_FIT",
         "no label says which class is positive, so there is no recall: declare it (gnomon streams set)"),
        ("accuracy", "delete from gnomon.labels", "NO_METRIC",
         "no answered request has a label in time, so there is no accuracy"),
        ("ndcg@5", "select 1", "NO_METRIC",
         "no list of both sides has an item of known relevance, so there is no NDCG@5"),
    ],
)  # fmt: skip
def test_a_metric_without_rows_says_why(db: Database, metric: str, change: str, code: str, text: str) -> None:
    plan = lenient(metric=metric, margin=0.1)
    made(db, 14, plan=plan)
    db.connection.execute(change.encode())
    found = why(db, plan)
    assert (found.code, found.text) == (code, text)


def test_a_guardrail_without_rows_says_why(db: Database) -> None:
    plan = lenient(guardrails={"log_loss": 0.1})
    made(db, 14, plan=plan)
    db.connection.execute("update gnomon.pairs set shadow_value = 5 where source_offset = 60")
    verdict = decide(plan, evidence(db))
    assert verdict.decision == "INSUFFICIENT_DATA"
    assert {reason.code for reason in verdict.deciding} == {"NOT_PROBABILITIES"}


def lists(db: Database, days: int, plan: Plan) -> None:
    """Make a stream of lists with a relevance of each item: the challenger's are in a better order."""
    db.add_stream(horizons=[DAY])
    record_plan(db.connection, db.add_deployment("new", "challenger"), plan, given=True)
    items, rng, labels = list("abcdefghijklmnopqrstuvwxy"), np.random.default_rng(3), []

    def change(_day: int, row: dict[str, Any]) -> dict[str, Any]:
        relevance = rng.integers(0, 4, len(items)).astype(float)
        if row["request_id"].endswith("-3"):
            relevance[2] = np.nan
        labels.append({"request_id": row["request_id"], "observed_at": row["event_time"] + DAY / 24,
                       "relevance": relevance.tolist(), "items": items})  # fmt: skip
        orders = (rng.permutation(len(items)), np.argsort(-np.nan_to_num(relevance) + rng.normal(0, 2, len(items))))
        sides = {
            f"{side}_items": [items[at] for at in order] for side, order in zip(("live", "shadow"), orders, strict=True)
        }
        return {**dict.fromkeys(("live_label", "shadow_label", "live_value", "shadow_value")), **sides}

    fill(db, days, Traffic(rows=30, change=change, labelled=lambda _day, _row: False))
    db.add_labels(labels, START + (days + 5) * DAY)
    seal(db, days)


def test_ndcg_by_day_is_that_of_the_report(db: Database) -> None:
    plan = lenient(metric="ndcg@10", margin=0.05, guardrails=dict.fromkeys(RANKINGS[:3] + RANKINGS[5:], 0.05),
                   gates={"rows": 100, "effective_rows": 50, "error_rate": 0.05})  # fmt: skip
    lists(db, 14, plan)
    found = evidence(db)
    report = db.connection.execute(
        "select metric, side, estimate, n from report_v1.quality('s', 'new', %s, %s) where metric like 'ndcg%%'",
        [day(0), day(14)],
    ).fetchall()
    said = {(metric, side): (estimate, n) for metric, side, estimate, n in report}
    for metric in plan.margins():
        series = found.find(metric)
        assert series is not None
        assert sum(series.rows) == said[metric, "live"][1] == 14 * 29
        assert sum(series.live_y) / sum(series.live_x) == pytest.approx(said[metric, "live"][0])
        assert sum(series.shadow_y) / sum(series.shadow_x) == pytest.approx(said[metric, "shadow"][0])
        assert found.find(metric, variant="weighted") is not None
        assert found.find(metric, variant="worst") is None
    assert sum(found.find("ndcg@10", "origin=JFK").rows) > 0  # type: ignore[union-attr]
    verdict = decide(plan, found)
    assert verdict.decision == "PROMOTE", verdict.sentence
    assert verdict.sentence.startswith("Promote: its lists are better by 0.")


def test_the_script_of_the_docs_decides_a_plan_of_lists(db: Database, tmp_path: Path) -> None:
    plan = lenient(metric="ndcg_exp@5", margin=0.05, gates={"rows": 100, "effective_rows": 50, "error_rate": 0.05})
    lists(db, 14, plan)
    said = decide_now(db.connection, deployment_row(db.connection, "s", "new"), plan, given=False)
    assert said.verdict_id is not None
    file = tmp_path / "verdict.json"
    file.write_text(json.dumps(export(stored_verdict(db.connection, said.verdict_id))), encoding="utf-8")
    script = re.search(r"```python\n(import json.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert script is not None
    run = [sys.executable, "-I", "-c", script.group(1), str(file)]
    low, again = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    assert again == said.verdict.decision == "PROMOTE"
    assert float(low) == pytest.approx(said.verdict.metrics[0].low, abs=1e-5)
