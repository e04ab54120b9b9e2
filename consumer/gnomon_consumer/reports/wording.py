"""How the one-file report says a number: no more digits than its interval bears, and equal where it is equal. Pure."""

from typing import Any

from gnomon_consumer.reports.numbers import NOTHING, digits, number, share, share_places
from gnomon_consumer.reports.query import Row

# Higher is better for these; for the other measures of quality lower is.
HIGHER = {"accuracy", "precision", "recall", "auc", "ndcg@10"}
NAMES = {
    "accuracy": "accuracy", "precision": "precision", "recall": "recall", "auc": "AUC", "log_loss": "log loss",
    "brier": "Brier score", "rmse": "RMSE", "mae": "MAE", "ndcg@10": "NDCG@10", "label_coverage": "labelled share",
}  # fmt: skip
SHARES = {"accuracy", "precision", "recall", "label_coverage"}
# Single precision carries 24 bits: the same model in another runtime differs from itself by some 1e-7, and by no less.
NOISE = 1e-6
# It may also put two scores that are as near as that in the other order, which moves AUC by one part in the number of
# all pairs of a positive and a negative: what four decimals, as shown, cannot hold.
ORDER_NOISE = {"auc": 1e-5}
EQUAL = "equal"


def estimate(row: Row, source: str, kind: str) -> str:
    """A number of a row: shares as per cent with as many decimals as `low` and `high` bear."""
    value, low, high = row.get(source), row.get("low"), row.get("high")
    if kind != "share" or value is None:
        return number(value, kind)
    if low is None or high is None:
        return per_cent(value)
    return per_cent(value, share_places(low, high))


def interval(row: Row, kind: str) -> str:
    """`LOW to HIGH` in words, or nothing."""
    low, high = row.get("low"), row.get("high")
    if low is None or high is None or low == high or NOTHING in (number(low, kind), number(high, kind)):
        return ""
    if kind == "share":
        places = share_places(low, high)
        return f"{per_cent(low, places)} to {per_cent(high, places)}"
    return f"{number(low, kind)} to {number(high, kind)}"


def per_cent(value: float, places: int = 2) -> str:
    """Per cent; 0% and 100% are said of what is exactly that, and are that short."""
    if value in (0, 1, -1):
        return f"{100 * value:.0f}%"
    return share(value, places)


def measure(row: Row | None, metric: str) -> str:
    """A measure of quality of one side."""
    if row is None or row["estimate"] is None:
        return NOTHING
    return f"{100 * row['estimate']:.1f}%" if metric in SHARES else f"{row['estimate']:.4f}"


def is_equal(entry: dict[str, Any]) -> bool:
    """Whether the two sides of a measure differ by no more than the noise of single precision, interval and all."""
    difference = entry["difference"]
    size = max(abs(entry[side]["estimate"] or 0) for side in ("live", "shadow"))
    ends = [difference[name] for name in ("estimate", "low", "high")]
    noise = ORDER_NOISE.get(entry["metric"], NOISE * max(size, NOISE))
    return all(end is not None and abs(end) <= noise for end in ends)


def difference(entry: dict[str, Any]) -> tuple[str, str]:
    """A difference and its interval: shares in percentage points, both with the digits that the interval bears."""
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
    """One of the three standard errors of a difference, two figures."""
    value = entry["difference"][name]
    if value is None:
        return NOTHING
    scale, unit = (100.0, " points") if entry["metric"] in SHARES else (1.0, "")
    return "0" if is_equal(entry) else f"{scale * value:#.2g}{unit}"


def favours(entry: dict[str, Any]) -> str:
    """Whom a difference favours beyond its interval; in words, since colour alone says nothing."""
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
    """With its sign, a true minus, and no sign at all where nothing is left of it."""
    text = f"{value:+.{places}f}"
    return (text if float(text) else text[1:]).replace("-", "−")


def days(seconds: float) -> str:
    """A horizon in words."""
    count = seconds / 86_400
    return "1 day" if count == 1 else f"{count:g} days" if count >= 1 else f"{24 * count:g} hours"
