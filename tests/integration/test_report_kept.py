"""What is computed once of sealed cohorts: the same numbers, from the table, until something of them is erased."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from tests.report_rows import START, Database, sample

from gnomon_consumer import upkeep
from gnomon_consumer.reports import Question, ask

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
    return int(db.value("select count(*) from gnomon.cohort_estimates"))


def test_maintenance_keeps_the_numbers_and_readers_take_them(db: Database) -> None:
    computed = quality(db)
    assert upkeep.maintain(db.connection, datetime.now(UTC)).cohorts == 1
    assert kept(db) == len(computed)
    assert quality(db) == computed
    # Once only; and it is the table that answers.
    assert upkeep.maintain(db.connection, datetime.now(UTC)).cohorts == 0
    db.connection.execute("update gnomon.cohort_estimates set estimate = 42 where metric = 'auc'")
    assert {row["estimate"] for row in quality(db) if row["metric"] == "auc"} == {42.0}
    # A narrower question, or one by another zone's days, is read from the pairs.
    for narrowed in ({"segment": {"origin": "JFK"}}, {"since": START}, {"time_zone": "Asia/Tokyo"}):
        assert 42.0 not in {row["estimate"] for row in quality(db, **narrowed)}


def test_what_comes_later_or_is_replayed_changes_nothing(db: Database) -> None:
    upkeep.maintain(db.connection, datetime.now(UTC))
    before = quality(db)
    late = sample(np.random.default_rng(32), 10).rows()
    db.add_pairs([{**row, "request_id": f"l{i}"} for i, row in enumerate(late)])
    db.add_pairs([{**row, "source_offset": -1 - i, "replayed": True} for i, row in enumerate(late)])
    assert quality(db) == before
    db.connection.execute("delete from gnomon.cohort_estimates")
    assert quality(db) == before


def test_erasure_makes_them_anew(db: Database) -> None:
    upkeep.maintain(db.connection, datetime.now(UTC))
    before = {(row["metric"], row["side"]): row["n"] for row in quality(db)}
    assert upkeep.erase(db.connection, "s", "r5").pairs == 1
    assert kept(db) == 0
    computed = quality(db)
    after = {(row["metric"], row["side"]): row["n"] for row in computed}
    assert after == {key: n - 1 for key, n in before.items()}
    upkeep.maintain(db.connection, datetime.now(UTC))
    assert kept(db) == len(computed)
    assert quality(db) == computed


def test_a_newer_cohort_takes_the_place_of_the_older(db: Database) -> None:
    upkeep.maintain(db.connection, datetime.now(UTC))
    db.add_pairs([{**row, "event_time": START + 21 * DAY} for row in sample(np.random.default_rng(33), 5).rows()])
    db.connection.execute(
        "insert into gnomon.cohorts (deployment_id, horizon, since, until, watermark, grace, label_kind, label_choice,"
        " source_offsets, label_offsets, load_ids) select deployment_id, horizon, until, until + interval '5 days',"
        " watermark, grace, label_kind, label_choice, '{\"0\": 85}', label_offsets, load_ids from gnomon.cohorts"
    )
    computed = quality(db)
    assert {row["n"] for row in computed if row["metric"] == "label_coverage"} == {85}
    assert upkeep.maintain(db.connection, datetime.now(UTC)).cohorts == 1
    assert quality(db) == computed
