"""Evidence for the tests of the gate: everything in favour, from which a test removes one thing."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np

from gnomon_consumer.verdict.rules.evidence import AnswerCell, Errors, Evidence, LiveVersion, Series
from gnomon_consumer.verdict.rules.plan import Plan, WayBack

FIRST = date(2013, 4, 1)
WAY_BACK = WayBack(kind="command", promote_command=("true",), rollback_command=("true",))


def plan(**changes: Any) -> Plan:
    """Return a plan with a way back."""
    return Plan(**({"way_back": WAY_BACK} | changes))


def series(
    effects: Sequence[float], metric: str = "accuracy", segment: str = "", variant: str = "complete", rows: int = 500
) -> Series:
    """Return a series in which each day's difference is given."""
    n = len(effects)
    weight = (float(rows),) * n
    live = tuple(0.8 * rows for _ in range(n))
    shadow = tuple((0.8 + effect) * rows for effect in effects)
    return Series(
        metric=metric,
        rows=(rows,) * n,
        live_y=live,
        live_x=weight,
        shadow_y=shadow,
        shadow_x=weight,
        segment=segment,
        variant=variant,
    )


def effects(days: int, mean: float = 0.05, spread: float = 0.01, seed: int = 1) -> list[float]:
    """Return effects by day whose mean and spread are exact, in an order that shows no dependence."""
    if days < 2:
        return [mean] * days
    drawn = np.random.default_rng(seed).normal(size=days)
    values = drawn - drawn.mean()
    values = values / values.std()
    ordered = np.sort(values)
    mixed = np.concatenate([ordered[::2], ordered[1::2][::-1]]) if days > 3 else ordered
    alternating = np.empty(days)
    alternating[::2], alternating[1::2] = mixed[: (days + 1) // 2], mixed[(days + 1) // 2 :]
    return [float(value) for value in mean + spread * alternating]


def evidence(n: int = 14, mean: float = 0.05, spread: float = 0.01, **changes: Any) -> Evidence:
    """Return evidence of a challenger that is better by `mean` in accuracy."""
    found = effects(n, mean, spread)
    whole = Evidence(
        stream="s",
        deployment="new",
        role="challenger",
        days=tuple(FIRST + timedelta(days=i) for i in range(n)),
        series=(series(found), series(found, variant="weighted")),
        errors=Errors(units=500 * n),
        rows=500 * n,
        answered=1.0,
        coverage=1.0,
        label_coverage=0.97,
        effective_rows=400.0 * n,
        classes={"late": 100 * n, "on_time": 400 * n},
        cells=(AnswerCell("late", "on_time", 0.1, 0.97), AnswerCell("on_time", "on_time", 0.9, 0.97)),
        live_versions=(
            LiveVersion(name="live", version="1", first=FIRST, last=FIRST + timedelta(days=n), rows=500 * n),
        ),
    )
    return replace(whole, **changes)
