"""Convert the outputs of a model with named tensors to answers, by the role of each output."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon_consumer.scorer.worker.models.base import Answers
from gnomon_consumer.scorer.worker.models.probabilities import check_scores
from gnomon_consumer.scorer.worker.models.reading import Reading, Source
from gnomon_schemas.records import Failure, FailureKind
from gnomon_schemas.texts import NotTextError, text_of


def answers_of(reading: Reading, values: Mapping[str, Any], rows: int) -> Answers:
    """Return the answers in the model's outputs; raise ValueError that names an output of the wrong shape."""
    answers = Answers(rows)
    if reading.label is not None:
        answers.label = _labels(reading, _column(reading.label, values, rows), answers.failures)
    if reading.maps:
        _maps(reading, values[reading.scores[0].output], answers)
    elif reading.scores:
        _scores(reading, values, answers)
    if reading.value is not None:
        plane = _plane(reading.value, values[reading.value.output], rows)
        if reading.flexible and plane.shape[1] != 1:
            _take_scores(reading, reading.value.output, plane, answers)
        else:
            answers.value = _one_column(reading.value, plane)
    check_scores(reading, answers)
    return answers


def _scores(reading: Reading, values: Mapping[str, Any], answers: Answers) -> None:
    first = reading.scores[0]
    value = values[first.output]
    if isinstance(value, list):  # one tensor for each row, because lists to rank may differ in length
        _check_rows(first.output, len(value), answers.rows)
        answers.scores = [np.asarray(one, np.float64).reshape(-1).tolist() for one in value]
        names = reading.classes.names
        answers.items = names if names and all(len(one) == len(names) for one in answers.scores) else None
        return
    if len(reading.scores) > 1 or first.column is not None:
        plane = np.stack(
            [_one_column(one, _plane(one, values[one.output], answers.rows)) for one in reading.scores], axis=1
        )
    else:
        plane = _plane(first, value, answers.rows)
        if reading.flexible and plane.shape[1] == 1 and reading.value is None:
            answers.value = _one_column(first, plane)
            return
    _take_scores(reading, first.output, plane, answers)


def _take_scores(reading: Reading, output: str, plane: NDArray[Any], answers: Answers) -> None:
    """Take [rows, classes] as scores, name them, and take the positive class's score as the value."""
    names = reading.classes.names
    if names and len(names) != plane.shape[1]:
        raise ValueError(f"the output {output!r} has {plane.shape[1]} scores a row for {len(names)} classes")
    answers.scores = plane.astype(np.float64)
    answers.items = names or None
    if reading.positive is not None:
        answers.value = answers.scores[:, reading.positive]


def _maps(reading: Reading, value: Any, answers: Answers) -> None:
    """Take one map from class to score for each row (ZipMap)."""
    _check_rows(reading.scores[0].output, len(value), answers.rows)
    known = reading.classes.by_label
    answers.row_items = [[known.get(str(key), str(key)) for key in one] for one in value]
    answers.scores = [[float(score) for score in one.values()] for one in value]
    positive = reading.classes.positive
    if reading.value is None and reading.positive is not None:
        positive = reading.classes.names[reading.positive]
    if reading.value is None and positive is not None:
        for row, names in enumerate(answers.row_items):
            if positive not in names:
                answers.failures[row] = _failure(f"the model answered no score of {positive!r}")
        answers.value = np.array(
            [
                scores[names.index(positive)] if positive in names else np.nan
                for names, scores in zip(answers.row_items, answers.scores, strict=True)
            ],
            np.float64,
        )


def _labels(reading: Reading, column: NDArray[Any], failures: dict[int, Failure]) -> list[str]:
    """Return the label of each row by its name; a label outside the model's classes fails that row."""
    known, closed = reading.classes.by_label, reading.classes.closed
    items = column.tolist()
    plain = [known.get(item) for item in items] if column.dtype == object else None
    if plain is not None and None not in plain:
        return plain  # type: ignore[return-value]  # None was excluded
    found = []
    for row, item in enumerate(items):
        try:
            text = str(int(item)) if closed and isinstance(item, bool) else text_of("label", item)
        except NotTextError as error:
            failures[row] = _failure(str(error))
            text = ""
        if closed and row not in failures and text not in known:
            there = ", ".join(list(known)[:20])
            failures[row] = _failure(f"the model answered the label {text[:50]!r}, which is not one of {there}")
        found.append(known.get(text, text))
    return found


def _column(source: Source, values: Mapping[str, Any], rows: int) -> NDArray[Any]:
    """Return one item of any type for each row."""
    plane = _rows_by_columns(source.output, values[source.output], rows)
    return _at(source, plane)


def _one_column(source: Source, plane: NDArray[Any]) -> NDArray[np.float64]:
    return _at(source, plane).astype(np.float64)


def _at(source: Source, plane: NDArray[Any]) -> NDArray[Any]:
    if source.column is None and plane.shape[1] != 1:
        raise ValueError(
            f"the output {source.output!r} has {plane.shape[1]} values for a capture; one is needed: say in a sidecar"
            f" what its columns are, such as `outputs: {{{source.output}: scores}}` or `outputs: {{{source.output}:"
            f" [{', '.join(['value', *['null'] * (plane.shape[1] - 1)][:10])}]}}`"
        )
    if source.column is not None and plane.shape[1] <= source.column:
        raise ValueError(
            f"the output {source.output!r} has {plane.shape[1]} columns; the sidecar asks for column {source.column}"
        )
    return plane[:, source.column or 0]


def _plane(source: Source, value: Any, rows: int) -> NDArray[Any]:
    plane = _rows_by_columns(source.output, value, rows)
    if plane.dtype.kind not in "fiub":
        raise ValueError(f"the output {source.output!r} holds {plane.dtype.name}; numbers are needed")
    return plane


def _rows_by_columns(output: str, value: Any, rows: int) -> NDArray[Any]:
    if isinstance(value, list):  # one tensor for each row
        _check_rows(output, len(value), rows)
        parts = [np.asarray(one).reshape(-1) for one in value]
        sizes = sorted({part.size for part in parts} - {1})
        if sizes:
            raise ValueError(f"the output {output!r} has {sizes[-1]} values for a capture; one is needed")
        value = np.concatenate(parts) if parts else np.empty(0)
    array = np.asarray(value)
    if array.ndim == 0 or array.shape[0] != rows:
        raise ValueError(f"the output {output!r} has the shape {list(array.shape)} for {rows} captures")
    return array.reshape(rows, -1) if rows else array.reshape(0, 1)


def _check_rows(output: str, found: int, rows: int) -> None:
    if found != rows:
        raise ValueError(f"the output {output!r} has {found} rows for {rows} captures")


def _failure(text: str) -> Failure:
    return Failure(FailureKind.MODEL_ERROR, text)
