"""The table of docs/statistics.md: every estimator and the library that confirms it, with the measured difference.

`GNOMON_WRITE_DOCS=1 pytest tests/integration/reports/test_report_table.py` writes the table; without it the test
compares the document with its results.
"""

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from psycopg.rows import dict_row
from scipy import stats
from scipy.spatial.distance import jensenshannon
from sklearn import metrics as sk
from statsmodels.regression.linear_model import WLS
from statsmodels.stats.inter_rater import cohens_kappa
from tests.support.estimators import share_interval, spread
from tests.support.report_database import START, Database, Sample, sample

from gnomon_consumer.reference.build import store
from gnomon_consumer.reference.profile import profile

DOCUMENT = Path(__file__).parents[3] / "docs" / "statistics.md"
BEGIN, END = "<!-- estimators: written by the tests -->", "<!-- end -->"
FLOOR = -12  # differences below 1e-12 are rounding
SETTLED = START + timedelta(days=40)
PUBLISHED = [[0, 4, 1], [0, 8, 0], [0, 1, 5]]  # kappa 0.4842, standard error 0.1380

Array = NDArray[Any]
Line = tuple[str, str, float, float]  # estimator, what confirms it, ours, theirs
Found = Mapping[tuple[Any, ...], dict[str, Any]]


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """Return a database with one stream and the deployments for the parts of the table."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        made = Database(connection)
        made.add_stream()
        for name in ("new", "published", "faulty", "numbers", "lists"):
            made.add_deployment(name)
        made.add("feature_columns", [
            {"stream_id": made.stream_id, "name": name, "kind": kind, "position": 1, "avro_type": "x"}
            for name, kind in (("amount", "numeric"), ("country", "text"))
        ])  # fmt: skip
        yield made


def rows(db: Database, call: str) -> list[dict[str, Any]]:
    with db.connection.cursor(row_factory=dict_row) as cursor:
        function = call if call.startswith("gnomon_estimators.") else f"report_v1.{call}"
        return cursor.execute(f"select * from {function}").fetchall()


def by(db: Database, call: str, *columns: str) -> Found:
    return {tuple(row[column] for column in columns): row for row in rows(db, call)}


def sandwich(groups: Array, w: Array, live: Array, shadow: Array, given: tuple[Array, Array] | None = None) -> Array:
    """Return the covariance of the weighted means of live and shadow by statsmodels: both sides in one regression.

    The regression has two constants; its errors are robust to groups that hold rows of both. `given` selects the rows
    that count (for a ratio: x = 1).
    """
    kept = given or (np.ones(len(w), bool), np.ones(len(w), bool))
    y = np.concatenate([live[kept[0]], shadow[kept[1]]]).astype(float)
    side = np.repeat([0, 1], [int(kept[0].sum()), int(kept[1].sum())])
    both = np.concatenate([groups[kept[0]], groups[kept[1]]])
    model = WLS(y, np.column_stack([1 - side, side]), weights=np.concatenate([w[kept[0]], w[kept[1]]]))
    options = {"groups": both, "use_correction": False}
    covariance: Array = model.fit(cov_type="cluster", cov_kwds=options).cov_params()
    return covariance


def errors(
    name: str, found: Found, s: Sample, covariance: Callable[[Array], Array], slope: tuple[float, float]
) -> list[Line]:
    """Compare the error of the difference by row, cluster and day; `slope`: of the reported value in either mean."""
    lines = []
    own = np.where(s.cluster < 0, 1000 + np.arange(len(s.cluster)), s.cluster)
    for title, column, groups in (
        ("row", "se_row", np.arange(len(s.cluster))), ("cluster", "se_cluster", own), ("day", "se_day", s.day)
    ):  # fmt: skip
        contrast = np.array([-slope[0], slope[1]])
        few = len(np.unique(groups)) / (len(np.unique(groups)) - 1)
        theirs = float(contrast @ covariance(groups) @ contrast * few) ** 0.5
        what = f"{name}, difference: error by {title}"
        lines.append((what, "statsmodels WLS, cluster covariance, n/(n-1)", found[name, "difference"][column], theirs))
    return lines


def answers(db: Database, s: Sample) -> list[Line]:
    """Compare agreement, kappa and the quantiles of latency."""
    w, a, b = s.weight, s.shadow > 0.5, s.live > 0.5
    agreement = rows(db, "agreement('s', 'new')")[0]
    confusion = by(db, "confusion('s', 'new')", "live_label", "shadow_label")
    latency = by(db, "latency('s', 'new')", "measure", "quantile")
    parts = by(db, "coverage('s', 'new', slice => 'segment:origin')", "value")
    residual = w * ((a == b) - np.average(a == b, weights=w)) / w.sum()
    expected = spread(residual, s.cluster, s.day)
    published = rows(db, "gnomon_estimators.kappa('s', 'published')")[0]
    library = cohens_kappa(np.array(PUBLISHED))
    cells = sk.confusion_matrix(b, a, sample_weight=w, normalize="all")
    found = [
        ("agreement", "sklearn accuracy_score", agreement["agreement"], sk.accuracy_score(b, a, sample_weight=w)),
        ("its error by row", "numpy", agreement["se_row"], expected.row),
        ("its error by cluster", "numpy", agreement["se_cluster"], expected.cluster),
        ("its error by day", "numpy", agreement["se_day"], expected.day),
        ("Kish effective n", "numpy", agreement["n_effective"], w.sum() ** 2 / (w**2).sum()),
        ("confusion, only shadow says late", "sklearn confusion_matrix", confusion["on_time", "late"]["share"],
         cells[0, 1]),
        ("Cohen's kappa", "sklearn cohen_kappa_score", agreement["kappa"], sk.cohen_kappa_score(b, a, sample_weight=w)),
        ("coverage, seen in a segment", "numpy", parts[("JFK",)]["weight"], w[np.arange(len(w)) % 3 > 0].sum()),
        ("kappa of a published table", "statsmodels cohens_kappa", published["kappa"], library.kappa),
        ("its error by row, published", "statsmodels cohens_kappa", published["se_row"], library.std_kappa),
    ]  # fmt: skip
    live, shadow = (np.array([row[f"{side}_latency_us"] for row in s.rows()]) for side in ("live", "shadow"))
    for p in (0.5, 0.95, 0.99):
        for measure, x in (("shadow", shadow), ("difference", shadow - live)):
            title = f"latency p{100 * p:g}, {'paired difference' if measure == 'difference' else measure}"
            theirs = quantile(x, p, w)
            found.append((title, "numpy quantile, inverted_cdf", latency[measure, p]["microseconds"], theirs))
    theirs = quantile(shadow - live, 0.95, w)
    expected = spread(w * ((shadow - live <= theirs) - 0.95) / w.sum(), s.cluster, s.day)
    low, high = share_interval(0.95, expected.together**2, w.sum() ** 2 / (w**2).sum(), expected.t)
    for end, share in (("low", low), ("high", high)):
        title = f"latency p95, paired difference: {end} end"
        found.append((title, "scipy beta.ppf, numpy quantile", latency["difference", 0.95][end],
                      quantile(shadow - live, share, w)))  # fmt: skip
    return found


def quantile(x: Array, p: float, w: Array) -> float:
    return float(np.quantile(x, p, weights=w, method="inverted_cdf"))


def failures(db: Database, s: Sample, live: Array, shadow: Array) -> list[Line]:
    """Compare the errors of both sides: rates, difference, the four cells."""
    found = {
        key: {**row, "estimate": row["rate"]} for key, row in by(db, "errors('s', 'faulty')", "metric", "side").items()
    }
    w = s.weight
    cells = sk.confusion_matrix(live, shadow, sample_weight=w, normalize="all")
    lines = [
        ("error rate", "sklearn accuracy_score", found["error", "shadow"]["rate"],
         sk.accuracy_score(np.ones(len(w)), shadow, sample_weight=w)),
        *(
            (f"errors 2 × 2: {cell.replace('_', ' ')}", "sklearn confusion_matrix", found[cell, "pair"]["rate"], theirs)
            for cell, theirs in zip(("both_answered", "only_shadow_failed", "only_live_failed", "both_failed"),
                                    cells.ravel(), strict=True)
        ),
    ]  # fmt: skip
    return lines + errors("error", found, s, lambda groups: sandwich(groups, w, live, shadow), (1, 1))


def quality(db: Database, s: Sample) -> list[Line]:
    """Compare the quality of decisions and probabilities, and calibration."""
    found = by(db, "quality('s', 'new', horizon => '1 day')", "metric", "side")
    w, y = s.weight, s.truth
    decision = {"accuracy": sk.accuracy_score, "precision": sk.precision_score, "recall": sk.recall_score}
    score = {"auc": sk.roc_auc_score, "log_loss": sk.log_loss, "brier": sk.brier_score_loss}
    late, said = (s.live > 0.5, s.shadow > 0.5), y == 1
    residuals: dict[str, tuple[Array, Array, tuple[Array, Array] | None]] = {
        "accuracy": (late[0] == said, late[1] == said, None),
        "precision": (y, y, late),
        "recall": (late[0], late[1], (said, said)),
        "log_loss": (
            -np.log(np.where(said, s.live, 1 - s.live)),
            -np.log(np.where(said, s.shadow, 1 - s.shadow)),
            None,
        ),
        "brier": ((s.live - y) ** 2, (s.shadow - y) ** 2, None),
    }
    lines: list[Line] = []
    for name, metric in (decision | score).items():
        live, shadow = (metric(y, p > 0.5 if name in decision else p, sample_weight=w) for p in (s.live, s.shadow))
        reference = f"sklearn {metric.__name__}"
        lines.append((name, reference, found[name, "shadow"]["estimate"], shadow))
        lines.append((f"{name}, difference", reference, found[name, "difference"]["estimate"], shadow - live))
        if name in residuals:
            covariance = partial(
                sandwich, w=w, live=residuals[name][0], shadow=residuals[name][1], given=residuals[name][2]
            )
            lines += errors(name, found, s, covariance, (1, 1))
        else:
            placed = placements(s.shadow, y, w) - placements(s.live, y, w)
            expected = spread(placed, s.cluster, s.day)
            m, n = y.sum(), (1 - y).sum()
            by_row = float((placed**2 * np.where(y, m / (m - 1), n / (n - 1))).sum() ** 0.5)
            for title, error in (("row", by_row), ("cluster", expected.cluster), ("day", expected.day)):
                what = f"auc, difference: error by {title}"
                lines.append((what, "numpy, placements pair by pair", found["auc", "difference"][f"se_{title}"],
                              error))  # fmt: skip
    return [*lines, calibration(db, s)]


def placements(p: Array, y: Array, w: Array) -> Array:
    """Return AUC's residuals, weights included, from all pairs of a positive and a negative (Obuchowski 1997)."""
    positive = y == 1
    beats = np.sign(p[positive][:, None] - p[~positive][None, :]) / 2 + 0.5
    above, below = w[positive], w[~positive]
    area = above @ beats @ below / (above.sum() * below.sum())
    residual = np.empty(len(y))
    residual[positive] = above * (beats @ below / below.sum() - area) / above.sum()
    residual[~positive] = below * (above @ beats / above.sum() - area) / below.sum()
    return residual


