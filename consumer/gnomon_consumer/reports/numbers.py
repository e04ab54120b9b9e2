"""The format of numbers: a fitting unit, and no more digits than the interval supports. Pure."""

import math
from datetime import datetime, timedelta
from typing import Any

NOTHING = "–"


def number(value: Any, kind: str) -> str:
    """Return one value as people read it: counts with separators, shares as per cent, µs in the unit that fits."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NOTHING
    if kind == "count":
        return f"{round(value):,}"
    if kind == "share":
        return share(value, 2)
    if kind == "µs":
        return microseconds(float(value))
    if kind == "bytes":
        return f"{value / 2**20:,.1f} MiB"
    if kind == "number":
        return fixed(value, 4 if abs(value) < 1000 else 1)
    if kind == "figure":
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if kind == "error":
        return f"{value:.4f}".removeprefix("0")
    if kind == "short":
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.2g}".removesuffix(".")
    if kind == "yes":
        return "yes" if value else "no"
    if isinstance(value, timedelta):
        return span(value)
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    return str(value)


def with_interval(value: float, low: float, high: float, kind: str) -> tuple[str, str]:
    """Return a number and both ends of its interval with the same decimals, and the unit once: `83.5%`, `78.2…87.9`."""
    if kind == "µs":
        return microseconds(float(value)), _microseconds_between(low, high)
    if kind == "share":
        places = share_places(low, high)
        return share(value, places), f"{fixed(100 * low, places)}…{fixed(100 * high, places)}"
    places = digits(low, high) if kind == "short" else places_between(low, high)
    return fixed(value, places), f"{fixed(low, places)}…{fixed(high, places)}"


def digits(low: float, high: float) -> int:
    """Return the decimals that show the half-width of an interval with two figures; at most 6."""
    half = (high - low) / 2
    return 6 if half <= 0 else min(6, max(0, 1 - math.floor(math.log10(half))))


def places_between(low: float, high: float) -> int:
    """Return a number's decimals by its interval: four for most, more for small values, but no rounding noise."""
    return min(6 if 1e-6 <= max(abs(low), abs(high)) < 1e-2 else 4, digits(low, high))


def share_places(low: float, high: float) -> int:
    """Return the decimals of a share in per cent, by its interval."""
    return min(2, max(1, digits(100 * low, 100 * high)))


def share(value: float, places: int) -> str:
    """Return per cent; only exact values are written as 0% and 100%."""
    while places < 6 and value not in (0, 1) and round(100 * value, places) in (0, 100):
        places += 1
    return f"{fixed(100 * value, places)}%"


def fixed(value: float, places: int) -> str:
    """Return a number with this many decimals, without a sign if it rounds to 0."""
    text = f"{value:,.{places}f}"
    return text if text.strip("-0.,") else text.removeprefix("-")


def microseconds(value: float) -> str:
    """Return a duration in µs, ms or s."""
    scale, unit, _ = _unit(value)
    return f"{value / scale:.3g} {unit}"


def _microseconds_between(low: float, high: float) -> str:
    """Return both ends in the unit of the larger one, with enough decimals to distinguish them."""
    scale, unit, least = _unit(max(abs(low), abs(high)))
    low, high = low / scale, high / scale
    places = least if low == high else max(least, min(least + 3, digits(low, high)))
    return f"{fixed(low, places)}…{fixed(high, places)} {unit}"


def _unit(value: float) -> tuple[float, str, int]:
    """Return the divisor, the unit, and its minimum number of decimals."""
    if abs(value) < 1e3:
        return 1, "µs", 0
    return (1e3, "ms", 2) if abs(value) < 1e6 else (1e6, "s", 2)


def span(value: timedelta) -> str:
    """Return a span of days and hours; anything finer as Python writes it."""
    hours = value.seconds / 3600
    if value.microseconds or not hours.is_integer():
        return str(value)
    return " ".join(filter(None, (f"{value.days} d" if value.days else "", f"{hours:.0f} h" if hours else ""))) or "0 h"
