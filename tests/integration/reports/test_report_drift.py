"""Drift and feature health against NumPy and SciPy on weighted data; references are frozen."""

import json
import math
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance
from tests.support.command import Command
from tests.support.drift_simulation import GROUPS, psi_of
from tests.support.report_database import START, Database

from gnomon_consumer.reference.build import store
from gnomon_consumer.reference.profile import profile
from gnomon_consumer.reports import Question, ask

Row = dict[str, Any]


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """A stream with one numeric and one text feature and a challenger."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        made = Database(connection)
        made.add_stream()
        made.add_deployment()
        for name, kind in (("amount", "numeric"), ("country", "text")):
            made.add("feature_columns", [
                {"stream_id": made.stream_id, "name": name, "kind": kind, "position": 1, "avro_type": "x"}
            ])  # fmt: skip
        yield made


def pairs(amounts: list[float | None], countries: list[str | None], probabilities: list[float]) -> list[Row]:
    return [
        {
            "request_id": f"r{i}", "features_numeric": [amount], "features_text": [country],
            "inclusion_probability": probability, "live_value": 0.5, "shadow_value": 0.25,
        }
        for i, (amount, country, probability) in enumerate(zip(amounts, countries, probabilities, strict=True))
    ]  # fmt: skip


def drift(db: Database, name: str = "drift", **extra: Any) -> dict[str, Row]:
    return {row["feature"]: row for row in ask(db.connection, name, Question("s", extra=extra)).rows}


def test_every_distance_is_scipys(db: Database) -> None:
    random = np.random.default_rng(4)
    before = random.normal(0, 1, 400).round(1)
    now = random.normal(0.4, 1.3, 700).round(1)
    now[:20] = np.nan
    names = ["CH", "DE", "FR", "NEW"]
    before_names = random.choice(names[:3], 400, p=[0.5, 0.3, 0.2])
    now_names = random.choice(names, 700, p=[0.4, 0.3, 0.2, 0.1])
    old_weights = random.uniform(1, 5, 400)
    frozen = [
        profile("amount", "numeric", before.tolist(), old_weights),
        profile("country", "text", [*before_names[:-10].tolist(), *[None] * 10], old_weights),
    ]
    store(db.connection, "s", "training", "test", {"": frozen})
    probabilities = random.choice([1.0, 0.5, 0.1], 700)
    db.add_pairs(pairs([*now.tolist()], [None, *now_names[1:].tolist()], probabilities.tolist()))
    found = drift(db)
    w = 1 / probabilities
    n_ref, n_now = old_weights.sum() ** 2 / (old_weights**2).sum(), w.sum() ** 2 / (w**2).sum()

    def divergences(p: Any, q: Any) -> tuple[float, float]:
        p = (n_ref * np.array(p) + 0.5) / (n_ref + 0.5 * len(p))
        q = (n_now * np.array(q) + 0.5) / (n_now + 0.5 * len(q))
        return float(((q - p) * np.log(q / p)).sum()), float(jensenshannon(p, q) ** 2)

    amount, finite = found["amount"], np.isfinite(now)
    edges = frozen[0].edges
    p = np.bincount(np.searchsorted(edges, before, "right"), old_weights, len(edges) + 1) / old_weights.sum()
    q = np.bincount(np.searchsorted(edges, now[finite], "right"), w[finite], len(edges) + 1) / w.sum()
    psi, js = divergences([*p, 0.0], [*q, w[~finite].sum() / w.sum()])
    assert amount["psi"] == pytest.approx(psi, rel=1e-9)
    assert amount["js"] == pytest.approx(js, rel=1e-9)
    assert (amount["psi_low"], amount["psi_high"]) == (None, None)  # of one day
    assert amount["wasserstein"] == pytest.approx(
        wasserstein_distance(now[finite], before, w[finite], old_weights), rel=1e-9
    )
    grid = np.unique(np.concatenate([before, now[finite]]))
    f_now = np.array([w[finite][now[finite] <= x].sum() for x in grid]) / w[finite].sum()
    f_before = np.array([old_weights[before <= x].sum() for x in grid]) / old_weights.sum()
    assert amount["ks"] == pytest.approx(np.abs(f_now - f_before).max(), rel=1e-9)
    assert amount["nan_share"] == pytest.approx(w[~finite].sum() / w.sum())
    assert amount["status"] == "differs from the reference: one day only, which may be unlike others"

    country = found["country"]
    given = np.array([False, *[True] * 699])
    shares = [w[given & (now_names == name)].sum() / w.sum() for name in (*frozen[1].categories, "NEW")]
    null = w[~given].sum() / w.sum()
    before_shares = [
        old_weights[:-10][before_names[:-10] == name].sum() / old_weights.sum() for name in frozen[1].categories
    ]
    psi, js = divergences([*before_shares, 0.0, old_weights[-10:].sum() / old_weights.sum()], [*shares, null])
    assert country["psi"] == pytest.approx(psi, rel=1e-9)
    assert country["js"] == pytest.approx(js, rel=1e-9)
    assert country["unseen_share"] == pytest.approx(shares[-1])
    assert country["null_share"] == pytest.approx(null)
    assert (country["ks"], country["wasserstein"]) == (None, None)


@pytest.mark.parametrize(("days", "clusters"), [(1, 0), (2, 12), (9, 0), (14, 300)])
def test_the_interval_knows_clusters_and_days(db: Database, days: int, clusters: int) -> None:
    """Threshold and interval equal the copy in NumPy.

    tests/property/reports/test_drift_coverage.py checks the coverage of the copy.
    """
    random = np.random.default_rng(days)
    frozen = profile("amount", "numeric", random.normal(size=500).tolist(), np.ones(500))
    store(db.connection, "s", "training", "test", {"": [frozen]})
    day, cluster = random.integers(0, days, 600), random.integers(0, max(clusters, 1), 600)
    now = random.normal(size=600) + 0.2 * random.normal(size=days)[day] + 0.5 * random.normal(size=301)[cluster]
    now[:30] = np.nan
    probabilities = random.choice([1.0, 0.5, 0.1], 600)
    names = [f"c{one}" if clusters else None for one in cluster]
    rows = pairs(now.tolist(), ["CH"] * 600, probabilities.tolist())
    db.add_pairs([
        {**row, "event_time": START + timedelta(days=int(on), seconds=at), "cluster": name}
        for at, (row, on, name) in enumerate(zip(rows, day, names, strict=True))
    ])  # fmt: skip
    found = drift(db)["amount"]
    keys = [f"r0:{at}" if name is None else f"c{name}" for at, name in enumerate(names)]
    group = db.value(
        "select array_agg(abs(hashtextextended(k, 0) %% %s) order by at)"
        " from unnest(%s::text[]) with ordinality u(k, at)",
        GROUPS, keys,
    )  # fmt: skip
    place = np.where(np.isfinite(now), np.searchsorted(frozen.edges, now, "right"), len(frozen.edges) + 1)
    copy = psi_of(place, 1 / probabilities, np.array(group), day, np.array([*frozen.shares, 0.0]), frozen.n_effective)
    assert found["psi"] == pytest.approx(copy.psi, rel=1e-9)
    assert found["psi_threshold"] == pytest.approx(copy.threshold, rel=1e-6)
    expected = (None, None) if days == 1 else (pytest.approx(copy.low, rel=1e-6), pytest.approx(copy.high, rel=1e-6))
    assert (found["psi_low"], found["psi_high"]) == expected


def test_more_pairs_than_enough_are_drawn_by_a_hash(db: Database) -> None:
    """Of 40,000 pairs about 30,000 are read, always the same; with exact all of them."""
    store(db.connection, "s", "training", "test", {"": [profile("amount", "numeric", [0.0, 1.0, 2.0], np.ones(3))]})
    db.add_pairs(pairs([0.5], [None], [1.0]))
    db.connection.execute(
        "create temporary table one as select * from gnomon.pairs; alter table one drop column weight;"
        "update one set features_numeric = '{1}';"
    )
    columns = db.value(
        "select string_agg(attname, ', ' order by attnum) from pg_attribute where attrelid = 'pg_temp.one'::regclass"
        " and attnum > 0 and not attisdropped and attname not in ('source_offset', 'request_id', 'event_time')"
    )
    db.connection.execute(
        f"insert into gnomon.pairs (source_offset, request_id, event_time, {columns})"
        f" select n, 'x' || n, event_time + n * interval '1 second', {columns} from one, generate_series(1, 39999) n"
    )
    for report in ("drift", "feature_health"):
        row, again, exact = (
            drift(db, report)["amount"],
            drift(db, report)["amount"],
            drift(db, report, exact="yes")["amount"],
        )
        assert (row["pairs"], exact["pairs"], exact["n"]) == (40_000, 40_000, 40_000)
        assert 29_400 < row["n"] < 30_600
        assert again == row
        # If one in four is missing, the only pair that differs changes no share by more than its own.
        assert exact["n_effective"] == 40_000


def test_a_known_psi(db: Database) -> None:
    """(.1, .2, .3, .4) against uniform is 0.228217; with ten million rows the pseudo-rows do not matter."""
    reference = profile("country", "text", ["a", "b", "c", "d"], np.ones(4))
    big = type(reference)(**{**vars(reference), "n": 10**7, "n_effective": 1e7})
    store(db.connection, "s", "uniform", "test", {"": [big]})
    counts = {"a": 400, "b": 800, "c": 1200, "d": 1600}
    rows = [name for name, count in counts.items() for _ in range(count)]
    db.add_pairs(pairs([1.0] * len(rows), [*rows], [1.0] * len(rows)))
    assert drift(db)["country"]["psi"] == pytest.approx(0.228217, abs=2e-3)


def test_no_drift_stays_below_its_threshold_nineteen_times_in_twenty(db: Database) -> None:
    random = np.random.default_rng(8)
    store(
        db.connection,
        "s",
        "training",
        "t",
        {"": [profile("amount", "numeric", random.normal(size=1000).tolist(), np.ones(1000))]},
    )
    over, rounds = 0, 60
    for day in range(rounds):
        rows = pairs(random.normal(size=300).tolist(), [None] * 300, [1.0] * 300)
        db.add_pairs([{**row, "event_time": START + timedelta(days=day, seconds=i)} for i, row in enumerate(rows)])
    for day in range(rounds):
        since = START + timedelta(days=day)
        row = next(
            row for row in ask(db.connection, "drift", Question("s", since=since, until=since + timedelta(days=1))).rows
        )
        over += row["psi"] > row["psi_threshold"]
    # 60 rounds share one reference; 5% is 3, and chance in the reference at most triples it.
    assert over <= 10


def test_health_tells_missing_invalid_and_outside_apart(db: Database) -> None:
    frozen = [
        profile("amount", "numeric", [0.0, 1.0], np.ones(2)),
        profile("country", "text", ["CH", "DE"], np.ones(2)),
    ]
    store(db.connection, "s", "training", "test", {"": frozen})
    db.add_pairs(pairs([0.5, None, math.nan, 7.0], ["CH", "XX", None, "DE"], [1.0, 0.5, 0.25, 1.0]))
    found = drift(db, "feature_health")
    amount, country = found["amount"], found["country"]
    assert (amount["missing"], amount["invalid"], amount["out_of_range"]) == (2 / 8, 4 / 8, 1 / 8)
    assert (amount["lowest"], amount["highest"]) == (0.5, 7.0)
    assert (country["missing"], country["invalid"], country["out_of_range"]) == (4 / 8, 0, 2 / 8)
    assert amount["status"] == country["status"] == "values outside the reference"


@pytest.mark.parametrize("value", [None, math.nan])
def test_nothing_to_compare_is_said(db: Database, value: float | None) -> None:
    assert [row["status"] for row in ask(db.connection, "drift", Question("s")).rows] == [
        "no reference: run `gnomon reference build`"
    ]
    frozen = [profile("amount", "numeric", [0.0, 1.0], np.ones(2)), profile("country", "text", ["CH"], np.ones(1))]
    store(db.connection, "s", "training", "test", {"": frozen})
    assert {row["status"] for row in ask(db.connection, "drift", Question("s")).rows} == {"no value in this period"}
    assert ask(db.connection, "drift", Question("nope")).rows[0]["status"] == "unknown stream"
    db.add_pairs(pairs([value] * 3, [None] * 3, [1.0] * 3))
    found = drift(db)
    assert found["amount"]["status"] == found["country"]["status"] == "every value is missing or NaN"
    assert (found["amount"]["ks"], found["amount"]["wasserstein"]) == (None, None)
    numbers = [v for row in found.values() for v in row.values() if isinstance(v, float)]
    assert all(math.isfinite(v) for v in numbers)


def test_a_period_freezes_features_and_answers(command: Command, db: Database, database_url: str) -> None:
    random = np.random.default_rng(2)
    db.add_pairs(pairs(random.normal(size=50).tolist(), ["CH"] * 50, [0.5] * 50))
    environment = {"GNOMON_DATABASE_URL": database_url, "GNOMON_STREAM": "s"}
    built = command("reference", "build", "2013-04-01..2013-05-01", "--name", "april", env=environment)
    assert (built.returncode, built.stdout) == (0, "reference april of s: 4 profiles frozen\n"), built.stderr
    rows = {
        r["feature"]: r
        for r in json.loads(command("report", "drift", "--format", "json", env=environment).stdout)["rows"]
    }
    assert set(rows) == {"amount", "country", "@live.value", "@shadow.value"}
    # The same pairs compared with themselves: no distance at all.
    assert all(row["psi"] == pytest.approx(0, abs=1e-12) for row in rows.values())
    assert rows["amount"]["ks"] == pytest.approx(0, abs=1e-12)
    again = command("reference", "build", "2013-04-01..2013-05-01", "--name", "april", env=environment)
    assert again.returncode == 2
    assert "april of s exists already and is frozen" in again.stderr
    assert "april" in command("reference", "list", env=environment).stdout


def test_files_of_training_data(command: Command, db: Database, database_url: str) -> None:
    table = pa.table({"amount": [1.0, 2.0, None], "country": ["CH", "DE", "CH"], "unrelated": [1, 2, 3]})
    pyarrow.parquet.write_table(table, command.cwd / "t.parquet")
    pyarrow.csv.write_csv(table, command.cwd / "t.csv")
    environment = {"GNOMON_DATABASE_URL": database_url, "GNOMON_STREAM": "s"}
    for file in ("t.parquet", "t.csv"):
        built = command("reference", "build", file, "--name", file, env=environment)
        assert built.stdout == f"reference {file} of s: 2 profiles frozen\n", built.stderr
    rows = db.connection.execute(
        "select n, null_share, points, categories from gnomon.reference_profiles order by name, feature"
    ).fetchall()
    assert rows == [(3, pytest.approx(1 / 3), [1.0, 2.0], []), (3, 0.0, [], ["CH", "DE"])] * 2


@pytest.mark.parametrize(
    ("source", "content", "words"),
    [
        ("missing.csv", None, "missing.csv"),
        ("bad.csv", "other\n1\n", "no row of any feature of the stream (amount, country)"),
        ("text.csv", "amount\nmany\n", "could not convert string to float"),
        ("2013-05-01..2013-04-01", None, "its end must be after its start"),
        ("2013-05-01..soon", None, "'soon' is not a valid time"),
        ("2013-05-01..2013-06-01", None, "no pairs of s between"),
    ],
)
def test_bad_sources_are_one_line(
    command: Command, db: Database, database_url: str, source: str, content: str | None, words: str
) -> None:
    if content is not None:
        (command.cwd / source).write_text(content)
    environment = {"GNOMON_DATABASE_URL": database_url, "GNOMON_STREAM": "s"}
    ended = command("reference", "build", source, env=environment)
    assert ended.returncode == 2, ended.stderr
    assert words in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
