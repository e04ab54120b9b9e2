"""Labels in report_v1: horizons, sealed cohorts, delays, versions; against NumPy and by hand."""

import operator
from datetime import timedelta

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.estimators import share_interval, spread
from tests.support.label_simulation import Drawn, label_delay
from tests.support.quality import ask, quality
from tests.support.report_database import START, Database, sample, to_ten_digits

Array = NDArray[np.float64]
DAY = timedelta(days=1)


def test_horizons_count_each_label_in_its_time(db: Database) -> None:
    """Labels by hand: in time, late for one day but not for three, never, corrected later."""
    times = [START + timedelta(hours=i) for i in range(6)]
    pairs = [
        {"request_id": f"r{i}", "event_time": moment, "live_label": "a", "shadow_label": "b"}
        for i, moment in enumerate(times)
    ]
    db.add_pairs([*pairs, {**pairs[0], "request_id": "young", "event_time": START + 9 * DAY}])
    arrived = [
        ("r0", times[0] + timedelta(hours=2), "a"),
        ("r1", times[1] + 2 * DAY, "a"),
        ("r2", times[2] + timedelta(hours=1), "a"),
        ("r2", times[2] + 2 * DAY, "b"),  # a correction, in time for three days only
        ("r3", times[3] + 8 * DAY, "a"),  # late for all
    ]
    db.add_labels([{"request_id": r, "observed_at": t, "label": v} for r, t, v in arrived], START + 10 * DAY)
    found = {row["horizon"]: row for row in ask(db, "labels('s')")}
    assert [found[h * DAY]["n"] for h in (1, 3, 7)] == [6, 6, 6]
    assert [found[h * DAY]["pending"] for h in (1, 3, 7)] == [1, 1, 1]
    assert [found[h * DAY]["early"] for h in (1, 3, 7)] == [0, 0, 0]
    assert [found[h * DAY]["labelled"] * 6 for h in (1, 3, 7)] == pytest.approx([2, 3, 3])
    assert [found[h * DAY]["late"] * 6 for h in (1, 3, 7)] == pytest.approx([2, 1, 1])
    assert found[DAY]["missing"] * 6 == pytest.approx(2)
    assert quality(db, "1 day")["accuracy", "live"]["estimate"] == 1
    assert quality(db, "3 days")["accuracy", "live"]["estimate"] == pytest.approx(2 / 3)  # the correction counts
    cells = ask(db, "label_cells('s', horizon => '3 days')")
    assert [(row["live_label"], row["shadow_label"], row["labelled"]) for row in cells] == [("a", "b", 0.5)]


def test_labels_from_before_their_capture_are_counted(db: Database) -> None:
    times = [START + timedelta(hours=n) for n in range(3)]
    db.add_pairs(
        [
            {"request_id": f"r{n}", "event_time": time, "live_label": "a", "shadow_label": "a"}
            for n, time in enumerate(times)
        ]
    )
    moments = [times[0] - timedelta(microseconds=1), times[1], times[2] + timedelta(hours=1)]
    db.add_labels(
        [{"request_id": f"r{n}", "observed_at": time, "label": "a"} for n, time in enumerate(moments)], START + 10 * DAY
    )
    found = ask(db, "labels('s')")
    assert {row["early"] for row in found} == {1}
    assert all(row["status"].startswith("1 labels were observed before their capture") for row in found)


def test_a_sealed_cohort_never_changes(db: Database) -> None:
    s = sample(np.random.default_rng(16), 80)
    db.add_pairs(s.rows())
    db.add_labels(s.labels()[:60], START + 40 * DAY)
    load = db.value("select max(load_id) from gnomon.label_loads")
    db.connection.execute(
        "insert into gnomon.cohorts (deployment_id, horizon, until, watermark, grace, label_kind, label_choice,"
        " source_offsets, label_offsets, load_ids) values (%s, '1 day', %s, %s, '0', 'explicit', 'last',"
        " '{\"0\": 70}', '{}', %s)",
        [db.deployments["new"], START + 20 * DAY, START + 40 * DAY, [load]],
    )
    before = quality(db)
    db.add_labels(s.labels()[60:], START + 41 * DAY)
    db.add_pairs([{**row, "request_id": f"x{i}"} for i, row in enumerate(s.rows())])
    after = quality(db)
    assert before["accuracy", "live"]["n"] == 60
    assert before["label_coverage", "pair"]["n"] == 70
    assert to_ten_digits(before) == to_ten_digits(after)
    assert before["accuracy", "live"]["sealed"] is True


