"""Situations that a verdict must decide correctly: favourable evidence, from which one thing is removed."""

from dataclasses import replace
from datetime import timedelta
from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.support.verdict_evidence import FIRST, effects, evidence, plan, series

from gnomon_consumer.verdict.rules import codes
from gnomon_consumer.verdict.rules.answer import Decision, State, Verdict
from gnomon_consumer.verdict.rules.evidence import AnswerCell, Control, Errors, Evidence, LiveVersion
from gnomon_consumer.verdict.rules.gate import decide
from gnomon_consumer.verdict.rules.plan import Gates, Plan, WayBack


def state(verdict: Verdict, code: str) -> State:
    return next(reason.state for reason in verdict.reasons if reason.code == code)


def found(verdict: Verdict) -> set[str]:
    return {reason.code for reason in verdict.deciding}


def test_everything_in_favour_is_promote() -> None:
    verdict = decide(plan(), evidence())
    assert verdict.decision is Decision.PROMOTE
    assert verdict.sentence.startswith("Promote: right on 5 points more of the requests (at least 4.")
    assert "after 14 whole days; 0 of 7,000 requests failed" in verdict.sentence


def test_three_requests_with_one_error_are_no_evidence() -> None:
    few = evidence(1, rows=3, errors=Errors(units=3, shadow_failed=1, shadow_only=1))
    assert decide(plan(), few).decision is Decision.INSUFFICIENT_DATA


@pytest.mark.parametrize(("b", "c", "harm"), [(7, 0, True), (6, 0, False), (11, 1, True), (10, 1, False),
                                             (14, 2, True), (13, 2, False)])  # fmt: skip
def test_errors_of_the_challenger_alone(b: int, c: int, harm: bool) -> None:
    verdict = decide(plan(), evidence(errors=Errors(units=50_000, shadow_failed=b, shadow_only=b, live_only=c)))
    assert (verdict.decision is Decision.REJECT) is harm
    assert state(verdict, codes.MORE_ERRORS) is (State.HARM if harm else State.NOT_YET)


def test_seven_errors_of_the_challenger_alone_reject_before_the_days_are_over() -> None:
    verdict = decide(plan(), evidence(3, errors=Errors(units=300, shadow_failed=7, shadow_only=7)))
    assert verdict.decision is Decision.REJECT


def test_four_to_nothing_is_not_yet() -> None:
    verdict = decide(plan(), evidence(errors=Errors(units=50_000, shadow_failed=4, shadow_only=4)))
    assert state(verdict, codes.MORE_ERRORS) is State.NOT_YET
    assert verdict.decision is Decision.HOLD


@pytest.mark.parametrize(("units", "errors", "passes"), [(3787, 0, True), (3786, 0, False), (6655, 1, True),
                                                       (6654, 1, False)])  # fmt: skip
def test_rows_that_the_error_gate_takes(units: int, errors: int, passes: bool) -> None:
    verdict = decide(plan(), evidence(errors=Errors(units=units, shadow_failed=errors, live_only=1)))
    assert (state(verdict, codes.ERRORS) is State.PASS) is passes
    assert verdict.decision is (Decision.PROMOTE if passes else Decision.HOLD)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (
            {"days": (), "series": (), "errors": Errors(), "rows": 0, "answered": None, "coverage": None},
            codes.NO_METRIC,
        ),
        ({"series": ()}, codes.NO_METRIC),
        ({"coverage": 0.5}, codes.COVERAGE),
        ({"coverage": None}, codes.COVERAGE),
        ({"answered": 0.5}, codes.ANSWERED),
        ({"rows": 999}, codes.VOLUME),
        ({"effective_rows": 10.0}, codes.VOLUME),
        ({"classes": {"late": 3, "on_time": 9000}}, codes.VOLUME),
        ({"label_coverage": 0.5}, codes.LABEL_COVERAGE),
        ({"label_coverage": None}, codes.LABEL_COVERAGE),
        ({"ledger_differences": 1}, codes.LEDGER),
        ({"orphaned": 1}, codes.LEDGER),
        ({"errors": Errors()}, codes.ERRORS),
    ],
)
def test_missing_evidence_is_never_good_news(change: dict[str, Any], code: str) -> None:
    verdict = decide(plan(), evidence(**change))
    assert verdict.decision is Decision.INSUFFICIENT_DATA
    assert code in found(verdict)


