"""The table of docs/statistics.md: every estimator beside the library that confirms it, with the difference measured.

`GNOMON_WRITE_DOCS=1 pytest tests/integration/test_report_table.py` writes the table; without it the test holds the
document to what it measures.
"""

import math
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.rows import dict_row
from scipy import stats
from sklearn import metrics as sk
from tests.integration.test_report_estimators import variances
from tests.report_rows import START, Database, sample

DOCUMENT = Path(__file__).parents[2] / "docs" / "statistics.md"
BEGIN, END = "<!-- estimators: written by the tests -->", "<!-- end -->"
FLOOR = -12  # differences below 1e-12 are the machine's own rounding


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """A database with one stream and a challenger."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        made = Database(connection)
        made.add_stream()
        made.add_deployment()
        yield made


def rows(db: Database, call: str) -> list[dict[str, Any]]:
    with db.connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(f"select * from report_v1.{call}").fetchall()


def comparisons(db: Database) -> list[tuple[str, str, float, float]]:
    """(estimator, what confirms it, ours, theirs) on 400 weighted pairs in 40 clusters and 6 days."""
    s = sample(np.random.default_rng(2013))
    db.add_pairs(s.rows())
    db.add_labels(s.labels(), START + timedelta(days=40))
    w, y, a, b = s.weight, s.truth, s.shadow > 0.5, s.live > 0.5
    agreement = rows(db, "agreement('s')")[0]
    quality = {(row["metric"], row["side"]): row for row in rows(db, "quality('s', horizon => '1 day')")}
    latency = {(row["measure"], row["quantile"]): row for row in rows(db, "latency('s')")}
    same = (a == b).astype(float)
    residual = w * (same - np.average(same, weights=w)) / w.sum()
    by_row, by_cluster, by_day = variances(s, residual)
    values = np.array([int(1000 + 2000 * v) for v in s.shadow])
    found = [
        ("agreement", "sklearn accuracy_score", agreement["agreement"], sk.accuracy_score(b, a, sample_weight=w)),
        ("its error by row", "numpy", agreement["se_row"], by_row**0.5),
        ("its error by cluster", "numpy", agreement["se_cluster"], by_cluster**0.5),
        ("its error by day", "numpy", agreement["se_day"], by_day**0.5),
        ("Kish effective n", "numpy", agreement["n_effective"], w.sum() ** 2 / (w**2).sum()),
        ("Cohen's kappa", "sklearn cohen_kappa_score", agreement["kappa"], sk.cohen_kappa_score(b, a, sample_weight=w)),
        (
            "p95 of latency",
            "numpy quantile, inverted_cdf",
            latency["shadow", 0.95]["microseconds"],
            float(np.quantile(values, 0.95, weights=w, method="inverted_cdf")),
        ),
    ]
    decision = {"accuracy": sk.accuracy_score, "precision": sk.precision_score, "recall": sk.recall_score}
    score = {"auc": sk.roc_auc_score, "log_loss": sk.log_loss, "brier": sk.brier_score_loss}
    for name, metric in (decision | score).items():
        live, shadow = (metric(y, p > 0.5 if name in decision else p, sample_weight=w) for p in (s.live, s.shadow))
        reference = f"sklearn {metric.__name__}"
        found.append((name, reference, quality[name, "shadow"]["estimate"], shadow))
        found.append((f"{name}, difference", reference, quality[name, "difference"]["estimate"], shadow - live))
    for name, reference, call, theirs in (
        ("log gamma (3.3)", "math.lgamma", "ln_gamma(3.3)", math.lgamma(3.3)),
        ("beta (0.3; 2, 5)", "scipy beta.cdf", "beta_cdf(0.3, 2, 5)", stats.beta.cdf(0.3, 2, 5)),
        ("beta quantile", "scipy beta.ppf", "beta_quantile(0.025, 3, 40)", stats.beta.ppf(0.025, 3, 40)),
        ("χ² quantile, 9 df", "scipy chi2.ppf", "chi2_quantile(0.95, 9)", stats.chi2.ppf(0.95, 9)),
    ):
        found.append((name, reference, db.value(f"select report_v1.{call}"), theirs))
    return [(name, reference, float(ours), float(theirs)) for name, reference, ours, theirs in found]


def bound(ours: float, theirs: float) -> int:
    """The power of ten that the relative difference stays below."""
    difference = abs(ours - theirs) / max(abs(theirs), 1e-300)
    return FLOOR if difference < 10.0**FLOOR else math.ceil(math.log10(difference))


def test_the_table_of_the_document_is_what_the_tests_measure(db: Database) -> None:
    measured = comparisons(db)
    powers = {name: bound(ours, theirs) for name, _, ours, theirs in measured}
    assert max(powers.values()) <= -9, powers
    lines = ["| estimator | confirmed by | value | relative difference below |", "|---|---|---|---|"]
    lines += [f"| {name} | {reference} | {ours:.6g} | 1e{powers[name]} |" for name, reference, ours, _ in measured]
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    table, _, after = rest.partition(END)
    if os.environ.get("GNOMON_WRITE_DOCS"):
        DOCUMENT.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}", encoding="utf-8")
        return
    stated = re.findall(r"^\| ([^|]+?) \| ([^|]+?) \| ([^|]+?) \| 1e(-\d+) \|$", table, re.MULTILINE)
    assert [(name, reference, value) for name, reference, value, _ in stated] == [
        (name, reference, f"{ours:.6g}") for name, reference, ours, _ in measured
    ]
    for name, _, _, power in stated:  # another processor may round its last bits otherwise
        assert powers[name] <= int(power) + 2, name
