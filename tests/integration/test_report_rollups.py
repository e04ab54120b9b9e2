"""What the joiner rolls up, and the reports over it, are what the pairs themselves say, on random pairs."""

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from psycopg.types.json import Jsonb
from tests.report_rows import DEFAULTS, START, Database

from gnomon_consumer.joiner.assemble import PAIRS
from gnomon_consumer.joiner.rollup import COUNTS, SUMS, Rollup
from gnomon_consumer.reports import Question, ask

Row = dict[str, Any]
TOLERANCE = 0.05
ZONE = "Europe/Zurich"


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        made = Database(connection)
        made.add_stream(value_tolerance=TOLERANCE)
        made.add_deployment()
        yield made


def random_pairs(rng: np.random.Generator, n: int) -> list[Row]:
    """Labels, values, lists, none of them or a mixture; NaN and infinity; failures that still say something."""
    rows = []
    for i in range(n):
        kind = rng.choice(["label", "value", "items", "mixed", "nothing"], p=[0.4, 0.3, 0.1, 0.15, 0.05])
        row: Row = {
            "request_id": f"r{i}",
            "event_time": START + timedelta(seconds=int(rng.integers(0, 4 * 86400))),
            "cluster": [None, "a", "b", "c"][rng.integers(4)],
            "stratum": str(rng.choice(["", "JFK", "LGA"])),
            "segments": Jsonb({"origin": str(rng.choice(["JFK", "LGA"]))}),
            "inclusion_probability": float(rng.choice([1.0, 0.5, 0.05])),
            "capture_probability": float(rng.choice([1.0, 0.25])),
            "live_error_kind": str(rng.choice(["exception", "timeout"])) if rng.random() < 0.1 else None,
            "outcome": str(rng.choice(["scored", "failed", "timed_out"], p=[0.8, 0.1, 0.1])),
        }
        for side in ("live", "shadow"):
            has = {
                "label": (True, True, False),
                "value": (False, True, False),
                "items": (False, False, True),
                "nothing": (False, False, False),
                "mixed": tuple((rng.random(3) < 0.5).tolist()),
            }[str(kind)]
            value = float(
                rng.choice([rng.random(), 0.5, math.nan, math.inf, -math.inf], p=[0.7, 0.15, 0.07, 0.05, 0.03])
            )
            row[f"{side}_label"] = str(rng.choice(["on_time", "late"])) if has[0] else None
            row[f"{side}_value"] = value if has[1] else None
            row[f"{side}_items"] = [str(item) for item in rng.permutation(["x", "y"])] if has[2] else None
        rows.append(row)
    return rows


def roll_up(db: Database, rows: list[Row]) -> None:
    """What the joiner would have written with these pairs, by its own sums, in two windows."""
    written = {**DEFAULTS, "scored_at": 0}
    for part in (rows[::2], rows[1::2]):
        batch = [
            {**written, **row, "event_time": micros(row["event_time"]), "segments": json.dumps({})} for row in part
        ]
        for made in batch:
            made.update({name: made[name].bytes for name in ("window_id", "producer_id")})
        rollup = Rollup()
        rollup.add(pa.RecordBatch.from_pylist([{name: row.get(name) for name in PAIRS.names} for row in batch],
                                              schema=PAIRS), TOLERANCE)  # fmt: skip
        for row in part:
            rollup.count((micros(row["event_time"]) // 3_600_000_000, row["stratum"]), "seen")
        columns = (*COUNTS, *SUMS)
        for (hour, stratum), numbers in rollup.rows():
            db.connection.execute(
                f"insert into gnomon.rollups as r (deployment_id, hour, stratum, {', '.join(columns)})"
                f" values (%s, %s, %s, {', '.join(['%s'] * len(columns))}) on conflict (deployment_id, hour, stratum)"
                f" do update set {', '.join(f'{name} = r.{name} + excluded.{name}' for name in columns)}",
                [db.deployments["new"], datetime.fromtimestamp(hour * 3600, UTC), stratum, *numbers],
            )


def micros(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000


@pytest.mark.parametrize("seed", range(6))
def test_long_periods_read_what_the_pairs_say(db: Database, seed: int) -> None:
    rows = random_pairs(np.random.default_rng(seed), 300)
    db.add_pairs(rows)
    roll_up(db, rows)
    for unit in ("all", "day", "hour"):
        for row in ask(db.connection, "timeline", Question("s", time_zone=ZONE, extra={"unit": unit})).rows[:6]:
            inside = {} if unit == "all" else {"since": row["at"], "until": row["at"] + timedelta(**{f"{unit}s": 1})}
            check_against_the_pairs(db, row, Question("s", time_zone=ZONE, **inside))
    (whole,) = ask(db.connection, "timeline", Question("s", time_zone=ZONE, extra={"unit": "all"})).rows
    for unit in ("hour", "weekday", "day"):
        parts = ask(db.connection, "coverage", Question("s", time_zone=ZONE, extra={"slice": unit})).rows
        for name in ("seen", "sampled", "scored", "failed", "timed_out"):
            assert sum(part[name] for part in parts) == whole[name]


def check_against_the_pairs(db: Database, row: Row, question: Question) -> None:
    """Estimates, effective n and the errors by row and day of one row of the timeline, computed from the pairs."""
    (agreement,) = ask(db.connection, "agreement", question).rows
    errors = {(e["metric"], e["side"]): e for e in ask(db.connection, "errors", question).rows}
    assert row["sampled"] == errors["error", "live"]["n"] == row["scored"] + row["failed"] + row["timed_out"]
    assert row["n_effective"] == pytest.approx(errors["error", "live"]["n_effective"])
    for ours, exact, error in (
        ("agreement", {**agreement, "rate": agreement["agreement"]}, "agreement_se"),
        ("error_rate", errors["error", "shadow"], "error_rate_se"),
        ("live_error_rate", errors["error", "live"], None),
        ("mean_difference", {"rate": agreement["mean_difference"]}, None),
    ):
        assert row[ours] == (None if exact["rate"] is None else pytest.approx(exact["rate"], abs=1e-12)), ours
        if error is not None and exact["rate"] is not None:
            by_day = exact["se_day"] or 0.0
            assert row[error] == pytest.approx((exact["se_row"] ** 2 + by_day**2) ** 0.5, abs=1e-9), error
