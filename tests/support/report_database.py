"""Rows for the tests of the reports: random pairs as the joiner writes them, and as NumPy arrays."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from numpy.typing import NDArray
from psycopg.types.json import Jsonb

from gnomon_consumer.joiner.pairs.assemble import PAIRS
from gnomon_consumer.joiner.pairs.rollup import COUNTS, SUMS, Rollup, Tolerance

HAS_STARTED = (
    "select count(*) from information_schema.columns where table_schema = 'gnomon'"
    " and table_name = 'label_loads' and column_name = 'started_at'"
)
# The joiner's hourly sums of scored pairs, computed from the pairs themselves.
ROLLUP = """
insert into gnomon.rollups (deployment_id, hour, stratum, seen, sampled, scored, comparable, agreed, weight,
    weight_squared, comparable_weight, comparable_weight_squared, agreed_weight, agreed_weight_squared)
select deployment_id, date_trunc('hour', event_time), stratum, count(*), count(*), count(*), count(*),
       count(*) filter (where agrees), sum(weight), sum(weight ^ 2), sum(weight), sum(weight ^ 2),
       coalesce(sum(weight) filter (where agrees), 0), coalesce(sum(weight ^ 2) filter (where agrees), 0)
from report_v1.pairs group by 1, 2, 3
"""
START = datetime(2013, 4, 1, tzinfo=UTC)
DEFAULTS: Mapping[str, Any] = {
    "source_partition": 0,
    "request_id": "r",
    "cluster": None,
    "stratum": "",
    "segments": Jsonb({}),
    "features_numeric": [],
    "features_text": [],
    "live_model_name": "live",
    "live_model_version": "1",
    "shadow_batch_size": 1,
    "scored_at": START,
    "outcome": "scored",
    "capture_probability": 1.0,
    "inclusion_probability": 1.0,
    "rank": 0,
    "window_id": uuid.UUID(int=1),
    "producer_id": uuid.UUID(int=2),
    "producer_sequence": 0,
}


@dataclass
class Database:
    """A stream with its deployments, and methods to insert rows."""

    connection: psycopg.Connection[Any]
    stream: str = "s"
    stream_id: int = 0
    deployments: dict[str, int] = field(default_factory=dict)

    def add_stream(self, **settings: Any) -> None:
        """Create the stream."""
        columns = ["name", *settings]
        row = self.connection.execute(
            f"insert into gnomon.streams ({', '.join(columns)}) values ({', '.join(['%s'] * len(columns))})"
            " returning stream_id",
            [self.stream, *settings.values()],
        ).fetchone()
        assert row is not None
        self.stream_id = row[0]

    def add_deployment(self, name: str = "new", role: str = "challenger") -> int:
        """Create a deployment of the stream; return its id."""
        row = self.connection.execute(
            "insert into gnomon.deployments (stream_id, name, role, model_name, model_version)"
            " values (%s, %s, %s, 'm', '1') returning deployment_id",
            [self.stream_id, name, role],
        ).fetchone()
        assert row is not None
        self.deployments[name] = row[0]
        return int(row[0])

    def add(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Copy rows into a table of schema gnomon."""
        if not rows:
            return
        columns = list(dict.fromkeys(name for row in rows for name in row))
        marks = ", ".join(["%s"] * len(columns))
        with self.connection.cursor() as cursor:
            cursor.executemany(
                f"insert into gnomon.{table} ({', '.join(columns)}) values ({marks})",
                [[row.get(name) for name in columns] for row in rows],
            )

    def add_pairs(self, rows: Sequence[Mapping[str, Any]], deployment: str = "new") -> None:
        """Insert pairs; offsets follow the order, missing values have plain defaults."""
        first = self.value("select coalesce(max(source_offset) + 1, 0) from gnomon.pairs")
        self.add(
            "pairs",
            [
                {
                    **DEFAULTS,
                    "deployment_id": self.deployments[deployment],
                    "event_time": START + timedelta(minutes=number),
                    "source_offset": first + number,
                    "probe_probability": _probe_probability(row),
                    **row,
                }
                for number, row in enumerate(rows)
            ],
        )

    def add_labels(self, rows: Sequence[Mapping[str, Any]], complete_until: datetime) -> None:
        """Insert labels as one load that is complete until a time."""
        load = self.value(
            "insert into gnomon.label_loads (stream_id, file, sha256, started_at, complete_until)"
            " values (%s, 'f', '', now(), %s) returning load_id"
            if self.value(HAS_STARTED)
            else "insert into gnomon.label_loads (stream_id, file, sha256, complete_until)"
            " values (%s, 'f', '', %s) returning load_id",
            self.stream_id,
            complete_until,
        )
        self.add("labels", [{"stream_id": self.stream_id, "load_id": load, **row} for row in rows])

    def value(self, statement: str, *arguments: Any) -> Any:
        """Return the first value of the first row."""
        row = self.connection.execute(statement, arguments).fetchone()
        assert row is not None
        return row[0]


def _probe_probability(row: Mapping[str, Any]) -> float | None:
    """Return the probe probability of a row without its own: every sampled row scored alone is in the probe."""
    chance: float = row.get("inclusion_probability", 1.0)
    return chance if row.get("shadow_batch_size", 1) == 1 else None