def test_a_day_without_traffic() -> None:
    good = evidence()
    poor = replace(good.series[0], rows=(0, *good.series[0].rows[1:]))
    verdict = decide(plan(), replace(good, series=(poor, *good.series[1:])))
    assert verdict.decision is Decision.INSUFFICIENT_DATA
    assert "0 rows on the poorest day" in verdict.sentence


def test_the_share_over_the_agreed_latency_doubles_while_the_mean_stays() -> None:
    slow = series([0.02 - 0.8 + e for e in effects(14, 0, 0.002)], metric="latency_sla", rows=320)
    slow = replace(slow, live_y=(0.0,) * 14)
    verdict = decide(plan(gates=Gates(latency_sla_ms=50)), evidence(latency=(slow,)))
    assert verdict.decision is Decision.REJECT
    assert found(verdict) == {codes.LATENCY_SLA}


def test_no_request_over_the_agreed_latency_passes_with_enough_of_them() -> None:
    never = replace(series([0.0] * 14, metric="latency_sla", rows=100), live_y=(0.0,) * 14, shadow_y=(0.0,) * 14)
    agreed = plan(gates=Gates(latency_sla_ms=50))
    assert decide(agreed, evidence(latency=(never,))).decision is Decision.PROMOTE
    few = replace(never, rows=(10,) * 14)
    assert state(decide(agreed, evidence(latency=(few,))), codes.LATENCY_SLA) is State.NOT_YET
    assert decide(agreed, evidence()).decision is Decision.INSUFFICIENT_DATA


def test_thirteen_days_are_not_fourteen() -> None:
    assert decide(plan(), evidence(13)).decision is Decision.INSUFFICIENT_DATA
    assert decide(plan(), evidence(13)).expected == FIRST + timedelta(days=13)
    shown = next(reason for reason in decide(plan(), evidence(14)).reasons if reason.code == codes.SHOWN)
    assert shown.numbers["n"] == 14


def test_the_answer_of_day_14_stands_until_day_21() -> None:
    good = evidence(20)
    # The days after the fourteenth are against it; the answer of the last whole week stays valid.
    turned = series([*effects(14), *(-0.02,) * 6])
    verdict = decide(plan(), replace(good, series=(turned, replace(turned, variant="weighted"))))
    assert (verdict.decision, verdict.look) == (Decision.PROMOTE, 14)
    turned = series([*effects(14), *effects(7, -0.1)])
    later = replace(evidence(21), series=(turned, replace(turned, variant="weighted")))
    assert decide(plan(), later).decision is not Decision.PROMOTE


def test_days_that_alternate_by_the_week_depend() -> None:
    level = series(([0.06] * 7 + [0.02] * 7) * 2)
    verdict = decide(plan(), evidence(28, series=(level, replace(level, variant="weighted"))))
    assert verdict.decision is Decision.HOLD
    note = next(reason for reason in verdict.reasons if reason.code == codes.DAYS_DEPEND)
    assert "4 so far, 2 of 6 planned still to come" in note.text


def test_a_live_model_that_changed() -> None:
    versions = (
        LiveVersion(
            name="live", version="1", first=FIRST - timedelta(days=9), last=FIRST - timedelta(days=1), rows=4500
        ),
        LiveVersion(name="live", version="2", first=FIRST, last=FIRST + timedelta(days=10), rows=5500),
    )
    verdict = decide(plan(), evidence(11, live_versions=versions))
    assert verdict.decision is Decision.INSUFFICIENT_DATA
    changed = next(reason for reason in verdict.reasons if reason.code == codes.LIVE_CHANGED)
    assert changed.numbers["earlier"][0]["version"] == "1"


