"""Multi-class quality, bounds for missing labels, contrasts, heterogeneity: against scikit-learn, SciPy and NumPy."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from scipy import stats
from sklearn import metrics as sk
from tests.support.report_database import START, Database

DAY = timedelta(days=1)
Row = dict[str, Any]
CLASSES = ["bird", "cat", "dog"]


def ask(db: Database, call: str) -> list[Row]:
    with db.connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(f"select * from report_v1.{call}").fetchall()


class Zoo:
    """Weighted, clustered pairs of three classes over eight days, with scores; the shadow never decides `bird`."""

    def __init__(self, n: int = 300) -> None:
        rng = np.random.default_rng(5)
        self.weight = 1 / rng.choice([1.0, 0.5, 0.25], n)
        self.cluster = rng.integers(0, 30, n)
        self.day = np.arange(n) * 8 // n
        self.truth = rng.choice(CLASSES, n, p=[0.1, 0.4, 0.5])
        self.scores = {side: self._scores(rng, n) for side in ("live", "shadow")}
        self.said = {
            "live": np.array(CLASSES)[self.scores["live"].argmax(1)],
            "shadow": np.array(CLASSES)[1 + self.scores["shadow"][:, 1:].argmax(1)],
        }

    def _scores(self, rng: np.random.Generator, n: int) -> Any:
        raw = rng.random((n, 3)) + 0.8 * (self.truth[:, None] == np.array(CLASSES)[None, :])
        return (raw / raw.sum(1, keepdims=True)).round(3)

    def rows(self) -> list[Row]:
        return [
            {
                "request_id": f"r{i}", "event_time": START + int(self.day[i]) * DAY + timedelta(seconds=i),
                "cluster": f"c{self.cluster[i]}", "inclusion_probability": float(1 / self.weight[i]),
                "segments": Jsonb({"site": "a" if self.cluster[i] < 15 else "b"}),
                **{f"{side}_label": str(self.said[side][i]) for side in ("live", "shadow")},
                **{f"{side}_items": CLASSES for side in ("live", "shadow")},
                **{f"{side}_scores": [float(x) for x in self.scores[side][i]] for side in ("live", "shadow")},
            }
            for i in range(len(self.weight))
        ]  # fmt: skip

    def labels(self) -> list[Row]:
        return [
            {"request_id": row["request_id"], "observed_at": row["event_time"], "label": str(truth)}
            for row, truth in zip(self.rows(), self.truth, strict=True)
        ]


@pytest.fixture
def zoo(db: Database) -> Zoo:
    made = Zoo()
    db.add_pairs(made.rows())
    db.add_labels(made.labels(), START + 60 * DAY)
    return made


def jackknife(zoo: Zoo, metric: Any, side: str, keys: Any) -> float:
    """Return the sum of squares of numerical residuals by group: the metric's slope in each weight times the weight."""
    step, z = 1e-5, np.empty(len(zoo.weight))
    for i in range(len(z)):
        up, down = zoo.weight.copy(), zoo.weight.copy()
        up[i] += step
        down[i] -= step
        z[i] = (metric(zoo.truth, zoo.said[side], up) - metric(zoo.truth, zoo.said[side], down)) / (2 * step)
    z *= zoo.weight
    groups = len(set(keys))
    return float(sum(z[keys == key].sum() ** 2 for key in set(keys)) * groups / (groups - 1))


def test_every_class_macro_and_weighted_are_scikit_learns(db: Database, zoo: Zoo) -> None:
    found = {(row["class"], row["metric"], row["side"]): row for row in ask(db, "classes('s')")}
    functions = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}
    for name, function in functions.items():
        for side in ("live", "shadow"):
            options = {"sample_weight": zoo.weight, "zero_division": 0}
            each = function(zoo.truth, zoo.said[side], average=None, labels=CLASSES, **options)
            for kind, expected in zip(CLASSES, each, strict=True):
                row = found[kind, name, side]
                if (kind, name, side) == ("bird", "precision", "shadow"):
                    assert (row["estimate"], row["status"]) == (None, "undefined: the class is never decided")
                else:
                    assert row["estimate"] == pytest.approx(expected)
                    assert row["n"] == (zoo.truth == kind).sum()
            for average in ("macro", "weighted"):
                row = found[f"{average} avg", name, side]
                assert row["estimate"] == pytest.approx(function(zoo.truth, zoo.said[side], average=average, **options))
                assert row["low"] < row["estimate"] < row["high"]
    for average in ("macro", "weighted"):
        row = found[f"{average} avg", "f1", "live"]

        def metric(y: Any, p: Any, w: Any, average: str = average) -> float:
            return float(sk.f1_score(y, p, average=average, sample_weight=w))

        assert row["se_cluster"] == pytest.approx(jackknife(zoo, metric, "live", zoo.cluster) ** 0.5, rel=1e-4)
        assert row["se_day"] == pytest.approx(jackknife(zoo, metric, "live", zoo.day) ** 0.5, rel=1e-4)
    for side in ("live", "shadow"):
        for at, kind in enumerate(CLASSES):
            area = sk.roc_auc_score(zoo.truth == kind, zoo.scores[side][:, at], sample_weight=zoo.weight)
            assert found[kind, "auc", side]["estimate"] == pytest.approx(area)


