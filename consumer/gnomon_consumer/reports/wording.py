"""Numbers in the HTML report: no more digits than the interval supports, and "equal" if they are equal. Pure."""

from typing import Any

from psycopg.rows import DictRow

from gnomon_consumer.reports.numbers import NOTHING, digits, fixed, number, places_between, share, share_places

NAMES = {
    "accuracy": "accuracy", "precision": "precision", "recall": "recall", "auc": "AUC", "log_loss": "log loss",
    "f1": "F1", "answered": "answered", "answered_by_both": "answered by both", "task": "task",
    "brier": "Brier score", "rmse": "RMSE", "mae": "MAE", "label_coverage": "labelled share",
    **{f"ndcg@{k}": f"NDCG@{k}" for k in (1, 3, 5, 10, 20)},
    **{f"ndcg_exp@{k}": f"NDCG@{k}, exponential gain" for k in (1, 3, 5, 10, 20)},
}  # fmt: skip
# Higher is better for these; lower is better for the other measures of quality.
HIGHER = {"answered", "accuracy", "precision", "recall", "f1", "auc", *(name for name in NAMES if "ndcg" in name)}
SHARES = {"accuracy", "precision", "recall", "f1", "label_coverage", "answered", "answered_by_both"}
# Single precision has 24 bits: the same model in another runtime differs from itself by about 1e-7.
NOISE = 1e-6
# Rounding may also swap two scores that are this near. That moves AUC by one part in the number of all pairs of a
# positive and a negative, which the four decimals shown do not reveal.
ORDER_NOISE = {"auc": 1e-5}
EQUAL = "equal"


def estimate(row: DictRow, source: str, kind: str) -> str:
    """Return a number of a row: shares as per cent with as many decimals as `low` and `high` support."""
    value, low, high = row.get(source), row.get("low"), row.get("high")
    if kind != "share" or value is None:
        return number(value, kind)
    if low is None or high is None:
        return per_cent(value)
    return per_cent(value, share_places(low, high))


def with_interval(row: DictRow, source: str, kind: str) -> tuple[str, str]:
    """Return a number of a row and its interval in words, or nothing."""
    return estimate(row, source, kind), interval(row, kind)


def mean_difference(row: DictRow) -> tuple[str, str]:
    """Return shadow minus live, with its sign, and the interval, for streams whose answers are numbers."""
    value, low, high = (row.get(f"mean_difference{end}") for end in ("", "_low", "_high"))
    if value is None:
        return NOTHING, ""
    if low is None or high is None:
        return (_signed(value, 4) if value else "0"), ""
    places = places_between(low, high)
    return _signed(value, places), f"{_signed(low, places)} to {_signed(high, places)}"


def slice_number(row: DictRow, by_values: bool) -> tuple[str, str]:
    """Return the number of one value of a slice, and its interval: a mean difference or a share."""
    if by_values:
        ends = {
            f"mean_difference{end}": row[name] for end, name in (("", "estimate"), ("_low", "low"), ("_high", "high"))
        }
        return mean_difference(ends)
    return with_interval(row, "estimate", "share")


def distance(row: DictRow) -> str:
    """Return the mean absolute distance of the values from live's, and how many of them are equal."""
    value, low, high = (row.get(f"mean_absolute_difference{end}") for end in ("", "_low", "_high"))
    if value is None:
        return ""
    said = number(value, "figure") if low is None or high is None else fixed(value, places_between(low, high))
    return f"{said} apart on average, {estimate(row, 'agreement', 'share')} equal"


def interval(row: DictRow, kind: str) -> str:
    """Return `LOW to HIGH` in words, or nothing."""
    low, high = row.get("low"), row.get("high")
    if low is None or high is None or low == high or NOTHING in (number(low, kind), number(high, kind)):
        return ""
    if kind == "share":
        places = share_places(low, high)
        return f"{per_cent(low, places)} to {per_cent(high, places)}"
    return minus(f"{number(low, kind)} to {number(high, kind)}")


def per_cent(value: float, places: int = 2) -> str:
    """Return per cent; only exact values are written as 0% and 100%."""
    return minus(f"{100 * value:.0f}%" if value in (0, 1, -1) else share(value, places))


def measure(row: DictRow | None, metric: str) -> str:
    """Return a quality metric of one side, with the decimals that its own interval supports."""
    if row is None or row["estimate"] is None:
        return NOTHING
    value, low, high = row["estimate"], row.get("low"), row.get("high")
    if low is None or high is None:
        return share(value, 1) if metric in SHARES else fixed(value, 4)
    return share(value, share_places(low, high)) if metric in SHARES else fixed(value, min(4, digits(low, high)))


def is_equal(entry: dict[str, Any]) -> bool:
    """Return whether the two sides of a measure differ by no more than the noise of single precision, on every row.

    The standard error shows "on every row": it is 0 only if no row differs. An interval does not show it, because a
    variance of 0 is not certainty.
    """
    difference = entry["difference"]
    size = max(abs(entry[side]["estimate"] or 0) for side in ("live", "shadow"))
    noise = ORDER_NOISE.get(entry["metric"], NOISE * max(size, NOISE))
    estimate, error = difference["estimate"], difference["standard_error"]
    return estimate is not None and error is not None and abs(estimate) <= noise and error <= noise


def difference(entry: dict[str, Any]) -> tuple[str, str]:
    """Return a difference and its interval: shares in percentage points, with the digits that the interval supports."""
    row, metric = entry["difference"], entry["metric"]
    if row["estimate"] is None:
        return NOTHING, ""
    if is_equal(entry):
        return EQUAL, ""
    scale, unit = (100.0, " points") if metric in SHARES else (1.0, "")
    if row["low"] is None:
        return f"{_signed(scale * row['estimate'], 2 if unit else 4)}{unit}", ""
    places = digits(scale * row["low"], scale * row["high"])
    said = [_signed(scale * row[name], places) for name in ("estimate", "low", "high")]
    return f"{said[0]}{unit}", f"{said[1]} to {said[2]}"


def standard_error(entry: dict[str, Any], name: str) -> str:
    """Return one of the three standard errors of a difference, two figures."""
    value = entry["difference"][name]
    if value is None:
        return NOTHING
    scale, unit = (100.0, " points") if entry["metric"] in SHARES else (1.0, "")
    return "0" if is_equal(entry) else f"{scale * value:#.2g}{unit}"


def favours(entry: dict[str, Any]) -> str:
    """Return which side a difference favours beyond its interval, in words, because colour alone is not enough."""
    row = entry["difference"]
    if row["low"] is None:
        return NOTHING
    if is_equal(entry):
        return EQUAL
    if row["low"] <= 0 <= row["high"]:
        return "no clear difference"
    better = (row["estimate"] > 0) == (entry["metric"] in HIGHER)
    return "shadow better" if better else "live better"


def _signed(value: float, places: int) -> str:
    """Return a number with its sign, a true minus, and without a sign if it rounds to 0."""
    text = f"{value:+.{places}f}"
    return minus(text if float(text) else text[1:])


def minus(number: str) -> str:
    """Return a number with a true minus."""
    return number.replace("-", "−")


def days(seconds: float) -> str:
    """Return a horizon in words."""
    count = seconds / 86_400
    return "1 day" if count == 1 else f"{count:g} days" if count >= 1 else f"{24 * count:g} hours"
