"""`report_v1.matches`: a rule chosen by the reader; ignored or missing parts are counted, and never a match."""

import json
import math
from typing import Any

import numpy as np
import pytest
from psycopg.rows import dict_row
from tests.support.estimators import share_interval, spread
from tests.support.report_database import Database, sample

from gnomon_consumer.reports.query import Question, ask
from gnomon_schemas.errors import ConfigurationError

PAIRS: list[dict[str, Any]] = [
    # live label, value, items, scores; then the shadow's
    {"live_label": "a", "live_value": 10.0, "shadow_label": "a", "shadow_value": 10.4},
    {"live_label": "a", "live_value": 10.0, "shadow_label": "b", "shadow_value": 10.0},
    {"live_label": "a", "live_value": math.nan, "shadow_label": "a", "shadow_value": math.nan},
    {"live_label": None, "live_value": math.inf, "shadow_label": None, "shadow_value": math.inf},
    {"live_label": None, "live_value": None, "shadow_label": None, "shadow_value": None,
     "live_items": ["x", "y", "z"], "live_scores": [3.0, 2.0, 1.0],
     "shadow_items": ["x", "y", "z"], "shadow_scores": [2.0, 3.0, 1.0]},
    {"live_label": None, "live_value": None, "shadow_label": None, "shadow_value": None,
     "live_items": [], "live_scores": [], "shadow_items": [], "shadow_scores": []},
    {"live_label": "a", "live_value": 1.0, "shadow_label": "a", "shadow_value": 1.0, "outcome": "failed",
     "shadow_error_kind": "exception"},
    {"live_label": "a", "live_value": 1.0, "shadow_label": "a", "shadow_value": 1.0, "live_error_kind": "exception"},
]  # fmt: skip


def matches(db: Database, **given: Any) -> dict[str, Any]:
    (row,) = ask(db.connection, "matches", Question("s", extra=given)).rows
    return dict(row)


@pytest.fixture
def known(db: Database) -> Database:
    empty = dict.fromkeys(key for pair in PAIRS for key in pair)
    db.add_pairs([{**empty, "outcome": "scored", **pair} for pair in PAIRS])
    return db


@pytest.mark.parametrize(
    ("given", "n", "share", "ignored"),
    [
        ({}, 3, 2 / 3, (None, 1, 0)),
        ({"compare": "absolute", "tolerance": 0.5}, 2, 1.0, (1, None, 0)),
        ({"compare": "absolute", "tolerance": 0.0}, 2, 0.5, (1, None, 0)),
        ({"compare": "relative", "tolerance": 0.03}, 2, 0.5, (1, None, 0)),
        ({"compare": "relative", "tolerance": 0.04}, 2, 1.0, (1, None, 0)),
        ({"compare": "top-k", "k": 1}, 1, 0.0, (0, 0, None)),
        ({"compare": "top-k", "k": 2}, 1, 1.0, (0, 0, None)),
        ({"compare": "top-k", "k": 9}, 1, 1.0, (0, 0, None)),
        ({"compare": "sql", "expression": "live_value < shadow_value"}, 4, 0.25, (None, None, None)),
        ({"compare": "sql", "expression": "null"}, 0, None, (None, None, None)),
        ({"compare": "sql", "expression": "true -- all"}, 6, 1.0, (None, None, None)),
    ],
)
def test_what_matches_is_counted_and_what_cannot_be_compared_is_no_match(
    known: Database, given: dict[str, Any], n: int, share: float | None, ignored: tuple[int | None, ...]
) -> None:
    row = matches(known, **given)
    assert (row["n"], row["not_compared"]) == (n, len(PAIRS) - n)
    assert row["matches"] == (None if share is None else pytest.approx(share))
    if n:
        assert (row["ignored_label"], row["ignored_value"], row["ignored_ranking"]) == ignored
    else:
        assert row["status"] == "no pair has what this comparison reads"
        assert (row["low"], row["high"]) == (None, None)


@pytest.mark.parametrize("seed", range(2))
def test_shares_and_intervals_are_those_of_numpy(db: Database, seed: int) -> None:
    s = sample(np.random.default_rng(seed))
    db.add_pairs(s.rows())
    row = matches(db, compare="absolute", tolerance=0.1)
    same, w = abs(s.live - s.shadow) <= 0.1, s.weight
    theta = np.average(same, weights=w)
    expected = spread(w * (same - theta) / w.sum(), s.cluster, s.day)
    kish = w.sum() ** 2 / (w**2).sum()
    assert 0.1 < theta < 0.95
    assert (row["matches"], row["n_effective"]) == pytest.approx((theta, kish))
    assert (row["low"], row["high"]) == pytest.approx(
        share_interval(theta, expected.together**2, kish, expected.t), rel=1e-7
    )
    # The rule of the stream itself, written as a rule of the reader.
    with db.connection.cursor(row_factory=dict_row) as cursor:
        own = cursor.execute("select * from report_v1.agreement('s')").fetchall()[0]
    row = matches(db, compare="label")
    wanted = ("n", "agreement", "low", "high")
    assert [row[name.replace("agreement", "matches")] for name in wanted] == pytest.approx([own[k] for k in wanted])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"compare": "lable"}, "there is no comparison 'lable'; there are label, absolute, relative, top-k and sql"),
        ({"compare": "absolute"}, "comparison absolute needs a tolerance of at least 0"),
        ({"compare": "relative", "tolerance": "-1"}, "needs a tolerance"),
        ({"compare": "absolute", "tolerance": "NaN"}, "needs a tolerance"),
        ({"compare": "absolute", "tolerance": "wide"}, 'invalid input syntax for type double precision: "wide"'),
        ({"compare": "top-k"}, "comparison top-k needs k, at least 1"),
        ({"compare": "top-k", "k": "0"}, "comparison top-k needs k"),
        ({"compare": "sql"}, "comparison sql needs an expression"),
        ({"compare": "sql", "expression": "  "}, "comparison sql needs an expression"),
        ({"compare": "sql", "expression": "live_valeu > 0"}, 'the expression: column "live_valeu" does not exist'),
        ({"compare": "sql", "expression": "live_value >"}, "the expression: syntax error"),
        ({"compare": "sql", "expression": "live_value"}, "the expression: cannot cast type double precision"),
        ({"compare": "sql", "expression": "1 / 0 = 1"}, "the expression: division by zero"),
        ({"compare": "sql", "expression": "true) s; select (1"}, "the expression: "),
        ({"compare": "label", "tolerance": "0.1"}, "tolerance is for absolute and relative"),
        ({"compare": "top-k", "k": "3", "expression": "true"}, "expression for sql"),
    ],
)
def test_a_rule_that_makes_no_sense_is_one_line(known: Database, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        matches(known, **given)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_expression_changes_nothing(known: Database, command: Any, database_url: str) -> None:
    ask_for = ("report", "matches", "--database-url", database_url, "--stream", "s", "--format", "json")
    done = command(*ask_for, "--compare", "sql", "--expression", "gnomon.seal_cohorts(1) >= 0")
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    done = command(*ask_for, "--compare", "top-k", "--k", "2")
    assert json.loads(done.stdout)["rows"][0]["matches"] == 1