def test_the_confusion_against_the_truth(db: Database, zoo: Zoo) -> None:
    for side in ("live", "shadow"):
        cells = sk.confusion_matrix(
            zoo.truth, zoo.said[side], labels=CLASSES, sample_weight=zoo.weight, normalize="all"
        )
        found = {
            (row["truth"], row["decision"]): row["share"]
            for row in ask(db, "truth_confusion('s')")
            if row["side"] == side
        }
        for i, truth in enumerate(CLASSES):
            for j, decision in enumerate(CLASSES):
                assert found.get((truth, decision), 0) == pytest.approx(cells[i, j])


def test_bounds_hold_over_every_truth_that_the_missing_labels_might_have(db: Database) -> None:
    db.connection.execute("update gnomon.streams set positive_class = 'y', negative_class = 'n'")
    rng = np.random.default_rng(8)
    said = {side: rng.choice(["y", "n"], 9) for side in ("live", "shadow")}
    truth = rng.choice(["y", "n"], 9)
    rows = [
        {"request_id": f"r{i}", "event_time": START + i * DAY / 3, "live_label": str(said["live"][i]),
         "shadow_label": str(said["shadow"][i])}
        for i in range(9)
    ]  # fmt: skip
    db.add_pairs(rows)
    known = 5
    labels = [
        {"request_id": f"r{i}", "observed_at": rows[i]["event_time"], "label": str(truth[i])} for i in range(known)
    ]
    db.add_labels(labels, START + 60 * DAY)
    found = {(row["metric"], row["side"]): row for row in ask(db, "label_bounds('s')")}
    metrics: dict[str, Any] = {
        "accuracy": lambda y, p: sk.accuracy_score(y, p),
        "precision": lambda y, p: sk.precision_score(y, p, pos_label="y", zero_division=np.nan),
        "recall": lambda y, p: sk.recall_score(y, p, pos_label="y", zero_division=np.nan),
        "f1": lambda y, p: sk.f1_score(y, p, pos_label="y", zero_division=np.nan),
    }
    worlds = [
        np.concatenate([truth[:known], ["y" if bits >> at & 1 else "n" for at in range(9 - known)]])
        for bits in range(2 ** (9 - known))
    ]
    for name, metric in metrics.items():
        for side in ("live", "shadow"):
            values = [metric(world, said[side]) for world in worlds]
            row = found[name, side]
            assert row["labelled"] == pytest.approx(known / 9)
            assert (row["bound_low"], row["bound_high"]) == pytest.approx((np.nanmin(values), np.nanmax(values)))
        gaps = [metric(world, said["shadow"]) - metric(world, said["live"]) for world in worlds]
        row = found[name, "difference"]
        assert row["bound_low"] <= np.nanmin(gaps) + 1e-12
        assert row["bound_high"] >= np.nanmax(gaps) - 1e-12
        if name == "accuracy":
            assert (row["bound_low"], row["bound_high"]) == pytest.approx((min(gaps), max(gaps)))


