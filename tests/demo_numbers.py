"""What the reports of a demo must say, computed anew by pandas and scikit-learn from an export of its tables."""

import io
from dataclasses import dataclass

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
    """The rows of a query, by COPY … TO as CSV."""
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
    kappa: float
    mean_difference: float
    mean_absolute_difference: float


def agreement(pairs: pd.DataFrame) -> Agreement:
    """Agreement of one deployment's pairs: the Hájek mean, and linearised variances by row, aircraft and local day."""
    weight = 1.0 / (pairs["inclusion_probability"] * pairs["capture_probability"])
    same = (pairs["live_label"] == pairs["shadow_label"]).astype(float)
    estimate = float(np.average(same, weights=weight))
    residual = weight * (same - estimate)
    # A request without a cluster is a cluster of its own.
    aircraft = pairs["cluster"].fillna("row " + pairs.index.astype(str).to_series(index=pairs.index))
    day = pd.to_datetime(pairs["event_time"], utc=True, format="ISO8601").dt.tz_convert(TIME_ZONE).dt.date

    def error(groups: pd.Series) -> float:
        return float(np.sqrt((residual.groupby(groups).sum() ** 2).sum()) / weight.sum())

    difference = pairs["shadow_value"] - pairs["live_value"]
    kappa = cohen_kappa_score(pairs["live_label"], pairs["shadow_label"], sample_weight=weight)
    return Agreement(
        n=len(pairs),
        weight=float(weight.sum()),
        agreement=estimate,
        se_row=float(np.sqrt((residual**2).sum()) / weight.sum()),
        se_cluster=error(aircraft),
        se_day=error(day),
        kappa=float(kappa),
        mean_difference=float(np.average(difference, weights=weight)),
        mean_absolute_difference=float(np.average(difference.abs(), weights=weight)),
    )


def quality(pairs: pd.DataFrame, labels: pd.DataFrame, until: pd.Timestamp, horizon: pd.Timedelta) -> dict[str, float]:
    """Quality of both sides on the pairs before `until` whose outcome was known within the horizon."""
    joined = pairs.merge(labels, on="request_id")
    times = {name: pd.to_datetime(joined[name], utc=True, format="ISO8601") for name in ("event_time", "observed_at")}
    joined = joined[(times["event_time"] < until) & (times["observed_at"] <= times["event_time"] + horizon)]
    weight = 1.0 / (joined["inclusion_probability"] * joined["capture_probability"])
    found = {}
    for side in ("live", "shadow"):
        score, label = joined[f"{side}_value"], joined[f"{side}_label"]
        found[f"accuracy {side}"] = accuracy_score(joined["label"], label, sample_weight=weight)
        found[f"auc {side}"] = roc_auc_score(joined["value"], score, sample_weight=weight)
        found[f"brier {side}"] = brier_score_loss(joined["value"], score, sample_weight=weight)
    return {**found, "n": len(joined)}
