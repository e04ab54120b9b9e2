"""Evidence from the database against sums and variances that NumPy computes from the same rows."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from tests.support.report_database import Database
from tests.support.verdict_database import DAY, Traffic, day, fill, lenient, made, seal

from gnomon_consumer.verdict.collect import collect
from gnomon_consumer.verdict.database import deployment_row
from gnomon_consumer.verdict.plans import record_plan, stored_plans
from gnomon_consumer.verdict.rules.evidence import Evidence, Series
from gnomon_consumer.verdict.rules.gate import decide
from gnomon_consumer.verdict.rules.plan import AnswerComparison, Plan
from gnomon_consumer.verdict.service import decide_now, stored_verdict
from gnomon_consumer.verdict.verification import verify
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.schema import RECORDS


def evidence(db: Database, plan: Plan | None = None, deployment: str = "new") -> Evidence:
    row = deployment_row(db.connection, "s", deployment)
    plans = stored_plans(db.connection, row["deployment_id"])
    if plan is not None:
        plans = [*plans[:-1], replace(plans[-1], plan=plan)]
    return collect(db.connection, row, plans)


def series(found: Evidence, metric: str, segment: str = "", variant: str = "complete") -> Series:
    one = found.find(metric, segment, variant)
    assert one is not None
    return one


def test_day_sums_of_every_metric_are_those_of_the_rows(db: Database) -> None:
    plan = lenient(guardrails={"brier": 0.01, "precision": 0.1, "recall": 0.1, "log_loss": 0.1, "rmse": 0.1,
                               "squared_error": 0.1, "absolute_error": 0.1})  # fmt: skip
    rows = [row for row in made(db, 14, plan=plan).made if row["event_time"].date() >= day(0)]
    found = evidence(db)
    assert found.days == tuple(day(n) for n in range(14))
    truth = np.array([row["truth"] for row in rows], dtype=float)
    late = {side: np.array([row[f"{side}_label"] == "late" for row in rows], float) for side in ("live", "shadow")}
    value = {side: np.array([row[f"{side}_value"] for row in rows]) for side in ("live", "shadow")}
    ones = np.ones_like(truth)
    expected: dict[str, Callable[[str], tuple[Any, Any]]] = {
        "accuracy": lambda side: ((late[side] == truth).astype(float), ones),
        "precision": lambda side: (late[side] * truth, late[side]),
        "recall": lambda side: (late[side] * truth, truth),
        "brier": lambda side: ((value[side] - truth) ** 2, ones),
        "rmse": lambda side: ((value[side] - truth) ** 2, ones),
        "squared_error": lambda side: ((value[side] - truth) ** 2, ones),
        "absolute_error": lambda side: (abs(value[side] - truth), ones),
        "log_loss": lambda side: (-np.log(np.where(truth == 1, value[side], 1 - value[side])), ones),
    }
    by_day = np.array([(row["event_time"].date() - day(0)).days for row in rows])
    for metric, sums in expected.items():
        one = series(found, metric)
        for side in ("live", "shadow"):
            y, x = sums(side)
            assert getattr(one, f"{side}_y") == pytest.approx(np.bincount(by_day, y, 14)), metric
            assert getattr(one, f"{side}_x") == pytest.approx(np.bincount(by_day, x, 14)), metric
    assert found.rows == 14 * 40
    assert found.label_coverage == 1
    assert found.effective_rows == pytest.approx(560)
    assert found.classes == Counter("late" if row["truth"] else "on_time" for row in rows)
    assert (found.ledger_differences, found.orphaned, found.coverage, found.answered) == (0, 0, 1, 1)
    jfk = [row for row in rows if row["segments"] == {"origin": "JFK"}]
    assert sum(series(found, "accuracy", "origin=JFK").rows) == len(jfk)
    assert found.manifest["partitions"][0]["start_offset"] == 0
    assert set(found.manifest["schemas"]) == set(RECORDS) - {"LivePrediction"}


def test_a_value_that_is_no_probability_leaves_no_brier_score_and_no_log_loss(db: Database) -> None:
    made(db, 14, plan=lenient(guardrails={"brier": 0.01, "log_loss": 0.1}))
    assert series(evidence(db), "brier").rows
    db.connection.execute("update gnomon.pairs set shadow_value = 1.5 where source_offset = 60")
    found = evidence(db)
    assert [sum(one.rows) for one in found.series if one.metric in ("brier", "log_loss")] in ([], [0, 0])
    assert series(found, "accuracy").rows


def test_variances_of_clusters(db: Database) -> None:
    rng = np.random.default_rng(4)
    users = [f"u{n}" for n in range(9)]
    traffic = Traffic(change=lambda _day, row: {"cluster": users[rng.integers(9)]} if rng.random() < 0.8 else {})
    rows = [row for row in made(db, 14, traffic).made if row["event_time"].date() >= day(0)]
    found = series(evidence(db), "accuracy")
    right = {side: np.array([(row[f"{side}_label"] == "late") == row["truth"] for row in rows], float)
             for side in ("live", "shadow")}  # fmt: skip
    d = right["shadow"] - right["live"]
    z = (d - d.mean()) / len(d)
    units: dict[Any, float] = {}
    cells: dict[Any, float] = {}
    for n, (row, residual) in enumerate(zip(rows, z, strict=True)):
        unit = row.get("cluster") or n
        units[unit] = units.get(unit, 0.0) + residual
        where = (unit, row["event_time"].date())
        cells[where] = cells.get(where, 0.0) + residual
    expected = [sum(v * v for v in group.values()) * len(group) / (len(group) - 1) for group in (units, cells)]
    assert found.clusters[14] == pytest.approx(tuple(expected))


def test_labels_that_are_missing_are_weighted_for_and_say_the_worst(db: Database) -> None:
    traffic = Traffic(labelled=lambda _day, row: row["live_label"] == "late" or row["request_id"][-1] in "01234")
    rows = [row for row in made(db, 14, traffic).made if row["event_time"].date() >= day(0)]
    found = evidence(db)
    known = [row for row in rows if traffic.labelled(0, row)]
    assert found.label_coverage == pytest.approx(len(known) / len(rows))
    # In each group of similar requests the weights of the labelled ones sum to the group.
    assert sum(series(found, "accuracy", variant="weighted").live_x) == pytest.approx(len(rows))
    worst = series(found, "accuracy", variant="worst")
    assert sum(worst.live_x) == len(rows)
    missing = [row for row in rows if not traffic.labelled(0, row)]
    differ = sum(row["live_label"] != row["shadow_label"] for row in missing)
    right = sum((row["live_label"] == "late") == row["truth"] for row in known)
    assert sum(worst.live_y) == right + differ
    cell = next(cell for cell in found.cells if (cell.live, cell.shadow) == ("on_time", "late"))
    those = [row for row in rows if (row["live_label"], row["shadow_label"]) == ("on_time", "late")]
    assert cell.share == pytest.approx(len(those) / len(rows))
    assert cell.labelled == pytest.approx(sum(traffic.labelled(0, row) for row in those) / len(those))


@pytest.mark.parametrize("value", ["NaN", "infinity", "-infinity"])
def test_live_answers_without_a_finite_value_are_judged_by_their_decisions(db: Database, value: str) -> None:
    rows = [row for row in made(db, 14, Traffic()).made if row["event_time"].date() >= day(0)]
    db.connection.execute("update gnomon.pairs set live_value = %s where request_id like '%%7'", [value])
    found = evidence(db)
    assert sum(series(found, "accuracy").live_x) == len(rows)
    assert sum(series(found, "accuracy", variant="weighted").live_x) == pytest.approx(len(rows))


def test_errors_are_counted_once_for_each_cluster_and_day(db: Database) -> None:
    def change(day: int, row: dict[str, Any]) -> dict[str, Any]:
        if row["request_id"] in {"new-2-0", "new-2-1"}:
            return {"cluster": "u", "outcome": "failed", "shadow_error_kind": "exception"}
        if row["request_id"] == "new-3-0":
            return {"cluster": "u", "outcome": "timed_out", "shadow_error_kind": "timeout"}
        if row["request_id"] == "new-4-0":
            return {"live_error_kind": "exception", "outcome": "scored"}
        if row["request_id"] == "new-5-0":
            return {"live_error_kind": "exception", "outcome": "failed", "shadow_error_kind": "exception"}
        return {"outcome": "scored", "shadow_error_kind": None}

    made(db, 14, Traffic(change=change))
    found = evidence(db)
    assert (found.errors.units, found.errors.shadow_failed) == (559, 3)
    assert (found.errors.shadow_only, found.errors.live_only) == (2, 1)
    assert found.answered == pytest.approx(555 / 560)


def test_a_live_version_that_changed_on_day_nine(db: Database) -> None:
    made(db, 20, Traffic(version=lambda day: "1" if day < 8 else "2"))
    found = evidence(db)
    assert found.days == tuple(day(n) for n in range(8, 20))
    assert [(v.version, v.rows) for v in found.live_versions] == [("1", 8 * 40 + 3), ("2", 12 * 40)]


def test_only_sealed_days_count_and_days_without_traffic_stand_as_zero(db: Database) -> None:
    made(db, 14, Traffic())
    db.connection.execute("delete from gnomon.pairs where event_time >= %s and event_time < %s", [day(3), day(4)])
    assert evidence(db).find("accuracy").rows[3] == 0  # type: ignore[union-attr]
    assert evidence(db).ledger_differences == 1
    db.connection.execute("update gnomon.cohorts set until = until - interval '1 day'")
    assert len(evidence(db).days) == 13


def test_days_are_local_days(db: Database) -> None:
    made(db, 14, plan=lenient(time_zone="America/New_York"))
    # Sealed until midnight UTC: four hours of the last local day are missing.
    assert len(evidence(db).days) == 13


def test_latency_counts_what_is_slow_among_requests_scored_alone(db: Database) -> None:
    plan = lenient(gates={"latency_sla_ms": 1.03, "latency_control_share": 0.05})
    made(db, 14, plan=plan)
    db.add_deployment("control", "control")
    fill(db, 14, Traffic(shadow=0.7, seed=2), "control")
    sla, control = evidence(db).latency
    assert sla.shadow_y == pytest.approx((9.0,) * 14)
    assert (sla.live_y, sla.shadow_x) == ((0.0,) * 14, (40.0,) * 14)
    assert control.shadow_y == pytest.approx(control.live_y)
    assert sum(control.live_y) / sum(control.live_x) <= 0.05


def test_the_control_disagrees_and_the_features_are_named(db: Database) -> None:
    made(db, 14)
    db.add_deployment("control", "control")
    for position, name in enumerate(("distance", "hour"), start=1):
        db.add("feature_columns", [{"stream_id": db.stream_id, "name": name, "kind": "numeric", "position": position,
                                    "avro_type": "double"}])  # fmt: skip

    def change(_day: int, row: dict[str, Any]) -> dict[str, Any]:
        far = row["request_id"].endswith("7")
        answer = row["live_label"] if not far else ("late" if row["live_label"] == "on_time" else "on_time")
        return {"shadow_label": answer, "features_numeric": [900.0 if far else 100.0, float(row["event_time"].minute)]}

    fill(db, 14, Traffic(change=change, seed=2), "control")
    control = evidence(db).control
    assert control is not None
    assert control.disagreement == pytest.approx(0.1)
    assert control.low > 0.05
    assert control.features[0] == "distance"


def test_a_plan_that_changes_starts_a_new_process(db: Database) -> None:
    made(db, 14)
    identity = db.deployments["new"]
    other = lenient(days=21)
    record_plan(db.connection, identity, other, given=True)
    found = evidence(db)
    assert found.days == ()
    assert [p["sha256"] for p in found.manifest["plans"]] == [lenient().sha256, other.sha256]
    # A change of the way back alone restarts nothing; a configuration without a plan keeps the stored one.
    assert record_plan(db.connection, identity, Plan(), given=False).sha256 == other.sha256
    moved = lenient(days=21, way_back={"kind": "none"})
    assert record_plan(db.connection, identity, moved, given=True).evidence_from is not None
    assert len(stored_plans(db.connection, identity)) == 3


def test_a_changed_way_back_keeps_the_evidence(db: Database) -> None:
    made(db, 14)
    record_plan(db.connection, db.deployments["new"], lenient(way_back={"kind": "none"}), given=True)
    assert len(evidence(db).days) == 14


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"segments": {"origin=EWR": 0.01}}, "origin=EWR, which no request has; there are origin=JFK, origin=LGA"),
        ({"segments": {"orign=JFK": 0.01}}, "orign=JFK"),
        ({"harm": ("carrier",)}, "verdict.harm names carrier; requests have the segments origin"),
        ({"horizon_days": 2}, "no horizon of 2 days; there are 1"),
    ],
)
def test_names_that_do_not_exist_are_named(db: Database, plan: dict[str, Any], said: str) -> None:
    made(db, 14, plan=lenient(**plan))
    with pytest.raises(ConfigurationError, match=said):
        evidence(db)


def test_the_manifest_names_the_features_of_its_time(db: Database) -> None:
    made(db, 14)
    column = {"stream_id": db.stream_id, "kind": "numeric", "avro_type": "double"}
    db.add("feature_columns", [{**column, "name": "distance", "position": 1}])
    row = deployment_row(db.connection, "s", "new")
    said = decide_now(db.connection, row, lenient(), given=False)
    assert said.evidence.manifest["features"] == {"distance": "double"}
    db.add("feature_columns", [{**column, "name": "hour", "position": 2}])
    assert said.verdict_id is not None
    assert verify(db.connection, row, stored_verdict(db.connection, said.verdict_id)).problems == ()


def test_agreement_needs_no_labels(db: Database) -> None:
    db.add_stream(horizons=[DAY])
    record_plan(db.connection, db.add_deployment("new", "challenger"), lenient(metric="agreement"), given=True)
    traffic = fill(db, 14, Traffic(labelled=lambda _day, _row: False))
    found = evidence(db)
    rows = [row for row in traffic.made if row["event_time"].date() >= day(0)]
    one = series(found, "agreement")
    assert sum(one.shadow_y) == sum(row["live_label"] == row["shadow_label"] for row in rows)
    assert one.live_y == one.live_x == (40.0,) * 14


def test_an_earlier_time_knows_earlier_seals_only(db: Database) -> None:
    db.add_stream(horizons=[DAY])
    record_plan(db.connection, db.add_deployment("new", "challenger"), lenient(), given=True)
    fill(db, 21)
    seal(db, 14)
    before = db.value("select now()")
    seal(db, 21)
    row = deployment_row(db.connection, "s", "new")
    plans = stored_plans(db.connection, row["deployment_id"])
    assert len(collect(db.connection, row, plans, before).days) == 14
    assert len(collect(db.connection, row, plans).days) == 21
    assert collect(db.connection, row, plans, before - timedelta(days=1)).days == ()


def test_agreement_beside_a_metric_that_needs_labels(db: Database) -> None:
    plan = lenient(guardrails={"agreement": 0.5})
    traffic = made(db, 14, Traffic(labelled=lambda _day, row: row["request_id"][-1] != "0"), plan)
    rows = [row for row in traffic.made if row["event_time"].date() >= day(0)]
    found = evidence(db)
    one = series(found, "agreement")
    # All of them count, labelled or not; by segment only the deciding metric is summed.
    assert sum(one.shadow_y) == sum(row["live_label"] == row["shadow_label"] for row in rows)
    assert one.live_x == (40.0,) * 14
    assert sum(series(found, "accuracy").live_x) == len(rows) * 0.9
    assert found.find("agreement", "origin=JFK") is None
    assert found.find("agreement", variant="weighted") is None
    assert decide(plan, found).decision == "PROMOTE"


def test_an_earlier_time_knows_of_agreement_what_was_joined_then(db: Database) -> None:
    db.add_stream(horizons=[DAY])
    plan = lenient(metric="agreement", goal="not_worse", margin=0.9)
    record_plan(db.connection, db.add_deployment("new", "challenger"), plan, given=True)
    fill(db, 21)
    db.connection.execute(
        "update gnomon.windows set applied_at = now() - interval '1 day' where last_captured_at < %s", [day(14)]
    )
    db.connection.execute(
        "update gnomon.pairs set joined_at = now() - interval '1 day' where event_time < %s", [day(14)]
    )
    row = deployment_row(db.connection, "s", "new")
    plans = stored_plans(db.connection, row["deployment_id"])
    now = db.value("select now()")
    assert len(collect(db.connection, row, plans).days) == 21
    assert len(collect(db.connection, row, plans, now - DAY / 2).days) == 13
    assert collect(db.connection, row, plans, now - 2 * DAY).days == ()
    # Captures that are joined after a verdict do not change it.
    said = decide_now(db.connection, row, plan, given=False)
    db.connection.execute("update gnomon.windows set last_captured_at = last_captured_at + interval '1 day', "
                          "applied_at = now() where last_captured_at >= %s", [day(20)])  # fmt: skip
    assert said.verdict_id is not None
    assert len(said.evidence.days) == 21


RULES: list[tuple[dict[str, Any], Callable[[dict[str, Any]], bool], set[str]]] = [
    # rule, whether two answers match, fields that the rule ignores
    ({"compare": "stream"}, lambda row: row["live_label"] == row["shadow_label"], set()),
    ({"compare": "label"}, lambda row: row["live_label"] == row["shadow_label"], {"value", "ranking"}),
    ({"compare": "absolute", "tolerance": 0.5}, lambda row: abs(row["live_value"] - row["shadow_value"]) <= 0.5,
     {"label", "ranking"}),
    ({"compare": "relative", "tolerance": 0.9}, lambda row: True, {"label", "ranking"}),
    ({"compare": "sql", "expression": "live_label = 'late' -- and nothing else"},
     lambda row: row["live_label"] == "late", set()),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "match", "ignored"), RULES, ids=[str(rule[0]["compare"]) for rule in RULES])
def test_agreement_by_the_rule_of_the_plan(
    db: Database, rule: dict[str, Any], match: Callable[[dict[str, Any]], bool], ignored: set[str]
) -> None:
    plan = lenient(metric="agreement", goal="not_worse", margin=0.9, comparison=rule)
    made_rows = made(db, 14, plan=plan).made
    rows = [row for row in made_rows if row["event_time"].date() >= day(0)]
    found = evidence(db)
    one = series(found, "agreement")
    assert sum(one.shadow_y) == sum(match(row) for row in rows)
    assert one.live_y == one.live_x == (40.0,) * 14
    assert found.compared is not None
    assert (found.compared.rule, found.compared.answered, found.compared.compared) == (rule["compare"], 560, 560)
    assert set(found.compared.ignored) == set(ignored)
    differ = sum(row["live_label"] != row["shadow_label"] for row in rows)
    if "label" in ignored:
        assert found.compared.ignored["label"] == differ
    jfk = [row for row in rows if row["segments"] == {"origin": "JFK"}]
    assert sum(series(found, "agreement", "origin=JFK").shadow_y) == sum(match(row) for row in jfk)


def test_what_cannot_be_compared_is_no_match_and_stands_in_the_way(db: Database) -> None:
    plan = lenient(metric="agreement", goal="not_worse", margin=0.9, comparison={"compare": "absolute", "tolerance": 1})
    made(db, 14, plan=plan)
    db.connection.execute("update gnomon.pairs set live_value = 'NaN', shadow_value = 'NaN' where request_id like '%7'")
    found = evidence(db)
    assert sum(series(found, "agreement").live_x) == 14 * 36
    verdict = decide(plan, found)
    assert verdict.decision == "INSUFFICIENT_DATA"
    (why,) = [reason for reason in verdict.reasons if reason.code == "COMPARED"]
    assert why.text.startswith("90.00% of answered requests that could be compared (needed: 99.00%); ignored where")
    top = {"compare": "top-k", "k": 3}
    nothing = evidence(db, lenient(metric="agreement", goal="not_worse", margin=0.9, comparison=top))
    assert nothing.compared is not None
    assert (nothing.compared.compared, nothing.find("agreement")) == (0, None)
    assert decide(plan, nothing).decision == "INSUFFICIENT_DATA"


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("live_valeu > 0", 'the expression: column "live_valeu" does not exist'),
        ("live_value >", "the expression: syntax error"),
        ("true) s; select (1", "the expression: "),
        ("live_value", "the expression: cannot cast type double precision"),
    ],
)
def test_an_expression_is_checked_before_the_plan_is_stored(db: Database, expression: str, said: str) -> None:
    db.add_stream(horizons=[DAY])
    identity = db.add_deployment("new", "challenger")
    plan = lenient(metric="agreement", comparison={"compare": "sql", "expression": expression})
    with pytest.raises(ConfigurationError, match=said):
        record_plan(db.connection, identity, plan, given=True)
    assert stored_plans(db.connection, identity) == []


@pytest.mark.parametrize(
    "expression", ["gnomon.seal_cohorts(1) >= 0", "set_config('transaction_read_only', 'off', true) = gnomon.nothing()"]
)
def test_an_expression_can_only_read(db: Database, expression: str) -> None:
    db.connection.execute(
        "create function gnomon.nothing() returns text language sql as $$ delete from gnomon.labels; select 'off' $$"
    )
    plan = lenient(metric="agreement", comparison={"compare": "sql", "expression": expression})
    made(db, 14, plan=plan)
    labels = db.value("select count(*) from gnomon.labels")
    with pytest.raises(ConfigurationError, match=r"verdict\.comparison: the expression: "):
        evidence(db)
    assert db.value("select count(*) from gnomon.labels") == labels
    assert db.value("select count(*) from gnomon.cohorts") == 1


def test_a_plan_that_was_stored_before_comparisons_keeps_its_hash() -> None:
    assert Plan().sha256 == "0cefa3934599de73f9baf8c54eaf973f1071904380f501bf01680dd1ce683113"
    assert Plan(comparison=AnswerComparison(compare="label")).sha256 != Plan().sha256


@pytest.mark.parametrize("metric", ["accuracy", "brier", "precision", "log_loss", "rmse", "agreement"])
def test_days_without_an_answered_pair_are_no_evidence(db: Database, metric: str) -> None:
    plan = lenient(metric=metric, margin=0.1, guardrails={"agreement": 0.1, "brier": 0.1})
    made(db, 14, plan=plan)
    db.connection.execute("update gnomon.pairs set outcome = 'failed', shadow_error_kind = 'exception'")
    found = evidence(db)
    assert (len(found.days), found.rows, found.series) == (14, 560, ())
    assert decide(plan, found).decision == "REJECT"
    db.connection.execute("delete from gnomon.pairs where event_time >= %s", [day(0)])
    nothing = evidence(db)
    assert (nothing.rows, nothing.series) == (0, ())
    assert decide(plan, nothing).decision == "INSUFFICIENT_DATA"
