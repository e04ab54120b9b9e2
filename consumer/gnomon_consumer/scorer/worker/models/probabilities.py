"""Detect scores of classes that are not probabilities, and scores of two classes in reverse order.

Converters write decision scores (`LinearSVC`, `Perceptron`, logits) into an output of the same name and shape as
probabilities. Such a row fails, and the error shows the sidecar's line that states what the scores are.
"""

from collections.abc import Sequence

import numpy as np

from gnomon_consumer.scorer.worker.models.base import Answers
from gnomon_consumer.scorer.worker.models.reading import Reading
from gnomon_schemas.records import Failure, FailureKind

UNDECIDED = "a sidecar decides it: "
"""Each of these failures contains this text before the lines; the warm-up uses it to refuse a model."""

_SLACK = 1e-4
"""A probability that is a sum of many float32 may be this far outside of 0 to 1."""


def check_scores(reading: Reading, answers: Answers) -> None:
    """Add to the failures of `answers` the rows whose scores do not have the assumed meaning."""
    scores = answers.scores
    if scores is None or reading.ranking or (answers.items is None and answers.row_items is None):
        return
    if isinstance(scores, np.ndarray):
        lowest, highest = scores.min(axis=1, initial=np.inf), scores.max(axis=1, initial=-np.inf)
    else:
        lowest = np.array([min(one, default=0.0) for one in scores])
        highest = np.array([max(one, default=0.0) for one in scores])
    if answers.label is not None:
        for row in np.flatnonzero((lowest == -highest) & (highest > 0)).tolist():
            _add_reversed(reading, row, answers)
    if reading.guessed:
        for row in np.flatnonzero((lowest < -_SLACK) | (highest > 1 + _SLACK)).tolist():
            _add_outside(reading, row, answers)


def _add_outside(reading: Reading, row: int, answers: Answers) -> None:
    names, numbers = _of(row, answers)
    odd = next(at for at, number in enumerate(numbers) if not -_SLACK <= number <= 1 + _SLACK)
    if odd < len(names):
        text = (
            f"the model answered the score {numbers[odd]:.6g} of {names[odd][:50]!r}, which is not a probability;"
            f" {UNDECIDED}{_line(reading, 'scores')} if the scores only give an order,"
            f" {_line(reading, 'null')} if only the label is to be read"
        )
        answers.failures.setdefault(row, Failure(FailureKind.MODEL_ERROR, text))


def _add_reversed(reading: Reading, row: int, answers: Answers) -> None:
    """Fail a row whose label is that of the lower of two scores s and -s, which skl2onnx writes for an `SVC`.

    Other scores may be correct then, because a decision may have its own threshold.
    """
    names, numbers = _of(row, answers)
    label = answers.label[row] if answers.label is not None else ""
    if len(names) != 2 or len(numbers) != 2 or label not in names:
        return
    at = names.index(label)
    if numbers[at] < 0:
        text = (
            f"the model answered the label {label[:50]!r} with the score {numbers[at]:.6g}, and {numbers[1 - at]:.6g}"
            f" of {names[1 - at][:50]!r}: its scores are in reverse order; {UNDECIDED}{_turned(reading)}"
            f"{_line(reading, 'null')} if only the label is to be read"
        )
        answers.failures.setdefault(row, Failure(FailureKind.MODEL_ERROR, text))


def _of(row: int, answers: Answers) -> tuple[list[str], Sequence[float]]:
    names = answers.items if answers.row_items is None else answers.row_items[row]
    numbers: Sequence[float] = [] if answers.scores is None else answers.scores[row]
    return list(names or ()), numbers


def _line(reading: Reading, role: str) -> str:
    return f"`outputs: {{{', '.join(f'{name}: {role}' for name in _outputs(reading))}}}`"


def _turned(reading: Reading) -> str:
    """Return the line that reads the positive class's score from the other column, if the scores have columns."""
    if reading.maps:
        return ""
    first, second = ("value", "null") if reading.positive == 1 else ("null", "value")
    names = _outputs(reading)
    roles = f"{names[0]}: {first}, {names[1]}: {second}" if len(names) == 2 else f"{names[0]}: [{first}, {second}]"
    return f"`outputs: {{{roles}}}`, or "


def _outputs(reading: Reading) -> list[str]:
    """Return the outputs that hold the scores; an output that was declared as one number is the value's."""
    sources = reading.scores or ((reading.value,) if reading.value is not None else ())
    return list(dict.fromkeys(source.output for source in sources))
