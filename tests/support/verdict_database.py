"""A database with whole days of labelled pairs, sealed, for the tests of the verdict."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
from psycopg.types.json import Jsonb

from gnomon_consumer.verdict.plans import record_plan
from gnomon_consumer.verdict.rules.plan import Plan
from tests.support.report_database import START, Database
from tests.support.verdict_evidence import WAY_BACK

DAY = timedelta(days=1)
GATES = {"rows": 100, "effective_rows": 50, "class_rows": 5, "error_rate": 0.05}


def lenient(**changes: Any) -> Plan:
    """Return a plan that fits a few dozen requests a day."""
    return Plan.model_validate({"gates": GATES, "way_back": WAY_BACK} | changes)


@dataclass
class Traffic:
    """Requests of many days: `live` and `shadow` are the shares that each side decides correctly."""

    live: float = 0.7
    shadow: float = 0.95
    rows: int = 40
    version: Callable[[int], str] = lambda _day: "1"
    change: Callable[[int, dict[str, Any]], Mapping[str, Any]] = lambda _day, _row: {}
    labelled: Callable[[int, dict[str, Any]], bool] = lambda _day, _row: True
    seed: int = 1
    made: list[dict[str, Any]] = field(default_factory=list)


def fill(db: Database, days: int, traffic: Traffic | None = None, deployment: str = "new") -> Traffic:
    """Insert part of a day, whole days of pairs and labels, and their windows; nothing is sealed yet."""
    traffic = traffic or Traffic()
    rng = np.random.default_rng(traffic.seed)
    labels = []
    for day in range(-1, days):
        for i in range(traffic.rows if day >= 0 else 3):
            truth = bool(rng.random() < 0.4)
            sides = {
                side: truth if rng.random() < share else not truth
                for side, share in (("live", traffic.live), ("shadow", traffic.shadow))
            }
            row: dict[str, Any] = {
                "request_id": f"{deployment}-{day}-{i}",
                "event_time": START + day * DAY + timedelta(hours=12) + timedelta(minutes=i),
                "live_model_version": traffic.version(day),
                "window_id": uuid.UUID(int=1000 + day),
                "segments": {"origin": "JFK" if i % 2 else "LGA"},
                "live_latency_us": 1000,
                "probe_probability": 1.0,
                "shadow_latency_us": 1000 + i,
            }
            for side, late in sides.items():
                row[f"{side}_label"] = "late" if late else "on_time"
                row[f"{side}_value"] = 0.9 if late else 0.1
            row |= traffic.change(day, row)
            if traffic.labelled(day, row):
                said = {"value": float(truth), "label": "late" if truth else "on_time"}
                labels.append({"request_id": row["request_id"], "observed_at": row["event_time"] + DAY / 24, **said})
            traffic.made.append(row | {"truth": truth})
            row["segments"] = Jsonb(row["segments"])
    rows = [{key: value for key, value in row.items() if key != "truth"} for row in traffic.made]
    for row in rows:
        row["segments"] = row["segments"] if isinstance(row["segments"], Jsonb) else Jsonb(row["segments"])
    wanted = sorted({key for row in rows for key in row})
    db.add_pairs([{key: row.get(key) for key in wanted} for row in rows], deployment)
    db.add_labels(labels, START + (days + 5) * DAY)
    _ledger(db, deployment, days)
    return traffic


def _ledger(db: Database, deployment: str, days: int) -> None:
    """Insert the windows (one a day), cells and progress that belong to the pairs."""
    identity = db.deployments[deployment]
    place = {"deployment_id": identity, "source_partition": 0}
    windows = db.connection.execute(
        "select min(source_offset), max(source_offset) + 1, count(*), count(*) filter (where outcome <> 'scored'),"
        " window_id, min(event_time), max(event_time) from gnomon.pairs where deployment_id = %s"
        " group by window_id order by 1",
        [identity],
    ).fetchall()
    low, end = windows[0][0], windows[-1][1]
    db.add("join_progress", [{**place, "cluster_id": "c", "start_offset": low, "model_name": "m", "model_version": "1",
                              "model_sha256": "x", "seed": 0, "policy": "p", "started_at": START,
                              "next_source_offset": end, "next_shadow_offset": end, "caught_up": True,
                              "event_time_reached": START + days * DAY}])  # fmt: skip
    # The last window ends where the last day does.
    *windows, (*last_window, _) = windows
    windows = [*windows, (*last_window, START + days * DAY)]
    db.add("windows", [{**place, "start_offset": start, "end_offset": stop, "window_id": window, "tick_id": window,
                        "first_captured_at": first, "last_captured_at": last, "opened_at": first, "sealed_at": last,
                        "close_reason": "time", "lag_s": 0, "seed": 0, "policy": "p", "seen": n, "joined_seen": n,
                        "shadow_offset": stop, "cpu_us": 1000 * n}
                       for start, stop, n, _, window, first, last in windows])  # fmt: skip
    db.add("cells", [{**place, "start_offset": start, "stratum": "", "seen": n, "sampled": n, "draw_probability": 1,
                      "scored": n - failed, "failed": failed, "timed_out": 0, "dead_lettered": 0, "joined_seen": n,
                      "joined_scored": n - failed, "joined_failed": failed}
                     for start, _, n, failed, *_ in windows])  # fmt: skip


def seal(db: Database, days: int, deployment: str = "new", horizon: timedelta = DAY) -> None:
    """Seal the slice up to the end of so many whole days, as `gnomon labels` would have then."""
    identity = db.deployments[deployment]
    end = db.value("select max(next_source_offset) from gnomon.join_progress where deployment_id = %s", identity)
    since = db.value(
        "select max(until) from gnomon.cohorts where deployment_id = %s and horizon = %s", identity, horizon
    )
    until = datetime.combine(START.date() + days * DAY, datetime.min.time(), UTC)
    loads = [row[0] for row in db.connection.execute("select load_id from gnomon.label_loads").fetchall()]
    db.add("cohorts", [{"deployment_id": identity, "horizon": horizon, "since": since, "until": until,
                        "watermark": until + 2 * DAY, "grace": timedelta(0), "label_kind": "explicit",
                        "label_choice": "last", "source_offsets": Jsonb({"0": end}), "label_offsets": Jsonb({}),
                        "load_ids": loads}])  # fmt: skip


def day(n: int) -> date:
    """Return the date of a whole day by its number from 0."""
    return START.date() + n * DAY


def made(db: Database, days: int, traffic: Traffic | None = None, plan: Plan | None = None) -> Traffic:
    """Create the stream, a challenger, its plan, and sealed days."""
    db.add_stream(horizons=[DAY])
    identity = db.add_deployment("new", "challenger")
    record_plan(db.connection, identity, plan or lenient(), given=True)
    filled = fill(db, days, traffic)
    seal(db, days)
    return filled
