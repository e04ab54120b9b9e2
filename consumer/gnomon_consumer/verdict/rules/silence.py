"""Why no request has the data for a metric. Pure."""

import numpy as np

from gnomon_consumer.verdict.rules import codes
from gnomon_consumer.verdict.rules.plan import RANKINGS
from gnomon_consumer.verdict.rules.summing import Pairs
from gnomon_consumer.verdict.rules.words import name_of, number
from gnomon_schemas.arrays import Floats

Why = tuple[str, str]


def silence(pairs: Pairs, metric: str) -> Why | None:
    """Return the code of the reason and its text, None where no request was answered, or where none is known."""
    if not len(pairs.kind):
        return None
    name = name_of(metric)
    if not pairs.known.any():
        return codes.NO_METRIC, f"no answered request has a label in time, so there is no {name}"
    if metric in ("accuracy", "precision", "recall"):
        return _of_decisions(pairs, name)
    if metric in RANKINGS:
        return (
            codes.NO_METRIC,
            f"no list of both sides has an item of known relevance, so there is no {name}",
        )
    values = {"live": pairs.live, "the challenger": pairs.shadow}
    for side, value in values.items():
        if not np.isfinite(value).any():
            return codes.NO_METRIC, f"{side} answers no finite value, so there is no {name}"
    if not (pairs.known & np.isfinite(pairs.truth)).any():
        return codes.LABELS_DO_NOT_FIT, f"no label has a value, so there is no {name}"
    if metric in ("brier", "log_loss"):
        return _of_probabilities(pairs, values, name)
    return codes.NO_METRIC, f"no request has a label and a finite value of both sides, so there is no {name}"


def _of_decisions(pairs: Pairs, name: str) -> Why:
    decisions, truths = pairs.names
    if not pairs.fits:
        return codes.LABELS_DO_NOT_FIT, (
            f"no decision ever equals a label, so there is no {name}: the decisions are {_some(decisions)}, the labels"
            f" {_some(truths)}"
        )
    if not pairs.decided.any():
        return codes.NO_METRIC, f"no request has a decision of both sides, so there is no {name}"
    if not truths:
        return codes.LABELS_DO_NOT_FIT, f"no label is a class, so there is no {name}"
    if name == "accuracy" or not pairs.judged.any():
        return codes.NO_METRIC, f"no request has a label and a decision of both sides, so there is no {name}"
    return codes.LABELS_DO_NOT_FIT, (
        f"no label says which class is positive, so there is no {name}: declare it (gnomon streams set)"
    )


def _of_probabilities(pairs: Pairs, values: dict[str, Floats], name: str) -> Why:
    if not pairs.probable.any():
        for side, value in values.items():
            finite = value[np.isfinite(value)]
            if len(finite) and (finite.min() < 0 or finite.max() > 1):
                return codes.NOT_PROBABILITIES, (
                    f"{side} answers values from {number(finite.min())} to {number(finite.max())}, which are not"
                    f" probabilities, so there is no {name}"
                )
        return codes.NO_METRIC, f"no request has a finite value of both sides, so there is no {name}"
    return codes.LABELS_DO_NOT_FIT, f"no label of a request with values is 0 or 1, so there is no {name}"


def _some(names: set[str]) -> str:
    """Return the first four names, and how many more there are."""
    first = sorted(names)
    more = f" and {len(first) - 4} more" if len(first) > 4 else ""
    return ", ".join(first[:4]) + more
