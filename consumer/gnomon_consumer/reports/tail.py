"""The live view of a stream: two looks at the database make a rate. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import NormalDist
from typing import Any

from psycopg.rows import DictRow
from rich import box
from rich.table import Table
from rich.text import Text

from gnomon_consumer.reports.numbers import NOTHING, fixed, number, with_interval
from gnomon_consumer.runtime.visible import visible

Z_95 = NormalDist().inv_cdf(0.975)
"""Half-width of a 95% interval in standard errors, like `gnomon_estimators.reach` of no degrees of freedom."""


@dataclass(frozen=True)
class Look:
    """The rows of `report_v1.tail` at `at` (seconds of a monotonic clock)."""

    at: float
    rows: Sequence[DictRow]


def rates(before: Look | None, now: Look) -> dict[str, float]:
    """Return captures joined a second, by deployment, between two looks; empty for the first look."""
    if before is None or now.at <= before.at:
        return {}
    then = {row["deployment"]: row["joined"] for row in before.rows}
    return {
        row["deployment"]: (row["joined"] - then[row["deployment"]]) / (now.at - before.at)
        for row in now.rows
        if row["joined"] is not None and then.get(row["deployment"]) is not None
    }


def cells(row: DictRow, rate: float | None, by_values: bool = False) -> Mapping[str, str]:
    """Return one deployment's current row as titles and texts for 80 columns. `by_values`: every answer is a number."""
    reached: datetime | None = row["event_time"]
    answers = {"shadow - live": _difference(row)} if by_values else {"agreement": number(row["agreement"], "share")}
    return {
        "deployment": row["deployment"] or row["stream"] or NOTHING,
        "joined/s": NOTHING if rate is None else f"{rate:,.0f}",
        "lag": NOTHING if row["lag_s"] is None else f"{row['lag_s']:.1f} s",
        "sampled": number(row["sampling_fraction"], "share"),
        **answers,
        "errors": number(row["shadow_error_rate"], "share"),
        "event time": NOTHING if reached is None else reached.strftime("%m-%d %H:%M"),
    }


def _difference(row: DictRow) -> str:
    """Return the mean difference of values and the half-width of its 95% interval by row."""
    mean, error = row["mean_difference"], row["mean_difference_se"]
    if mean is None or not error:
        return number(mean, "number")
    half = Z_95 * error
    said, _ = with_interval(mean, mean - half, mean + half, "number")
    return f"{said} ±{fixed(half, len(said.partition('.')[2]))}"


def table(before: Look | None, now: Look) -> Table:
    """Return the live view; a deployment without numbers says why."""
    speed = rates(before, now)
    by_values = {row.get("compares") for row in now.rows} - {None} == {"values"}
    shown = [cells(row, speed.get(row["deployment"]), by_values) for row in now.rows]
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for at, title in enumerate(shown[0]):
        grid.add_column(title, justify="left" if at == 0 else "right", overflow="fold", no_wrap=at > 0)
    for row in shown:
        grid.add_row(*(Text(visible(text)) for text in row.values()))
    remarks = [f"{row['deployment'] or row['stream']}: {row['status']}" for row in now.rows if row["status"] != "ok"]
    grid.caption = "\n".join(remarks) or None
    return grid


def line(row: DictRow, rate: float | None) -> dict[str, Any]:
    """Return one deployment's current row as keys and values, for a log."""
    return {
        "deployment": row["deployment"], "role": row["role"], "joined": row["joined"],
        "joined_per_second": None if rate is None else round(rate, 1), "lag_s": row["lag_s"],
        "sampling_fraction": row["sampling_fraction"], "agreement": row["agreement"],
        "mean_difference": row["mean_difference"], "mean_difference_se": row["mean_difference_se"],
        "shadow_error_rate": row["shadow_error_rate"], "live_error_rate": row["live_error_rate"],
        "event_time": None if row["event_time"] is None else row["event_time"].isoformat(), "status": row["status"],
    }  # fmt: skip
