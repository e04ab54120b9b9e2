"""What a decider reads: one sentence for every decision, metric and reason."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.support.verdict_evidence import FIRST, effects, evidence, plan, series

from gnomon_consumer.verdict.rules.evidence import AnswerCell, Control, Errors, Evidence, LiveVersion, Rejection
from gnomon_consumer.verdict.rules.gate import decide
from gnomon_consumer.verdict.rules.plan import METRICS, Plan
from gnomon_consumer.verdict.rules.words import number

NOT_YET = ", after 14 whole days; not yet shown to be better"
LATER = "if the difference stays as it is, a decision is due about 29 December 2013"


def said(asked: Plan, found: Evidence) -> str:
    return decide(asked, found).sentence


def of_metric(metric: str, mean: float, spread: float = 0.01, **changes: Any) -> str:
    """Return the sentence of a challenger that is better by `mean`, in the direction in which the metric is good."""
    days = effects(14, METRICS[metric][0] * mean, spread)
    found = evidence(series=(series(days, metric), series(days, metric, variant="weighted")))
    return said(plan(**({"metric": metric, "margin": METRICS[metric][1] or 0.1} | changes)), found)


@pytest.mark.parametrize(
    ("metric", "better", "worse"),
    [
        ("precision", "5 points more of its alarms are right (at least 4.13)",
         "5 points fewer of its alarms are right (at best 4.13 points fewer)"),
        ("recall", "it finds 5 points more of the cases (at least 4.13)",
         "it finds 5 points fewer of the cases (at best 4.13 points fewer)"),
        ("log_loss", "its probabilities are better by 0.05 (log loss, at least 0.0413)",
         "its probabilities are worse by 0.05 (log loss, at best 0.0413 worse)"),
        ("squared_error", "its squared error is smaller by 0.05 (at least 0.0413)",
         "its squared error is larger by 0.05 (at best 0.0413 larger)"),
        ("rmse", "its RMSE is smaller by 0.0284 (at least 0.0234)",
         "its RMSE is larger by 0.0275 (at best 0.0228 larger)"),
        ("ndcg_exp@5", "its lists are better by 0.05 (NDCG@5, exponential gain, at least 0.0413)",
         "its lists are worse by 0.05 (NDCG@5, exponential gain, at best 0.0413 worse)"),
    ],
)  # fmt: skip
def test_every_metric_better_and_worse(metric: str, better: str, worse: str) -> None:
    assert of_metric(metric, 0.05) == f"Promote: {better}, after 14 whole days; 0 of 7,000 requests failed."
    assert of_metric(metric, -0.05) == f"Hold: {worse}{NOT_YET}."


def test_a_metric_that_rejects_says_what_the_plan_accepts() -> None:
    worse = "right on 5 points fewer of the requests (at best 4.13 points fewer)"
    assert (
        of_metric("accuracy", -0.05) == f"Reject: {worse}, after 14 whole days; the plan accepts a loss of 0.5 points."
    )
    worse = "its probabilities are worse by 0.05 (Brier score, at best 0.0413 worse)"
    assert of_metric("brier", -0.05) == f"Reject: {worse}, after 14 whole days; the plan accepts a loss of 0.005."


@pytest.mark.parametrize("noise", [0.0, 4.92e-11, -3e-9])
@pytest.mark.parametrize("metric", sorted(METRICS.keys() - {"agreement"}))
def test_rounding_noise_is_no_difference_and_promotes_nobody(metric: str, noise: float) -> None:
    sentence = of_metric(metric, noise, 1e-11)
    assert sentence.startswith("Hold: no difference")
    assert "e-" not in sentence
    assert sentence.endswith(f"{NOT_YET}.")


def test_where_nothing_can_be_told_apart_the_end_that_counts_is_named() -> None:
    assert of_metric("accuracy", 0.0, 1e-11) == f"Hold: no difference (at worst 0.0541 points fewer){NOT_YET}."
    better = "right on 0.2 points more of the requests (at worst 0.673 points fewer)"
    assert of_metric("accuracy", 0.002) == f"Hold: {better}{NOT_YET}; {LATER}."


def test_not_worse_says_how_much_may_be_lost() -> None:
    worse = "right on 0.2 points fewer of the requests (at worst 1.07 points fewer)"
    accepted = "after 14 whole days; the plan accepts a loss of 5 points; 0 of 7,000 requests failed"
    assert of_metric("accuracy", -0.002, goal="not_worse", margin=0.05) == f"Promote: {worse}, {accepted}."
    hold = of_metric("accuracy", -0.002, goal="not_worse", margin=0.01)
    assert hold.startswith(f"Hold: {worse}, after 14 whole days; not yet shown to lose at most 1 point")


def test_agreement_is_a_share_of_requests_that_differ() -> None:
    differs = of_metric("agreement", -0.02, goal="not_worse", margin=0.1)
    assert differs.startswith(
        "Promote: it differs from live on 2% of the requests (at most 2.87%), after 14 whole days;"
    )
    rejected = of_metric("agreement", -0.05, goal="not_worse")
    assert rejected == (
        "Reject: it differs from live on 5% of the requests (at least 4.13%), after 14 whole days; the plan accepts a"
        " loss of 1 point."
    )
    same = of_metric("agreement", 0.0, 0.0, goal="not_worse", margin=0.1)
    assert same.startswith("Promote: it answers every request as live does (at most 0.0541% differ), after 14 whole")
    never = of_metric("agreement", -0.02, margin=0.1)
    assert never.endswith('no model can agree with live more than live itself: set goal = "not_worse".')


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"days": (), "series": (), "rows": 0, "errors": Errors()},
         "Not enough evidence yet: no whole day counts: it must be sealed, and begin after the plan was stored."),
        ({"role": "control"}, "Hold: this is a control: the live model itself, never to be promoted; right on"),
        ({"promoted_from": True}, "Roll back to the former model: right on 5 points more of the requests"),
        ({"errors": Errors(6000, 600, 600, 0)}, "Reject: 600 of 6,000 units failed: the error rate is above 0.001; "),
        ({"cells": (AnswerCell(None, "late", 0.1, 0.0),)},
         "Not enough evidence yet: of requests where live said nothing and the challenger late, 0.0% have a label;"),
        ({"label_coverage": 0.5}, "Not enough evidence yet: 50.00% of requests with a label (needed: 90.00%);"),
        ({"ledger_differences": 1}, "Not enough evidence yet: the ledger does not close: 1 difference, 0 orphans;"),
        ({"drift": {"distance": 0.8}}, "Hold: distance has drifted: PSI at least 0.8, above 0.25; right on 5 points"),
        ({"control": Control(deployment="control", rows=900, disagreement=0.04, low=0.03,
                             features=("distance", "hour"))},
         "Hold: the control differs from live on 4.00% of the requests, where these features differ most: distance,"),
        ({"rejected": Rejection(7, 9, datetime(2013, 5, 1, tzinfo=UTC), ("WORSE",))},
         "Reject: verdict 7 rejected it after 9 whole days (WORSE); another plan starts again; right on 5 points more"),
        ({"silent": {"accuracy": ("LABELS_DO_NOT_FIT", "no decision ever equals a label")}, "series": ()},
         "Not enough evidence yet: no decision ever equals a label."),
    ],
)  # fmt: skip
def test_every_other_reason_stands_before_the_difference(changes: dict[str, Any], sentence: str) -> None:
    assert said(plan(), evidence(**changes)).startswith(sentence)


def test_too_few_days_say_how_many_it_takes_and_why() -> None:
    better = "right on 5 points more of the requests (at least 3.87), after 10 whole days; it takes 14"
    due = "if the difference stays as it is, a decision is due about 14 April 2013"
    assert said(plan(), evidence(10)) == f"Not enough evidence yet: {better}; {due}."
    versions = tuple(LiveVersion(name="live", version=str(n), first=FIRST, last=FIRST, rows=5) for n in (1, 2))
    changed = said(plan(), evidence(10, live_versions=versions))
    assert f"{better}; the live model changed to live 2: evidence counts from then on; {due}." in changed
    assert "after 1 whole day; it takes 14" in said(plan(), evidence(1))


def test_weeks_say_how_many_are_still_to_come() -> None:
    weeks = said(plan(blocks="week"), evidence(28, 0.01, 0.1))
    assert "; as the plan says, whole weeks are counted: 4 so far, 2 of 6 planned still to come." in weeks


def test_a_harmed_segment_is_said_once() -> None:
    found = evidence()
    harmed = replace(found, series=(*found.series, series(effects(14, -0.2), segment="origin=JFK")))
    better = "right on 5 points more of the requests (at least 4.13), after 14 whole days"
    required = said(plan(segments={"origin=JFK": 0.01}), harmed)
    assert required == f"Reject: accuracy of origin=JFK is worse by 0.1913 at best, more than 0.01; {better}."
    assert said(plan(), harmed) == f"Reject: accuracy of origin=JFK is worse by 0.2, more than 0.005; {better}."


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0000489, "0.0000489"), (-0.00001, "−0.00001"), (-1234567.0, "−1.235e+06"), (0.0, "0"), (1e-12, "1e-12")],
)
def test_numbers_have_no_small_exponent_and_a_true_minus(value: float, text: str) -> None:
    assert number(value) == text.replace("-", "−")
    assert number(value, level=1e9 * max(1.0, abs(value))) == "0"
