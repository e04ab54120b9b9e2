"""Stored results of sealed cohorts: the same numbers, from the table, until a part of them is erased."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from tests.support.report_database import START, Database, roll_up, sample, to_ten_digits

from gnomon_consumer.database import erasure, maintenance
from gnomon_consumer.database.connections import engine_for
from gnomon_consumer.reports import Question, ask
from gnomon_migrations import runner

DAY = timedelta(days=1)
SEALED = datetime(2013, 6, 1, tzinfo=UTC)


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """A stream whose challenger has one sealed cohort of 60 labelled and 20 unlabelled pairs."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        made = Database(connection)
        made.add_stream(horizons=["1 day"], retention="100 years")
        made.add_deployment()
        s = sample(np.random.default_rng(31), 80)
        made.add_pairs(s.rows())
        made.add_labels(s.labels()[:60], START + 40 * DAY)
        connection.execute(
            "insert into gnomon.cohorts (deployment_id, horizon, until, watermark, grace, label_kind, label_choice,"
            " source_offsets, label_offsets, load_ids, sealed_at) values (%s, '1 day', %s, %s, '0', 'explicit', 'last',"
            " '{\"0\": 80}', '{}', array(select load_id from gnomon.label_loads), %s)",
            [made.deployments["new"], START + 20 * DAY, START + 40 * DAY, SEALED],
        )
        yield made


def quality(db: Database, **narrowed: Any) -> list[dict[str, Any]]:
    return list(ask(db.connection, "quality", Question("s", **narrowed)).rows)


def kept(db: Database) -> int:
    return int(db.value("select count(*) from gnomon.cohort_estimates where report = 'quality'"))


def test_maintenance_keeps_the_numbers_and_readers_take_them(db: Database) -> None:
    computed = quality(db)
    assert maintenance.maintain(db.connection, datetime.now(UTC)).cohorts == 1
    assert kept(db) == len(computed)
    assert to_ten_digits(quality(db)) == to_ten_digits(computed)
    # Computed only once; the table gives the answer.
    assert maintenance.maintain(db.connection, datetime.now(UTC)).cohorts == 0
    db.connection.execute("update gnomon.cohort_estimates set estimate = 42 where metric = 'auc'")
    assert {row["estimate"] for row in quality(db) if row["metric"] == "auc"} == {42.0}
    # A narrower question, or one by another zone's days, is read from the pairs.
    for narrowed in ({"segment": {"origin": "JFK"}}, {"since": START}, {"time_zone": "Asia/Tokyo"}):
        assert 42.0 not in {row["estimate"] for row in quality(db, **narrowed)}


def test_what_comes_later_or_is_replayed_changes_nothing(db: Database) -> None:
    maintenance.maintain(db.connection, datetime.now(UTC))
    before = quality(db)
    late = sample(np.random.default_rng(32), 10).rows()
    db.add_pairs([{**row, "request_id": f"l{i}"} for i, row in enumerate(late)])
    db.add_pairs([{**row, "source_offset": -1 - i, "replayed": True} for i, row in enumerate(late)])
    assert to_ten_digits(quality(db)) == to_ten_digits(before)
    db.connection.execute("delete from gnomon.cohort_estimates")
    assert to_ten_digits(quality(db)) == to_ten_digits(before)


def test_erasure_makes_them_anew(db: Database) -> None:
    maintenance.maintain(db.connection, datetime.now(UTC))
    before = {(row["metric"], row["side"]): row["n"] for row in quality(db)}
    assert erasure.erase(db.connection, "s", "r5").pairs == 1
    assert kept(db) == 0
    computed = quality(db)
    after = {(row["metric"], row["side"]): row["n"] for row in computed}
    assert after == {key: n - 1 for key, n in before.items()}
    maintenance.maintain(db.connection, datetime.now(UTC))
    assert kept(db) == len(computed)
    assert to_ten_digits(quality(db)) == to_ten_digits(computed)


def test_a_newer_cohort_takes_the_place_of_the_older(db: Database) -> None:
    maintenance.maintain(db.connection, datetime.now(UTC))
    db.add_pairs([{**row, "event_time": START + 21 * DAY} for row in sample(np.random.default_rng(33), 5).rows()])
    db.connection.execute(
        "insert into gnomon.cohorts (deployment_id, horizon, since, until, watermark, grace, label_kind, label_choice,"
        " source_offsets, label_offsets, load_ids) select deployment_id, horizon, until, until + interval '5 days',"
        " watermark, grace, label_kind, label_choice, '{\"0\": 85}', label_offsets, load_ids from gnomon.cohorts"
    )
    computed = quality(db)
    assert {row["n"] for row in computed if row["metric"] == "label_coverage"} == {85}
    assert maintenance.maintain(db.connection, datetime.now(UTC)).cohorts == 1
    assert to_ten_digits(quality(db)) == to_ten_digits(computed)


def asked(db: Database, name: str, exact: str, **narrowed: Any) -> list[dict[str, Any]]:
    return list(ask(db.connection, name, Question("s", **narrowed, extra={"exact": exact})).rows)