@pytest.mark.parametrize("seed", range(3))
def test_bounds_of_probabilities_hold_over_every_truth(db: Database, seed: int) -> None:
    """All truths of seven unlabelled requests, one by one; scores differ, so the area's bounds are reached."""
    db.connection.execute("update gnomon.streams set positive_class = 'y', negative_class = 'n'")
    rng = np.random.default_rng(30 + seed)
    n, known = 13, 6
    scores = {side: rng.permutation(np.linspace(0.0, 0.97, n)) for side in ("live", "shadow")}
    truth = np.array([0, 1, *rng.integers(0, 2, known - 2)])
    weight = rng.choice([1.0, 2.0], n)
    rows = [
        {
            "request_id": f"r{i}", "event_time": START + i * DAY / 3, "inclusion_probability": 1 / weight[i],
            **{f"{side}_value": float(scores[side][i]) for side in scores},
            **{f"{side}_label": "y" if scores[side][i] > 0.5 else "n" for side in scores},
        }
        for i in range(n)
    ]  # fmt: skip
    db.add_pairs(rows)
    labels = [
        {"request_id": f"r{i}", "observed_at": rows[i]["event_time"], "label": "ny"[truth[i]]} for i in range(known)
    ]
    db.add_labels(labels, START + 60 * DAY)
    found = {(row["metric"], row["side"]): row for row in ask(db, "label_bounds('s')")}
    worlds = [np.concatenate([truth, [bits >> at & 1 for at in range(n - known)]]) for bits in range(2 ** (n - known))]
    metrics: dict[str, Any] = {
        "auc": lambda y, p, w: sk.roc_auc_score(y, p, sample_weight=w),
        "brier": lambda y, p, w: sk.brier_score_loss(y, p, sample_weight=w),
        "log_loss": lambda y, p, w: sk.log_loss(y, p.clip(1e-6, 1 - 1e-6), sample_weight=w, labels=[0, 1]),
    }
    for name, metric in metrics.items():
        values = {side: np.array([metric(world, scores[side], weight) for world in worlds]) for side in scores}
        for side in ("live", "shadow"):
            row = found[name, side]
            assert row["labelled"] == pytest.approx(weight[:known].sum() / weight.sum())
            assert row["estimate"] == pytest.approx(metric(truth, scores[side][:known], weight[:known]))
            assert (row["bound_low"], row["bound_high"]) == pytest.approx((values[side].min(), values[side].max()))
        row, gaps = found[name, "difference"], values["shadow"] - values["live"]
        if name == "auc":
            assert row["bound_low"] <= gaps.min() + 1e-12
            assert row["bound_high"] >= gaps.max() - 1e-12
        else:
            assert (row["bound_low"], row["bound_high"]) == pytest.approx((gaps.min(), gaps.max()))


def test_bounds_have_the_estimates_of_quality_if_a_truth_is_neither_class(db: Database) -> None:
    db.connection.execute(
        "update gnomon.streams set horizons = %s, positive_class = 'y', negative_class = 'n', task = 'binary'", [[DAY]]
    )
    said = {"live": "yynnyy", "shadow": "ynyyyn"}
    db.add_pairs(
        [{"request_id": f"r{i}", **{f"{side}_label": labels[i] for side, labels in said.items()}} for i in range(6)]
    )
    truth = ["y", "n", "y", "n", "maybe"]
    db.add_labels(
        [{"request_id": f"r{i}", "observed_at": START + DAY / 2, "label": one} for i, one in enumerate(truth)],
        START + 60 * DAY,
    )
    quality = {(row["metric"], row["side"]): row["estimate"] for row in ask(db, "quality('s')")}
    found = {(row["metric"], row["side"]): row["estimate"] for row in ask(db, "label_bounds('s')")}
    expected = {"accuracy": 2 / 5, "precision": 1 / 2, "recall": 1 / 2, "f1": 1 / 2}
    assert {name: found[name, "live"] for name in expected} == pytest.approx(expected)
    assert len(found) == 12
    assert found == pytest.approx({key: quality[key] for key in found})


def test_bounds_have_the_estimates_of_quality_if_several_names_are_positive(db: Database) -> None:
    said = {
        "live": ["late", "very late", "ok", "late", "late", "ok"],
        "shadow": ["late", "late", "ok", "ok", "ok", "late"],
    }
    db.add_pairs(
        [{"request_id": f"r{i}", **{f"{side}_label": names[i] for side, names in said.items()}} for i in range(6)]
    )
    truth = ["late", "very late", "ok", "ok", "very late"]
    db.add_labels(
        [
            {"request_id": f"r{i}", "observed_at": START + DAY / 2, "label": one, "value": float(one != "ok")}
            for i, one in enumerate(truth)
        ],
        START + 60 * DAY,
    )
    quality = {(row["metric"], row["side"]): row["estimate"] for row in ask(db, "quality('s')")}
    found = {(row["metric"], row["side"]): row for row in ask(db, "label_bounds('s')")}
    expected = {"accuracy": 3 / 5, "precision": 2 / 4, "recall": 2 / 3, "f1": 4 / 7}
    assert {name: found[name, "live"]["estimate"] for name in expected} == pytest.approx(expected)
    assert len(found) == 12
    for key, row in found.items():
        assert row["estimate"] == pytest.approx(quality[key]), key
        assert row["bound_low"] <= row["estimate"] <= row["bound_high"], key