def calibration(db: Database, s: Sample) -> Line:
    """Compare calibration: ten bins of equal mass; a score is in the bin of its middle."""
    found = by(db, "calibration_error('s', 'new')", "side")
    at = np.unique(s.shadow, return_inverse=True)[1]
    mass = np.bincount(at, s.weight)
    bins = np.minimum(np.floor(10 * (np.cumsum(mass) - mass / 2) / mass.sum()), 9)[at]
    excess = [abs(np.sum((s.weight * (s.truth - s.shadow))[bins == b])) for b in np.unique(bins)]
    return ("expected calibration error", "numpy", found[("shadow",)]["estimate"], sum(excess) / s.weight.sum())


def numbers(db: Database, s: Sample, truth: Array) -> list[Line]:
    """Compare plain numbers: RMSE and MAE."""
    found = by(db, "quality('s', 'numbers', horizon => '1 day')", "metric", "side")
    w, live, shadow = s.weight, s.live - truth, s.shadow - truth
    lines: list[Line] = []
    for name, metric in (("rmse", sk.root_mean_squared_error), ("mae", sk.mean_absolute_error)):
        a, b = (metric(truth, p, sample_weight=w) for p in (s.live, s.shadow))
        lines.append((name, f"sklearn {metric.__name__}", found[name, "shadow"]["estimate"], b))
        lines.append(
            (f"{name}, difference", f"sklearn {metric.__name__}", found[name, "difference"]["estimate"], b - a)
        )
        if name == "rmse":
            lines += errors(name, found, s, lambda g: sandwich(g, w, live**2, shadow**2), (1 / (2 * a), 1 / (2 * b)))
        else:
            lines += errors(name, found, s, lambda g: sandwich(g, w, abs(live), abs(shadow)), (1, 1))
    return lines