def test_sums_take_what_clusters_share_from_the_kept_cohort(db: Database) -> None:
    """Over the pairs of the cohort the intervals are exact, or wider if clusters would make them narrow."""
    roll_up(db, sample(np.random.default_rng(31), 80).rows())
    maintenance.maintain(db.connection, datetime.now(UTC))
    wider = 0
    for name, by in (
        ("agreement", {"agreement": "standard_error", "kappa": "kappa_se"}),
        ("errors", {"rate": "standard_error"}),
    ):
        for rolled, exact in zip(asked(db, name, "no"), asked(db, name, "yes"), strict=True):
            assert rolled["interval_by"] == "cohort, days"
            for estimate, error in by.items():
                assert rolled[estimate] == pytest.approx(exact[estimate], abs=1e-12)
                floor = exact[error] if rolled["se_cluster"] != pytest.approx(rolled["se_row"]) else 0.0
                assert rolled[error] >= 0.9 * floor  # the effects of clusters within a day are not known
            if exact["se_cluster"] > exact["se_row"]:
                assert rolled["se_cluster"] == pytest.approx(exact["se_cluster"], rel=0.05)
                wider += 1
    assert wider > 0


def test_more_pairs_may_be_more_of_the_same_clusters(db: Database) -> None:
    """Stored for half of the pairs, in few large clusters: over all, the error is that of the pairs on average."""
    names = [f"d{seed}" for seed in range(12)]
    for seed, name in enumerate(names):
        db.add_deployment(name)
        rng = np.random.default_rng(seed)
        rows = sample(rng, 400, clusters=12).rows()
        for row in rows:  # a third of the clusters differs
            if row["cluster"] in {"c0", "c1", "c2", "c3"} and rng.random() < 0.7:
                row["shadow_label"] = "late" if row["live_label"] == "on_time" else "on_time"
        db.add_pairs(rows, name)
        roll_up(db, rows, deployment=name)
        db.connection.execute(
            "insert into gnomon.cohorts (deployment_id, horizon, until, watermark, grace, label_kind, label_choice,"
            " source_offsets, label_offsets, load_ids) select %s, horizon, %s, watermark, grace, label_kind,"
            " label_choice, '{\"0\": 100000}', label_offsets, load_ids from gnomon.cohorts where deployment_id = %s",
            [db.deployments[name], START + 3 * DAY, db.deployments["new"]],
        )
    assert maintenance.maintain(db.connection, datetime.now(UTC)).cohorts == 1 + len(names)
    rolled, exact = ({row["deployment"]: row for row in asked(db, "agreement", way)} for way in ("no", "yes"))
    kept = dict(db.connection.execute(
        "select d.name, e.n from gnomon_estimators.cluster_effects e join gnomon.deployments d using (deployment_id)"
        " where metric = 'agreement'").fetchall())  # fmt: skip
    assert all(150 < kept[name] < 250 for name in names)
    assert all(rolled[name]["n"] == exact[name]["n"] == 400 for name in names)
    ratios = [rolled[name]["se_cluster"] / exact[name]["se_cluster"] for name in names]
    # clusters have an effect
    assert np.mean([exact[name]["se_cluster"] / exact[name]["se_row"] for name in names]) > 1.1
    assert 0.9 < np.mean(ratios) < 1.3, ratios


def test_latency_of_everything_is_what_was_kept_unless_exact(db: Database) -> None:
    before = asked(db, "latency", "yes")
    assert asked(db, "latency", "no") == before  # nothing is kept yet
    maintenance.maintain(db.connection, datetime.now(UTC))
    db.add_pairs([{**row, "request_id": "later", "event_time": START + 25 * DAY, "shadow_latency_us": 10**7}
                  for row in sample(np.random.default_rng(33), 30).rows()])  # fmt: skip
    kept_rows = [{**row, "kept_until": START + 20 * DAY, "status": "ok"} for row in before]
    assert [{**row, "status": "ok"} for row in asked(db, "latency", "no")] == kept_rows
    assert asked(db, "latency", "yes") != before
    # A narrower question is never answered with the stored total.
    for narrowed in ({"until": START + 20 * DAY}, {"time_zone": "Asia/Tokyo"}, {"segment": {"origin": "JFK"}}):
        assert {row["kept_until"] for row in asked(db, "latency", "no", **narrowed)} == {None}
    assert erasure.erase(db.connection, "s", "r5").pairs == 1
    assert db.value("select count(*) from gnomon.cohort_latencies") == 0


def test_an_upgrade_forgets_only_what_can_be_computed_again(db: Database, database_url: str) -> None:
    maintenance.maintain(db.connection, datetime.now(UTC))
    before = quality(db)

    def upgrade() -> int:
        db.connection.execute("update gnomon.view_versions set sha256 = 'of another version'")
        assert runner.upgrade(engine_for(database_url))
        return kept(db)

    assert upgrade() == 0
    maintenance.maintain(db.connection, datetime.now(UTC))
    db.connection.execute(
        "insert into gnomon.cells (deployment_id, source_partition, start_offset, stratum, seen, sampled,"
        " draw_probability, scored, failed, timed_out, dead_lettered, expired)"
        " values (%s, 0, 0, '', 80, 80, 1, 80, 0, 0, 0, 80)",
        [db.deployments["new"]],
    )
    db.connection.execute("delete from gnomon.pairs")
    assert upgrade() == len(before)
    assert to_ten_digits(quality(db)) == to_ten_digits(before)