def test_bounds_of_the_area_divide_unlabelled_requests_of_one_score(db: Database) -> None:
    """Four unlabelled requests have one score, between the classes: the area is least if two of them are positive."""
    score = np.repeat([0.2, 0.5, 0.8], 4)
    truth = np.repeat([0, 0, 1], 4)
    db.add_pairs(
        [
            {"request_id": f"r{i}", "live_value": a, "shadow_value": 1 - a, "live_label": "n", "shadow_label": "n"}
            for i, a in enumerate(score)
        ]
    )
    labels = [
        {"request_id": f"r{i}", "observed_at": START + DAY / 2, "value": int(truth[i]), "label": "ny"[truth[i]]}
        for i in (0, 1, 2, 3, 8, 9, 10, 11)
    ]
    db.add_labels(labels, START + 60 * DAY)
    areas = [
        sk.roc_auc_score(np.concatenate([truth[:4], [bits >> at & 1 for at in range(4)], truth[8:]]), score)
        for bits in range(16)
    ]
    assert (min(areas), max(areas)) == pytest.approx((34 / 36, 1))
    found = {row["side"]: row for row in ask(db, "label_bounds('s')") if row["metric"] == "auc"}
    assert (found["live"]["bound_low"], found["live"]["bound_high"]) == pytest.approx((34 / 36, 1))
    assert (found["shadow"]["bound_low"], found["shadow"]["bound_high"]) == pytest.approx((0, 2 / 36))


def test_a_challenger_against_the_control_request_by_request(db: Database, zoo: Zoo) -> None:
    db.add_deployment("control", "control")
    rng = np.random.default_rng(9)
    other = np.where(rng.random(len(zoo.truth)) < 0.3, rng.choice(CLASSES, len(zoo.truth)), zoo.said["live"])
    rows = [{**row, "shadow_label": str(label)} for row, label in zip(zoo.rows(), other, strict=True)]
    first = db.value("select min(source_offset) from gnomon.pairs")
    db.add_pairs([{**row, "source_offset": first + at} for at, row in enumerate(rows)], "control")
    found = {row["metric"]: row for row in ask(db, "contrast('s')")}
    assert {row["deployment"] for row in found.values()} == {"new"}
    w = zoo.weight / zoo.weight.sum()
    for name, target in (("agreement", zoo.said["live"]), ("accuracy", zoo.truth)):
        d = (zoo.said["shadow"] == target).astype(float) - (other == target)
        row = found[name]
        assert (row["n"], row["against"]) == (len(d), "control")
        assert row["difference"] == pytest.approx((w * d).sum())
        z = w * (d - (w * d).sum())
        by_cluster = sum(z[zoo.cluster == key].sum() ** 2 for key in set(zoo.cluster)) * 30 / 29
        assert row["se_cluster"] == pytest.approx(by_cluster**0.5)
        assert row["low"] < row["difference"] < row["high"]
        assert "share" not in row["status"]
    (named,) = {row["against"] for row in ask(db, "contrast('s', 'control', against => 'new')")}
    assert named == "new"
    db.connection.execute("delete from gnomon.pairs where deployment_id = %s and source_offset %% 2 = 0",
                          [db.deployments["control"]])  # fmt: skip
    assert {row["status"].split(":")[0].split(";")[0] for row in ask(db, "contrast('s')")} == {
        "the two share 50.0% of these requests"
    }


def test_a_contrast_without_a_control_says_so(db: Database, zoo: Zoo) -> None:
    assert [row["status"] for row in ask(db, "contrast('s')")] == ["there is no control on this stream"]


def test_heterogeneity_is_cochrans_q(db: Database, zoo: Zoo) -> None:
    slices = [row for row in ask(db, "segments('s', key => 'site')") if row["metric"] == "agreement"]
    found = {(row["metric"], row["side"]): row for row in ask(db, "heterogeneity('s', key => 'site')")}
    row = found["agreement", "pair"]
    estimates = np.array([one["estimate"] for one in slices])
    weights = np.array([one["standard_error"] for one in slices]) ** -2.0
    mean = (weights * estimates).sum() / weights.sum()
    assert (row["values"], row["degrees"]) == (2, 1)
    assert row["q"] == pytest.approx((weights * (estimates - mean) ** 2).sum())
    assert row["p"] == pytest.approx(stats.chi2.sf(row["q"], 1), abs=1e-12)
    assert ("accuracy", "difference") in found


@pytest.mark.parametrize(("x", "df"), [(0.0, 3), (0.5, 1), (3.84, 1), (20.0, 10), (400.0, 9), (90.0, 100)])
def test_the_tail_of_chi_squared(db: Database, x: float, df: float) -> None:
    found = db.value("select gnomon_estimators.chi2_tail(%s, %s)", x, df)
    assert found == pytest.approx(stats.chi2.sf(x, df), abs=1e-11)