def test_label_delay_is_kaplan_and_meiers(db: Database) -> None:
    rng = np.random.default_rng(17)
    delay = rng.integers(1, 60, 40)
    came = delay < 45
    db.add_pairs([{"request_id": f"r{i}", "event_time": START - timedelta(hours=int(i % 3))} for i in range(40)])
    db.add_labels(
        [
            {"request_id": f"r{i}", "observed_at": START + timedelta(hours=int(delay[i] - i % 3)), "label": "a"}
            for i in range(40)
            if came[i]
        ],
        START + timedelta(hours=45),
    )
    survival, expected = 1.0, {}
    ends = np.where(came, delay, 45 + np.arange(40) % 3)
    for t in np.unique(delay[came]):
        survival *= 1 - (came & (delay == t)).sum() / (ends >= t).sum()
        expected[timedelta(hours=int(t))] = 1 - survival
    found = {row["delay"]: row["share_arrived"] for row in ask(db, "label_delay('s')")}
    assert found == pytest.approx(expected)


def test_label_delay_goes_by_exact_times(db: Database) -> None:
    """Within one step a request is censored before another's label arrives; after rounding, both would be at risk."""
    rng = np.random.default_rng(19)
    n = 300
    at = rng.uniform(0, 6 * 86400, n)
    delay, end = rng.exponential(86400, n), 6 * 86400 - at
    cluster = rng.integers(0, 40, n)
    weight = rng.choice([1.0, 2.0, 4.0], n)
    db.add_pairs([
        {
            "request_id": f"r{i}", "event_time": START + timedelta(seconds=at[i]), "cluster": f"c{cluster[i]}",
            "inclusion_probability": 1 / weight[i],
        }
        for i in range(n)
    ])  # fmt: skip
    came = delay < end
    db.add_labels(
        [
            {"request_id": f"r{i}", "observed_at": START + timedelta(seconds=at[i] + delay[i]), "label": "a"}
            for i in np.flatnonzero(came)
        ],
        START + timedelta(days=6),
    )
    seen = np.minimum(delay, end)
    survival, curve = 1.0, []
    for t in np.sort(seen[came]):
        survival *= 1 - weight[came & (seen == t)].sum() / weight[seen >= t].sum()
        curve.append((t, survival))
    groups = db.connection.execute(
        "select abs(hashtextextended('c' || cluster, 0) % 100)::integer from report_v1.pairs order by source_offset"
    ).fetchall()
    nothing = np.zeros(n)
    drawn = Drawn(
        weight, (at // 86400).astype(np.int64), cluster, np.array([group for (group,) in groups]), at, nothing, nothing,
        delay, 6 * 86400.0,
    )  # fmt: skip
    for row in ask(db, "label_delay('s', step => '6 hours')"):
        _, left = [point for point in curve if point[0] <= row["delay"].total_seconds() + 1e-6][-1]
        assert row["share_arrived"] == pytest.approx(1 - left, abs=1e-6)
        if left > 1e-6:
            low, high = label_delay(drawn, int(row["delay"].total_seconds() // 3600))
            assert row["low"] == pytest.approx(low, rel=1e-5)
            assert row["high"] == pytest.approx(high, rel=1e-5)


def test_the_labelled_share_has_an_interval_by_clusters_and_days(db: Database) -> None:
    s = sample(np.random.default_rng(21), 200)
    db.connection.execute("update gnomon.streams set horizons = %s", [[DAY]])
    db.add_pairs(s.rows())
    db.add_labels([row for row, has in zip(s.labels(), s.live > 0.3, strict=True) if has], START + 60 * DAY)
    (row,) = ask(db, "labels('s')")
    w, has = s.weight, s.live > 0.3
    share = np.average(has, weights=w)
    errors = spread(w * (has - share) / w.sum(), s.cluster, s.day)
    assert (row["labelled"], row["standard_error"]) == pytest.approx((share, errors.together))
    assert (row["low"], row["high"]) == pytest.approx(
        share_interval(share, errors.together**2, w.sum() ** 2 / (w**2).sum(), errors.t, errors.clusters), rel=1e-7
    )


@pytest.mark.parametrize("truth", [None, 0.0])
def test_missing_labels_and_one_class_only(db: Database, truth: float | None) -> None:
    s = sample(np.random.default_rng(18), 40)
    db.add_pairs(s.rows())
    assert {row["status"] for row in ask(db, "quality('s')")} == {"no labels stored yet"}
    labels = [] if truth is None else [{**row, "value": truth, "label": "on_time"} for row in s.labels()]
    db.add_labels(labels, START + 40 * DAY)
    found = quality(db)
    if truth is None:
        assert found["label_coverage", "pair"]["estimate"] == 0
        assert found["label_coverage", "pair"]["status"] == "no label has arrived for any of these pairs"
        assert {metric for metric, _ in found} == {"label_coverage", "answered", "answered_by_both"}
    else:
        assert found["auc", "live"]["status"] == "one class only"
        assert found["auc", "live"]["estimate"] is None
        assert found["recall", "live"]["status"] == "undefined: its denominator is 0"
        assert found["accuracy", "live"]["estimate"] == pytest.approx(np.average(s.live <= 0.5, weights=s.weight))
    assert {row["status"] for row in ask(db, "quality('s', horizon => '2 days')")} == {"no such horizon on this stream"}


@pytest.mark.parametrize("choice", ["first", "last"])
@pytest.mark.parametrize("kind", ["explicit", "absence_is_negative"])
def test_labels_looked_up_one_by_one_are_those_of_the_join(db: Database, choice: str, kind: str) -> None:
    """A day among many is answered through the labels' index, a long period by a join: the same rows either way."""
    rng = np.random.default_rng(22)
    db.connection.execute("update gnomon.streams set label_choice = %s, label_kind = %s", [choice, kind])
    s = sample(rng, 300)
    db.add_pairs(s.rows())
    labels = [
        {**label, "observed_at": label["observed_at"] + timedelta(hours=int(later)), "value": float(rng.integers(0, 2))}
        for label in s.labels()
        for later in rng.choice(40, rng.integers(0, 4), replace=False)
    ]
    db.add_labels([{**label, "label": str(int(label["value"]))} for label in labels], START + 40 * DAY)
    inside = "where event_time >= %s and event_time < %s order by source_offset"
    for number in range(6):
        day = [START + number * DAY, START + (number + 1) * DAY]
        call = "gnomon_estimators.labelled('s', 'new', %s, %s, null, '1 day')"
        db.connection.execute("delete from gnomon.rollups")
        assert not db.value("select gnomon_estimators.holds_little('s', null, %s, %s)", *day)
        joined = ask(db, call, *day)
        db.connection.execute(
            "insert into gnomon.rollups (deployment_id, hour, stratum, sampled) values (%s, %s, '', 100),"
            " (%s, %s, '', 5)",
            [db.deployments["new"], START - DAY, db.deployments["new"], day[0]],
        )
        assert db.value("select gnomon_estimators.holds_little('s', null, %s, %s)", *day)
        key = operator.itemgetter("source_offset")
        assert sorted(ask(db, call, *day), key=key) == sorted(joined, key=key)
        assert ask(db, f"gnomon_estimators.labelled('s', null, null, null, null, '1 day') {inside}", *day) == sorted(
            joined, key=key
        )
        assert joined


def test_no_report_looks_through_all_labels_for_each_pair(db: Database) -> None:
    """Nor scans all cells for each window: not even over tables without statistics, which look small to the planner."""
    readers = db.connection.execute(
        "select proname, 'enable_nestloop=off' = any (proconfig) from pg_proc"
        " where pronamespace in ('report_v1'::regnamespace, 'gnomon_estimators'::regnamespace)"
        " and prosrc like '%gnomon_estimators.labelled(%' and proname <> 'measured_statement'"
        " or proname in ('measured', 'ledger_differences')"  # the former runs the text that measured_statement returns
    ).fetchall()
    assert {"measured", "auc", "labels", "ledger_differences"} <= {name for name, _ in readers}
    assert all(guarded for _, guarded in readers), readers


@pytest.mark.parametrize("choice", ["first", "last"])
def test_of_several_versions_one_counts(db: Database, choice: str) -> None:
    """In time and covered by the seal: the first or the last version; each pair stays one row."""
    db.connection.execute("update gnomon.streams set label_choice = %s", [choice])
    db.add_pairs([{"request_id": f"r{i}", "live_label": "1", "shadow_label": "0"} for i in range(20)])
    versions = [
        {"request_id": f"r{i}", "observed_at": START + timedelta(hours=hours), "value": value, "label": str(int(value))}
        for i in range(20)
        # Even requests have a changed label in time; the last version of every one is too late.
        for hours, value in ((1, 1.0), (2, float(i % 2)), (80, 0.0))
    ]
    db.add_labels(versions, START + 40 * DAY)
    found = quality(db)
    assert found["label_coverage", "pair"]["n"] == 20
    assert found["accuracy", "live"]["n"] == 20
    assert found["accuracy", "live"]["estimate"] == (1.0 if choice == "first" else 0.5)
