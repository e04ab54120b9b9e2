"""Whether labels, answers and declarations fit together: a right number, or none and a status with the reason."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from psycopg.rows import dict_row
from sklearn import metrics as sk
from tests.support.report_database import START, Database

# The requests of these tests are of one day: there are numbers, but no interval for days like these.
ONE_DAY = "one day only: no interval for days like these"

DAY = timedelta(days=1)
Row = dict[str, Any]
CLASSES = {"positive_class": "late", "negative_class": "on_time"}


def declare(db: Database, **settings: Any) -> None:
    columns = ", ".join(f"{name} = %({name})s" for name in settings)
    db.connection.execute(f"update gnomon.streams set {columns}", settings)


def add(db: Database, rows: list[Row], labels: list[Row | None]) -> None:
    """Add pairs one second apart, each with its label, if it has one; labels are complete for all of them."""
    pairs = [{"request_id": f"r{i}", "event_time": START + timedelta(seconds=i), **row} for i, row in enumerate(rows)]
    db.add_pairs(pairs)
    known = [
        {"request_id": pair["request_id"], "observed_at": pair["event_time"], "value": None, "label": None,
         "relevance": None, "items": None} | label
        for pair, label in zip(pairs, labels, strict=True)
        if label is not None
    ]  # fmt: skip
    db.add_labels(known, START + 60 * DAY)


def ask(db: Database, call: str) -> list[Row]:
    with db.connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(f"select * from report_v1.{call}").fetchall()


def quality(db: Database) -> dict[tuple[str, str], Row]:
    return {(row["metric"], row["side"]): row for row in ask(db, "quality('s', horizon => '1 day')")}


def said(late: bool, probability: bool = True) -> Row:
    word = "late" if late else "on_time"
    value = (0.9 if late else 0.1) if probability else None
    return {"live_label": word, "shadow_label": word, "live_value": value, "shadow_value": value}


TRUTH = [False, True, True, False] * 10
DECISIONS = ("accuracy", "precision", "recall", "f1")


@pytest.mark.parametrize(
    "label",
    [
        lambda late: {"value": float(late)},
        lambda late: {"label": "late" if late else "on_time"},
        lambda late: {"value": float(late), "label": "late" if late else "on_time"},
        lambda late: {"value": float(late)} if late else {"label": "on_time"},
    ],
)
@pytest.mark.parametrize("probability", [True, False])
def test_declared_classes_read_numbers_and_names_alike(db: Database, label: Any, probability: bool) -> None:
    declare(db, **CLASSES)
    add(db, [said(late, probability) for late in TRUTH], [label(late) for late in TRUTH])
    found = quality(db)
    for metric in (*DECISIONS, *(("auc",) if probability else ())):
        for side in ("live", "shadow"):
            assert (found[metric, side]["estimate"], found[metric, side]["status"]) == (1, ONE_DAY)
    assert found["label_coverage", "pair"]["estimate"] == 1


def test_two_vocabularies_are_named_and_make_no_number(db: Database) -> None:
    add(db, [said(late) for late in TRUTH], [{"value": float(late)} for late in TRUTH])
    found = quality(db)
    for metric in DECISIONS:
        row = found[metric, "shadow"]
        assert (row["estimate"], row["low"], row["high"], row["standard_error"]) == (None,) * 4
        assert "the decisions are late, on_time, and labels are the numbers 0, 1" in row["status"]
    # The values are probabilities of 1, so class names are not needed.
    for metric in ("auc", "brier", "log_loss"):
        assert (found[metric, "shadow"]["estimate"] is not None, found[metric, "shadow"]["status"]) == (True, ONE_DAY)


def test_names_that_no_decision_uses(db: Database) -> None:
    add(db, [said(late, False) for late in TRUTH], [{"label": "L" if late else "O"} for late in TRUTH])
    row = quality(db)["accuracy", "live"]
    assert row["estimate"] is None
    assert row["status"] == "no decision ever equals a label: the decisions are late, on_time, the labels L, O"


def test_absence_is_the_negative_class_where_it_is_declared(db: Database) -> None:
    declare(db, label_kind="absence_is_negative")
    add(db, [said(late) for late in TRUTH], [{"label": "late"} if late else None for late in TRUTH])
    assert quality(db)["accuracy", "shadow"]["estimate"] is None
    declare(db, **CLASSES)
    found = quality(db)
    for metric in DECISIONS:
        assert (found[metric, "shadow"]["estimate"], found[metric, "shadow"]["status"]) == (1, ONE_DAY)


def test_numbers_are_decisions_where_the_decisions_are_numbers(db: Database) -> None:
    rows = [{"live_label": "1", "shadow_label": str(int(late))} for late in TRUTH]
    add(db, rows, [{"value": float(late)} for late in TRUTH])
    found = quality(db)
    assert (found["accuracy", "shadow"]["estimate"], found["accuracy", "live"]["estimate"]) == (1, 0.5)
    assert found["accuracy", "shadow"]["status"] == ONE_DAY


@pytest.mark.parametrize(
    ("settings", "row", "label", "status"),
    [
        ({"task": "binary"}, {"live_value": 37.5, "shadow_value": 3.0}, {"value": 1.0},
         "the task is binary, but the answers are values from 3 to 37.5 and name no class"),
        ({"task": "regression"}, said(True), {"value": 1.0},
         "the task is regression, but the answers are classes: late"),
        ({"task": "multiclass"}, {"live_value": 0.5, "shadow_value": 0.5}, {"value": 1.0},
         "the task is multiclass, but the answers name no class"),
        ({"task": "ranking"}, said(True), {"label": "late"}, "the task is ranking, but no answer is a list"),
        ({"positive_class": "yes", "negative_class": "no"}, said(True), {"label": "late"},
         "the declared classes never occur: no, yes; the decisions are late"),
        ({"classes": ["a", "b"], "task": "multiclass"}, said(True, False), {"label": "a"},
         "the declared classes never occur: a, b; the decisions are late"),
    ],
)  # fmt: skip
def test_declarations_that_contradict_the_answers(
    db: Database, settings: Row, row: Row, label: Row, status: str
) -> None:
    declare(db, **settings)
    add(db, [row] * 5, [label] * 5)
    found = quality(db)
    assert found["task", "pair"]["status"] == status
    for (metric, _), one in found.items():
        if metric not in ("label_coverage", "answered", "answered_by_both"):
            assert (one["estimate"], one["low"], one["high"], one["status"]) == (None, None, None, status)


def test_a_class_beside_the_declared_ones_is_named(db: Database) -> None:
    declare(db, **CLASSES)
    rows = [said(late, False) for late in TRUTH] + [said(True, False) | {"live_label": "maybe"}]
    add(db, rows, [*({"value": float(late)} for late in TRUTH), {"value": 1.0}])
    row = quality(db)["accuracy", "shadow"]
    assert row["estimate"] == 1
    assert row["status"].startswith("none of the declared classes: maybe")


def test_a_probability_without_a_decision_on_a_binary_stream(db: Database) -> None:
    declare(db, task="binary")
    rng = np.random.default_rng(4)
    p, y = rng.random(40), rng.integers(0, 2, 40)
    add(db, [{"live_value": 0.5, "shadow_value": float(x)} for x in p], [{"value": float(x)} for x in y])
    found = quality(db)
    assert found["log_loss", "shadow"]["estimate"] == pytest.approx(sk.log_loss(y, p))
    assert found["brier", "shadow"]["estimate"] == pytest.approx(sk.brier_score_loss(y, p))
    assert found["auc", "shadow"]["estimate"] == pytest.approx(sk.roc_auc_score(y, p))
    assert not {("rmse", "shadow"), ("accuracy", "shadow")} & found.keys()


def test_a_challenger_that_fails_on_most_requests(db: Database) -> None:
    row = {"live_label": "1", "shadow_label": "1"}
    failed = {"live_label": "1", "shadow_label": "1", "outcome": "failed", "shadow_error_kind": "exception"}
    add(db, [row] * 10 + [failed] * 990, [{"label": "1"}] * 1000)
    found = quality(db)
    assert found["accuracy", "shadow"]["n"] == 10
    assert found["accuracy", "shadow"]["status"].startswith("only 1.0% of these requests were answered by both sides")
    assert (found["answered", "live"]["estimate"], found["answered", "shadow"]["estimate"]) == (1, 0.01)
    assert (found["answered_by_both", "pair"]["estimate"], found["label_coverage", "pair"]["status"]) == (0.01, ONE_DAY)


def test_a_truth_that_a_sides_list_does_not_hold_is_clipped(db: Database) -> None:
    scores = {"live_label": "a", "shadow_label": "a", "live_items": ["a", "b"], "shadow_items": ["a", "b", "c"],
              "live_scores": [0.7, 0.3], "shadow_scores": [0.6, 0.3, 0.1]}  # fmt: skip
    add(db, [scores] * 3, [{"label": "c"}, {"label": "a"}, {"label": "b"}])
    found = quality(db)
    assert found["log_loss", "live"]["n"] == 3
    assert found["log_loss", "live"]["estimate"] == pytest.approx(-np.log([1e-6, 0.7, 0.3]).mean())
    assert found["log_loss", "shadow"]["estimate"] == pytest.approx(-np.log([0.1, 0.6, 0.3]).mean())


def test_lists_are_judged_by_their_scores_and_a_relevance_that_is_no_number_leaves_its_list_out(db: Database) -> None:
    items = ["a", "b", "c"]
    rng = np.random.default_rng(2)
    live, shadow, truth = rng.random((3, 12, 3)).round(3)
    rows = [
        {"live_items": items, "live_scores": list(x), "shadow_items": items[::-1], "shadow_scores": list(y[::-1])}
        for x, y in zip(live, shadow, strict=True)
    ]
    relevance: list[list[float]] = [list(t) for t in truth]
    add(db, [*rows, rows[0], rows[1]], [*({"relevance": t, "items": items} for t in relevance),
                                        {"relevance": [1.0, float("nan"), 0.0], "items": items},
                                        {"relevance": [1.0, -1.0, 0.0], "items": items}])  # fmt: skip
    found = quality(db)
    for side, scores in (("live", live), ("shadow", shadow)):
        row = found["ndcg@10", side]
        assert row["n"] == 12
        assert row["estimate"] == pytest.approx(np.mean([sk.ndcg_score([t], [s]) for t, s in zip(truth, scores)]))  # noqa: B905
        assert row["status"].startswith("2 lists with a relevance that is below 0 or no number are left out")


def test_what_is_missing_is_said(db: Database) -> None:
    """No labels, no watermark, not mature yet and until when, none for these requests."""
    rows = [{"request_id": f"r{i}", "event_time": START + timedelta(hours=i), "live_label": "a", "shadow_label": "a"}
            for i in range(30)]  # fmt: skip
    db.add_pairs(rows)

    def status() -> set[str]:
        return {row["status"] for row in ask(db, "quality('s', horizon => '1 day')")}

    assert status() == {"no labels stored yet"}
    db.add_labels([{"request_id": "other", "observed_at": START, "label": "a"}], START)
    db.connection.execute("update gnomon.label_loads set complete_until = null")
    assert status() == {"labels are stored, but it is unknown until when they are complete"}
    db.connection.execute("update gnomon.label_loads set complete_until = %s", [START + timedelta(hours=3)])
    young = "not mature yet: labels are complete until 2013-04-01 03:00 UTC, and the first request matures at"
    assert status() == {f"{young} 2013-04-02 00:00 UTC"}
    assert {row["status"] for row in ask(db, "labels('s', horizon => '1 day')")} == status()
    db.connection.execute("update gnomon.label_loads set complete_until = %s", [START + 9 * DAY])
    assert status() == {"no label has arrived for any of these pairs"}


def decision_scores(rng: np.random.Generator, rows: int) -> tuple[Any, Any]:
    truth = rng.integers(0, 2, rows)
    return truth, (truth - 0.5) * 2 + rng.normal(size=rows)


@pytest.mark.parametrize("settings", [CLASSES, {}, {"task": "binary"}], ids=["declared", "undeclared", "binary"])
@pytest.mark.parametrize("side", ["live", "shadow"])
def test_one_decision_score_outside_of_0_to_1_and_no_value_is_a_probability(
    db: Database, side: str, settings: Row
) -> None:
    """As of RidgeClassifier, LinearSVC, `binary:logitraw`: four in ten scores happen to be within 0 to 1."""
    if settings:
        declare(db, **settings)
    truth, scores = decision_scores(np.random.default_rng(6), 200)
    other = np.random.default_rng(7).random(200)
    pairs = {"live": scores if side == "live" else other, "shadow": scores if side == "shadow" else other}
    rows: list[Row] = [
        {"live_label": word, "shadow_label": word, "live_value": float(live), "shadow_value": float(shadow)}
        for live, shadow, word in zip(
            pairs["live"], pairs["shadow"], np.where(scores > 0, "late", "on_time").tolist(), strict=True
        )
    ]
    add(db, rows, [{"value": float(one)} for one in truth])
    found = quality(db)
    for metric in ("brier", "log_loss"):
        for one in ("live", "shadow", "difference"):
            row = found[metric, one]
            assert row["status"] == "no probabilities: an answer lies outside of 0 to 1"
            assert [row[name] for name in ("estimate", "se_row", "standard_error", "low", "high", "se_period",
                                           "period_low", "period_high")] == [None] * 8  # fmt: skip
    assert found["auc", side]["estimate"] == pytest.approx(sk.roc_auc_score(truth, scores))
    assert {row["side"] for row in ask(db, "calibration('s')")} == {"shadow" if side == "live" else "live"}
    bounds = {row["metric"] for row in ask(db, "label_bounds('s', horizon => '1 day')")}
    assert ("auc" in bounds) == (settings == CLASSES)
    assert not {"brier", "log_loss"} & bounds
    # Also by slice: each hour has one value, and the other hours would be valid alone.
    by_day = ask(db, "quality('s', horizon => '1 day', slice => 'stratum')")
    assert {row["estimate"] for row in by_day if row["metric"] == "brier"} == {None}


def test_scores_by_class_that_are_no_probabilities_have_no_log_loss(db: Database) -> None:
    items = ["a", "b", "c"]
    rows: list[Row] = [
        {"live_label": "a", "shadow_label": "a", "live_items": items, "shadow_items": items,
         "live_scores": [0.6, 0.3, 0.1], "shadow_scores": [score, -0.2, 0.1]}
        for score in (0.4, 0.9, 1.7)
    ]  # fmt: skip
    add(db, rows, [{"label": "a"}] * 3)
    found = quality(db)
    assert found["log_loss", "shadow"]["estimate"] is None
    assert found["log_loss", "shadow"]["status"] == "no probabilities: an answer lies outside of 0 to 1"
    assert found["accuracy", "shadow"]["estimate"] == 1


def test_a_value_that_rounding_put_beyond_one_is_one(db: Database) -> None:
    """A sum of float32 probabilities over the trees of a forest: 1.0000001."""
    declare(db, **CLASSES)
    add(db, [said(True) | {"shadow_value": 1.0000001}, said(True) | {"shadow_value": 0.5}], [{"value": 1.0}] * 2)
    found = quality(db)
    assert found["brier", "shadow"]["n"] == 2
    assert found["brier", "shadow"]["estimate"] == pytest.approx(0.125)


def test_a_contrast_of_decision_scores_has_no_brier_score(db: Database) -> None:
    declare(db, **CLASSES)
    add(db, [said(late) for late in TRUTH], [{"value": float(late)} for late in TRUTH])
    db.add_deployment("other")
    db.add_pairs(
        [{"request_id": f"r{i}", "event_time": START + timedelta(seconds=i), "source_offset": i, **said(late),
          "shadow_value": 1.7 if late else -0.3} for i, late in enumerate(TRUTH)], "other",
    )  # fmt: skip
    found = {row["metric"]: row for row in ask(db, "contrast('s', 'other', against => 'new')")}
    assert found["brier"]["n"] == len(TRUTH)
    assert [found["brier"][name] for name in ("first", "second", "difference", "low")] == [None] * 4
    assert found["brier"]["status"] == "no probabilities: an answer lies outside of 0 to 1"