def test_a_cell_whose_labels_never_come_is_named() -> None:
    cells = (AnswerCell("rejected", "approved", 0.02, 0.0), AnswerCell("approved", "approved", 0.98, 1.0))
    verdict = decide(plan(), evidence(cells=cells))
    assert verdict.decision is Decision.INSUFFICIENT_DATA
    assert "live said rejected and the challenger approved, 0.0% have a label" in verdict.sentence


def test_missing_labels_may_say_the_worst() -> None:
    lenient = plan(gates=Gates(label_coverage=0.5))
    good = evidence(label_coverage=0.8)
    assert decide(lenient, good).decision is Decision.HOLD
    bad = (*good.series, series(effects(14, -0.1), variant="worst"))
    assert found(decide(lenient, replace(good, series=bad))) == {codes.LABELS_DECIDE}
    fine = (*good.series, series(effects(14, 0.02), variant="worst"))
    assert decide(lenient, replace(good, series=fine)).decision is Decision.PROMOTE


def test_weights_for_missing_labels_may_turn_it() -> None:
    good = evidence()
    verdict = decide(plan(), replace(good, series=(good.series[0], series(effects(14, 0.0), variant="weighted"))))
    assert found(verdict) == {codes.LABELS_DECIDE}


def test_a_control_is_never_promoted_and_one_that_disagrees_blocks() -> None:
    verdict = decide(plan(), evidence(role="control"))
    assert (verdict.decision, found(verdict)) == (Decision.HOLD, {codes.CONTROL})
    noisy = Control(deployment="control", rows=5000, disagreement=0.04, low=0.035, features=("distance", "hour"))
    verdict = decide(plan(), evidence(control=noisy))
    assert (verdict.decision, found(verdict)) == (Decision.HOLD, {codes.CONTROL_DISAGREES})
    assert "distance, hour" in verdict.sentence
    assert decide(plan(), evidence(control=replace(noisy, low=0.001))).decision is Decision.PROMOTE


def test_drift_blocks_unless_it_is_expected() -> None:
    verdict = decide(plan(), evidence(drift={"hour": 0.3, "distance": 0.1}))
    assert (verdict.decision, found(verdict)) == (Decision.HOLD, {codes.DRIFT})
    expected = plan(gates=Gates(drift_expected=("hour",)))
    assert decide(expected, evidence(drift={"hour": 0.3})).decision is Decision.PROMOTE


def test_without_a_way_back_there_is_no_promote() -> None:
    verdict = decide(Plan(), evidence())
    assert (verdict.decision, found(verdict)) == (Decision.HOLD, {codes.NO_WAY_BACK})
    assert verdict.expected is None


def test_a_worse_challenger_is_rejected_after_seven_days() -> None:
    verdict = decide(plan(), evidence(7, mean=-0.05))
    assert verdict.decision is Decision.REJECT
    assert verdict.sentence.startswith("Reject: right on 5 points fewer of the requests (at best")


def test_one_harmed_segment_of_forty_is_named() -> None:
    good = evidence(21)
    segments = [series(effects(21, 0.05, 0.01, seed), segment=f"origin={seed}") for seed in range(40)]
    segments[7] = series(effects(21, -0.05), segment="origin=7")
    verdict = decide(plan(), replace(good, series=(*good.series, *segments)))
    assert verdict.decision is Decision.REJECT
    assert [r.numbers["segment"] for r in verdict.deciding] == ["origin=7"]


def test_a_required_segment_must_be_shown() -> None:
    asked = plan(segments={"origin=JFK": 0.01})
    good = evidence()
    assert decide(asked, good).decision is Decision.INSUFFICIENT_DATA
    unclear = series(effects(14, 0.0, 0.05), segment="origin=JFK")
    assert decide(asked, replace(good, series=(*good.series, unclear))).decision is Decision.HOLD
    fine = series(effects(14, 0.02), segment="origin=JFK")
    assert decide(asked, replace(good, series=(*good.series, fine))).decision is Decision.PROMOTE


def test_superior_and_only_not_worse() -> None:
    even = evidence(mean=0.0, spread=0.002)
    assert decide(plan(), even).decision is Decision.HOLD
    assert decide(plan(goal="not_worse"), even).decision is Decision.PROMOTE