@dataclass(frozen=True)
class Sample:
    """Weighted, clustered random pairs as arrays, one element a pair."""

    weight: NDArray[np.float64]
    cluster: NDArray[np.int64]
    day: NDArray[np.int64]
    truth: NDArray[np.float64]
    live: NDArray[np.float64]
    shadow: NDArray[np.float64]
    event_time: Sequence[datetime]

    def rows(self) -> list[dict[str, Any]]:
        """Return the sample as rows of `pairs`: probabilities with a decision at one half."""
        return [
            {
                "request_id": f"r{i}",
                "event_time": self.event_time[i],
                "cluster": f"c{self.cluster[i]}" if self.cluster[i] >= 0 else None,
                "inclusion_probability": float(1 / self.weight[i]),
                "segments": Jsonb({"origin": "JFK" if i % 3 else "LGA"}),
                "live_value": float(self.live[i]),
                "live_label": "late" if self.live[i] > 0.5 else "on_time",
                "shadow_value": float(self.shadow[i]),
                "shadow_label": "late" if self.shadow[i] > 0.5 else "on_time",
                "live_latency_us": int(1000 + 500 * self.live[i]),
                "shadow_latency_us": int(1000 + 2000 * self.shadow[i]),
            }
            for i in range(len(self.weight))
        ]

    def labels(self) -> list[dict[str, Any]]:
        """Return one label a pair, an hour later."""
        return [
            {
                "request_id": f"r{i}",
                "observed_at": self.event_time[i] + timedelta(hours=1),
                "value": float(self.truth[i]),
                "label": "late" if self.truth[i] else "on_time",
            }
            for i in range(len(self.weight))
        ]


def sample(rng: np.random.Generator, n: int = 400, clusters: int = 40, ties: bool = True) -> Sample:
    """Draw a sample: a few days, clusters with an effect, some rows without one, tied scores."""
    cluster = rng.integers(-5, clusters, n)
    effect = rng.normal(0, 0.8, clusters + 5)[cluster]
    day = np.sort(rng.integers(0, 6, n))
    logit = rng.normal(0, 1, n) + effect
    live = 1 / (1 + np.exp(-(logit + rng.normal(0, 1, n))))
    shadow = 1 / (1 + np.exp(-(logit + rng.normal(0, 0.6, n))))
    if ties:
        live, shadow = live.round(2), shadow.round(2)
    live, shadow = live.clip(0.01, 0.99), shadow.clip(0.01, 0.99)
    moment = [START + timedelta(days=int(day[i]), seconds=int(rng.integers(0, 86400))) for i in range(n)]
    return Sample(
        1 / rng.choice([1.0, 0.5, 0.2, 0.05], n),
        np.where(cluster < 0, -1, cluster),
        day,
        (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(float),
        live,
        shadow,
        moment,
    )


def roll_up(db: Database, rows: Sequence[Mapping[str, Any]], tolerance: float = 0.0, deployment: str = "new") -> None:
    """Write the rollups of these pairs with the joiner's own sums, in two windows."""
    written = {**DEFAULTS, "scored_at": 0}
    for part in (rows[::2], rows[1::2]):
        batch = [
            {**written, **row, "event_time": micros(row["event_time"]), "segments": json.dumps({})} for row in part
        ]
        for made in batch:
            made.update({name: made[name].bytes for name in ("window_id", "producer_id")})
        rollup = Rollup()
        rollup.add_pairs(pa.RecordBatch.from_pylist([{name: row.get(name) for name in PAIRS.names} for row in batch],
                                              schema=PAIRS), Tolerance(tolerance, 1e-5))  # fmt: skip
        for row in part:
            rollup.count((micros(row["event_time"]) // 3_600_000_000, row.get("stratum", "")), "seen")
        columns = (*COUNTS, *SUMS)
        for (hour, stratum), numbers in rollup.rows():
            db.connection.execute(
                f"insert into gnomon.rollups as r (deployment_id, hour, stratum, {', '.join(columns)})"
                f" values (%s, %s, %s, {', '.join(['%s'] * len(columns))}) on conflict (deployment_id, hour, stratum)"
                f" do update set {', '.join(f'{name} = r.{name} + excluded.{name}' for name in columns)}",
                [db.deployments[deployment], datetime.fromtimestamp(hour * 3600, UTC), stratum, *numbers],
            )
        for (hour, *labels), numbers in rollup.decisions():
            db.connection.execute(
                "insert into gnomon.rollup_labels as r (deployment_id, hour, live_label, shadow_label, pairs, weight,"
                " weight_squared) values (%s, %s, %s, %s, %s, %s, %s)"
                " on conflict (deployment_id, hour, live_label, shadow_label) do update set"
                " pairs = r.pairs + excluded.pairs, weight = r.weight + excluded.weight,"
                " weight_squared = r.weight_squared + excluded.weight_squared",
                [db.deployments[deployment], datetime.fromtimestamp(hour * 3600, UTC), *labels, *numbers],
            )


def micros(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000


def to_ten_digits(value: Any) -> Any:
    """Return rows with rounded floats: another plan adds in another order, which changes the last digits."""
    if isinstance(value, float):
        return float(f"{value:.10g}")
    if isinstance(value, dict):
        return {key: to_ten_digits(one) for key, one in value.items()}
    return [to_ten_digits(one) for one in value] if isinstance(value, list) else value