def lists(db: Database, s: Sample, scores: Array) -> list[Line]:
    """Compare NDCG of lists, `scores` a column a side."""
    found = by(db, "quality('s', 'lists', horizon => '1 day')", "metric", "side")
    name, w = "ndcg@10", s.weight
    live, shadow = (float(np.average(side, weights=w)) for side in scores.T)
    return [
        (name, "sklearn ndcg_score", found[name, "shadow"]["estimate"], shadow),
        (f"{name}, difference", "sklearn ndcg_score", found[name, "difference"]["estimate"], shadow - live),
        *errors(name, found, s, lambda groups: sandwich(groups, w, scores[:, 0], scores[:, 1]), (1, 1)),
    ]


def drifts(db: Database, s: Sample, now: Array) -> list[Line]:
    """Compare the numeric feature with a frozen reference of whole weights, so that SciPy can use repeated rows."""
    random = np.random.default_rng(4)
    before, weights = random.normal(0, 1, 300).round(1), random.integers(1, 5, 300).astype(float)
    frozen = profile("amount", "numeric", before.tolist(), weights)
    store(db.connection, "s", "training", "test", {"": [frozen]})
    found = by(db, "drift('s', 'new')", "feature")[("amount",)]
    n_ref, n_now = (v.sum() ** 2 / (v**2).sum() for v in (weights, s.weight))
    bins = len(frozen.edges) + 2  # the last bin holds missing values: here none, so it is not a degree of freedom
    p, q = (
        (n * np.append(np.bincount(np.searchsorted(frozen.edges, x, "right"), w, bins - 1) / w.sum(), 0) + 0.5)
        / (n + 0.5 * bins)
        for n, x, w in ((n_ref, before, weights), (n_now, now, s.weight))
    )
    repeated = [np.repeat(x, w.round().astype(int)) for x, w in ((now, s.weight), (before, weights))]
    return [
        ("PSI", "scipy entropy, both ways", found["psi"], stats.entropy(p, q) + stats.entropy(q, p)),
        ("Jensen-Shannon", "scipy jensenshannon", found["js"], jensenshannon(p, q) ** 2),
        ("Kolmogorov-Smirnov", "scipy ks_2samp", found["ks"], stats.ks_2samp(*repeated).statistic),
        ("Wasserstein", "scipy wasserstein_distance", found["wasserstein"],
         stats.wasserstein_distance(now, before, s.weight, weights)),
    ]  # fmt: skip


