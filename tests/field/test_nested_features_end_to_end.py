"""Nested, listed and mapped features from the hook through Kafka, scorer and joiner to a report and to SQL by name."""

import enum
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from tests.support.servers.process import Gnomon

from gnomon_producer import Tap

COUNT = 40
MODEL = """
import numpy as np
class Model:
    features = ("home.floor", "counts", "words", "plan")
    def predict(self, columns):
        counted = [sum((one or {}).values()) for one in columns["counts"]]
        floor = np.nan_to_num(np.asarray(columns["home.floor"], float), nan=-1.0)
        lengths = [len("".join(map(str, row))) for row in columns["words"]]
        gold = [float(one == "gold") for one in columns["plan"]]
        return floor + counted + lengths + gold
def make():
    return Model()
"""


class Plan(enum.Enum):
    FREE = "free"
    GOLD = "gold"


@dataclass
class Home:
    city: str
    floor: int | None = None


@dataclass
class Order:
    home: Home
    counts: dict[str, float]
    words: list[str]
    plan: Plan
    at: datetime


AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def order(number: int) -> Order:
    home = Home(f"city {number}", number if number % 2 else None)
    return Order(home, {"a": 0.5, "b": float(number)}, ["x", "y" * (number % 3)], list(Plan)[number % 2], AT)


def expected(number: int) -> float:
    one = order(number)
    floor = -1.0 if one.home.floor is None else one.home.floor
    return floor + sum(one.counts.values()) + len("".join(one.words)) + number % 2


@pytest.mark.timeout(400)
def test_from_the_hook_to_sql_by_name(
    gnomon: Gnomon, kafka_bootstrap: str, database_url: str, stream_name: str, tmp_path: Path
) -> None:
    (tmp_path / "nested_model.py").write_text(MODEL)
    env = {"GNOMON_STREAM": stream_name, "GNOMON_BOOTSTRAP_SERVERS": kafka_bootstrap, "PYTHONPATH": str(tmp_path)}

    def run(*arguments: str) -> str:
        done = gnomon.run(*arguments, env=env | {"GNOMON_DATABASE_URL": database_url}, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("topics", "create", "--partitions", "1", "--deployment", "boost")
    tap = Tap(stream=stream_name, model=("live", "1"), features=Order, bootstrap_servers=kafka_bootstrap,
              handle_sigterm=False)  # fmt: skip
    for number in range(COUNT):
        given = order(number)
        tap.record(f"r{number}", given if number % 2 else asdict(given), value=expected(number))
    assert tap.close(60)
    assert tap.stats().dropped == {}
    run("score", "--deployment", "boost", "--model", "nested_model:make", "--no-sampling", "--exit-when-idle=1")
    run("join", "--deployment", "boost", "--drain")
    rows = json.loads(run("report", "agreement", "--format", "json"))["rows"]
    assert rows[0]["n"] == COUNT
    with psycopg.connect(database_url) as connection:
        pairs = connection.execute(
            "select request_id, live_value, shadow_value, features_numeric, features_text from report_v1.pairs"
        ).fetchall()
        places: dict[str, list[str]] = dict(
            connection.execute(
                "select name, array[kind, position::text, avro_type] from report_v1.feature_columns"
            ).fetchall()
        )
    assert len(pairs) == COUNT
    assert {"home.city", "home.floor", "counts", "words", "plan", "at"} == set(places)
    for request_id, live, shadow, numbers, texts in pairs:
        number = int(request_id[1:])
        one = order(number)

        def at(name: str, numbers: list[float | None] = numbers, texts: list[str | None] = texts) -> float | str | None:
            kind, position, _ = places[name]
            return (numbers if kind == "numeric" else texts)[int(position) - 1]

        assert live == shadow == expected(number)
        assert (at("home.city"), at("home.floor")) == (one.home.city, one.home.floor)
        assert json.loads(str(at("counts"))) == one.counts
        assert json.loads(str(at("words"))) == one.words
        assert (at("plan"), at("at")) == (one.plan.value, int(AT.timestamp() * 1e6))