def test_a_challenger_that_answers_the_same_everywhere_is_not_worse() -> None:
    same = evidence(mean=0.0, spread=0.0)
    assert decide(plan(goal="not_worse"), same).decision is Decision.PROMOTE
    assert decide(plan(), same).decision is Decision.HOLD
    few = series([0.0] * 14, rows=2)
    verdict = decide(plan(goal="not_worse"), replace(same, series=(few, replace(few, variant="weighted"))))
    assert verdict.decision is Decision.HOLD


def test_the_former_model_is_rolled_back_to() -> None:
    assert decide(plan(), evidence(promoted_from=True)).decision is Decision.ROLLBACK


def test_evidence_survives_json() -> None:
    whole = evidence(control=Control(deployment="control", rows=10, disagreement=0.0, low=-inf))
    again = Evidence.from_json(whole.as_json() | {"control": None})
    assert again == replace(whole, control=None)
    assert decide(plan(), again) == decide(plan(), replace(whole, control=None))


@given(st.integers(0, 40), st.floats(-0.2, 0.2), st.floats(0, 0.1), st.floats(0, 1), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_promote_never_without_days_coverage_or_rows(
    days: int, mean: float, spread: float, coverage: float, errors: int
) -> None:
    verdict = decide(plan(), evidence(days, mean, spread, coverage=coverage, errors=Errors(400 * days, errors, errors)))
    if verdict.decision is Decision.PROMOTE:
        assert days >= 14
        assert coverage >= 0.99
        assert mean > 0
        assert errors < 3
    assert verdict.sentence.endswith(".")
    assert {r.code for r in verdict.reasons} <= set(codes.MEANINGS)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metric": "acuracy"}, "there is no metric acuracy; there are accuracy, precision"),
        ({"metric": "rmse"}, "rmse has no common margin"),
        ({"guardrails": {"f1": 0.1}}, "there is no metric f1"),
        ({"guardrails": {"recall": -1.0}}, "the margin of recall must be above 0"),
        ({"guardrails": {"recall": float("inf")}}, "the margin of recall must be above 0 and finite"),
        ({"segments": {"JFK": 0.1}}, "'JFK'"),
        ({"segments": {"=JFK": 0.1}}, "'=JFK'"),
        ({"segments": {"origin=JFK": float("inf")}}, "finite margin above 0"),
        ({"margin": float("inf")}, "less than or equal to 1000000000000"),
        ({"time_zone": "Mars"}, "there is no time zone Mars"),
        ({"days": 13}, "greater than or equal to 14"),
        ({"days": 10_000}, "less than or equal to 366"),
        ({"alpha": 1e-300}, "greater than or equal to"),
        ({"alpha": 0}, "greater than or equal to"),
        ({"alpha": float("nan")}, "Input should be"),
        ({"margin": 0}, "greater than 0"),
        ({"margin": float("nan")}, "Input should be"),
        ({"days_": 14}, "Extra inputs"),
        ({"way_back": {"kind": "mlflow"}}, "needs mlflow_model, mlflow_version"),
        ({"way_back": {"kind": "command", "promote_command": ["x"]}}, "needs rollback_command"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Plan.model_validate(changes)


def test_the_hash_of_a_plan_is_that_of_its_meaning() -> None:
    assert Plan().sha256 == Plan(metric="accuracy").sha256
    assert Plan().sha256 != Plan(days=15).sha256
    assert Plan.model_validate_json(Plan(segments={"a=b": 0.1}).canonical()) == Plan(segments={"a=b": 0.1})
    assert Plan(way_back=WayBack()).sha256 == Plan().sha256


def test_a_constant_difference_excludes_nothing() -> None:
    verdict = decide(plan(), evidence(mean=0.05, spread=0.0))
    assert verdict.decision is Decision.HOLD


def test_effects_of_the_tests_are_what_they_say() -> None:
    assert np.mean(effects(14)) == pytest.approx(0.05)
    assert np.std(effects(14)) == pytest.approx(0.01)