def functions(db: Database) -> list[Line]:
    """Compare the special functions of the intervals."""
    return [
        (name, reference, db.value(f"select gnomon_estimators.{call}"), theirs)
        for name, reference, call, theirs in (
            ("log gamma (3.3)", "math.lgamma", "ln_gamma(3.3)", math.lgamma(3.3)),
            ("beta (0.3; 2, 5)", "scipy beta.cdf", "beta_cdf(0.3, 2, 5)", stats.beta.cdf(0.3, 2, 5)),
            ("beta quantile", "scipy beta.ppf", "beta_quantile(0.025, 3, 40)", stats.beta.ppf(0.025, 3, 40)),
        )
    ]


def comparisons(db: Database) -> list[Line]:
    """Return every line of the table, on 400 weighted pairs in 40 clusters and 6 days."""
    s, random = sample(np.random.default_rng(2013)), np.random.default_rng(2014)
    n = len(s.weight)
    now, truth = random.normal(0.2, 1.2, n).round(1), s.truth + random.normal(0, 0.3, n)
    live, shadow = random.random(n) < 0.1, random.random(n) < 0.2
    gains, orders = random.integers(0, 4, (n, 6)).astype(float), random.random((n, 2, 6)).argsort(axis=2)
    gains[:, 0] += 1
    db.add_pairs([{**row, "features_numeric": [float(x)]} for row, x in zip(s.rows(), now, strict=True)])
    cells = [("abc"[i], "abc"[j]) for i, line in enumerate(PUBLISHED) for j, m in enumerate(line) for _ in range(m)]
    db.add_pairs([{"request_id": "-", "live_label": b, "shadow_label": a} for b, a in cells], "published")
    db.add_pairs([
        {**row, "request_id": f"e{i}", "live_error_kind": "exception" if live[i] else None,
         "outcome": "failed" if shadow[i] else "scored"} for i, row in enumerate(s.rows())
    ], "faulty")  # fmt: skip
    plain = {"live_label": None, "shadow_label": None}
    db.add_pairs([{**row, **plain, "request_id": f"n{i}"} for i, row in enumerate(s.rows())], "numbers")
    items = np.array(list("abcdef"))
    db.add_pairs([
        {**row, **plain, "request_id": f"q{i}", "live_value": None, "shadow_value": None,
         "live_items": items[orders[i, 0]].tolist(), "shadow_items": items[orders[i, 1]].tolist()}
        for i, row in enumerate(s.rows())
    ], "lists")  # fmt: skip
    db.add_labels(s.labels(), SETTLED)
    plain_labels = [{"observed_at": label["observed_at"]} for label in s.labels()]
    db.add_labels([{**x, "request_id": f"n{i}", "value": float(truth[i])} for i, x in enumerate(plain_labels)], SETTLED)
    db.add_labels([
        {**x, "request_id": f"q{i}", "relevance": gains[i].tolist(), "items": items.tolist()}
        for i, x in enumerate(plain_labels)
    ], SETTLED)  # fmt: skip
    scores = np.array([
        [sk.ndcg_score([gain], [-order.argsort()], k=10, ignore_ties=True) for order in pair]
        for gain, pair in zip(gains, orders, strict=True)
    ])  # fmt: skip
    found = [
        *answers(db, s), *failures(db, s, live, shadow), *quality(db, s), *numbers(db, s, truth), *lists(db, s, scores),
        *drifts(db, s, now), *functions(db),
    ]  # fmt: skip
    return [(name, reference, float(ours), float(theirs)) for name, reference, ours, theirs in found]


def bound(ours: float, theirs: float) -> int:
    """Return the power of ten above the relative difference."""
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
    for name, _, _, power in stated:  # another processor may round its last bits differently
        assert powers[name] <= int(power) + 2, name
