"""Names and numbers in the texts of a verdict. Pure."""

from math import floor, log10

from gnomon_consumer.verdict.rules.confidence import NOISE

NAMES = {
    "brier": "Brier score",
    "log_loss": "log loss",
    "squared_error": "squared error",
    "absolute_error": "absolute error",
    "rmse": "RMSE",
}


def name_of(metric: str) -> str:
    """Return the name of a metric in a text."""
    gain = ", exponential gain" if metric.startswith("ndcg_exp") else ""
    return NAMES.get(metric) or metric.replace("ndcg_exp", "NDCG").replace("ndcg", "NDCG") + gain


def number(value: float, level: float = 0.0, digits: int = 4) -> str:
    """Return a number with a true minus, small ones without an exponent; 0 if it is noise next to `level`."""
    if abs(value) <= NOISE * level:
        return "0"
    text = f"{value:.{digits}g}"
    if "e-" in text and abs(value) > 1e-10:
        text = f"{value:.{digits - 1 - floor(log10(abs(value)))}f}".rstrip("0")
    return text.replace("-", "−")


def counted(n: int, what: str) -> str:
    """Return a number of things, in words."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")
