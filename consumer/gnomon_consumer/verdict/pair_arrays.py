"""The pairs of a verdict as arrays.

PostgreSQL sends arrays in its binary format, which NumPy reads without conversion.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg.pq.abc import PGresult

from gnomon_consumer.database.queries import rows_of
from gnomon_consumer.verdict.database import Subject
from gnomon_consumer.verdict.rules.plan import RANKINGS, AnswerComparison
from gnomon_consumer.verdict.rules.summing import PairKind, Pairs
from gnomon_consumer.verdict.sealed import Period

ColumnReader = Callable[[int], bytes | None]
_HEAD = 20
"""Bytes before the elements: dimensions, flags, type, length, lower bound."""
_EPOCH = np.datetime64("2000-01-01")


def labelled_pairs(
    subject: Subject, period: Period, horizon: timedelta, keys: Sequence[str] | None, clustered: bool, ranked: bool
) -> Pairs:
    """Return the answered pairs of sealed days, each with the label that counts; `ranked`: with their NDCG."""
    columns, count = _read_columns(
        subject,
        "verdict_pairs",
        **period.limits,
        horizon=horizon,
        time_zone=period.time_zone,
        keys=None if keys is None else list(keys),
        clustered=clustered,
        ranked=ranked,
    )
    first = np.datetime64(period.days[0])
    kinds = [
        PairKind(
            _day(columns[0](at), first),
            _object(columns[1](at)),
            live=_text(columns[2](at)),
            shadow=_text(columns[3](at)),
            truth=_text(columns[4](at)),
            known=columns[5](at) == b"\x01",
        )
        for at in range(count)
    ]
    weights, live, shadow, truth = ([_array(columns[n](at)) for at in range(count)] for n in (6, 7, 8, 9))
    units = [_array(columns[10](at), ">i8") for at in range(count)] if clustered else None
    pairs = _pairs(kinds, weights, live, shadow, truth, units)
    if not ranked:
        return pairs
    lists = (np.concatenate([np.zeros((0, len(RANKINGS))), *(_lists(columns[n](at)) for at in range(count))])
             for n in (11, 12))  # fmt: skip
    return replace(pairs, live_lists=next(lists), shadow_lists=next(lists))


def compared_pairs(
    subject: Subject,
    period: Period,
    joined_by: Any,
    keys: Sequence[str] | None,
    clustered: bool,
    rule: AnswerComparison,
) -> tuple[Pairs, dict[str, int]]:
    """Return the answered pairs with whether they match, and for each field in how many comparable pairs it differs."""
    columns, count = _read_columns(
        subject,
        "verdict_compared",
        **period.limits,
        joined_by=joined_by,
        time_zone=period.time_zone,
        keys=None if keys is None else list(keys),
        clustered=clustered,
        **rule.model_dump(),
    )
    first = np.datetime64(period.days[0])
    same = [{b"\x01": True, b"\x00": False}.get(columns[2](at) or b"") for at in range(count)]
    kinds = [PairKind(_day(columns[0](at), first), _object(columns[1](at)), same=same[at]) for at in range(count)]
    weights = [_array(columns[6](at)) for at in range(count)]
    units = [_array(columns[7](at), ">i8") for at in range(count)] if clustered else None
    differ = {
        name: sum(int.from_bytes(columns[n](at) or b"") for at in range(count) if same[at] is not None)
        for n, name in ((3, "label"), (4, "value"), (5, "ranking"))
    }
    return _pairs(kinds, weights, weights, weights, weights, units), differ


def _read_columns(subject: Subject, function: str, **arguments: Any) -> tuple[list[ColumnReader], int]:
    """Return the columns of a function's answer as they were sent, and the number of rows."""
    named = {"stream": subject.row["stream"], "deployment": subject.row["deployment"], **arguments}
    cursor = subject.connection.cursor(binary=True)
    cursor.execute(rows_of("gnomon_estimators", function, named), named)
    result = cursor.pgresult
    assert result is not None
    return [partial(_value, result, column) for column in range(result.nfields)], result.ntuples


def _value(result: PGresult, column: int, row: int) -> bytes | None:
    return result.get_value(row, column)


def _pairs(
    kinds: list[PairKind], weights: list[Any], live: list[Any], shadow: list[Any], truth: list[Any],
    units: list[Any] | None,
) -> Pairs:  # fmt: skip
    kind = np.repeat(np.arange(len(kinds)), [len(one) for one in weights]) if kinds else np.zeros(0, dtype=np.int64)
    w, x, y, t = (np.concatenate(arrays) if arrays else np.zeros(0) for arrays in (weights, live, shadow, truth))
    return Pairs(
        kinds=kinds,
        kind=kind,
        weight=w,
        live=x,
        shadow=y,
        truth=t,
        unit=None if units is None or not kinds else np.concatenate(units),
    )


def _array(value: bytes | None, element: str = ">f8", head: int = _HEAD) -> NDArray[Any]:
    """Return a one-dimensional array of eight-byte elements, none of which is null; each further dimension: 8 bytes."""
    assert value is not None
    elements = np.frombuffer(value, dtype=[("bytes", ">i4"), ("value", element)], offset=head)
    return elements["value"].astype(element[1:])


def _lists(value: bytes | None) -> NDArray[np.float64]:
    """Return a two-dimensional array of floats, a row a pair."""
    return _array(value, head=_HEAD + 8).reshape(-1, len(RANKINGS))


def _day(value: bytes | None, first: np.datetime64) -> int:
    assert value is not None
    return int((_EPOCH + int.from_bytes(value, signed=True) - first).astype(int))


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _object(value: bytes | None) -> dict[str, str]:
    """Return a jsonb object of texts; its first byte is the format's version."""
    return {} if value is None else json.loads(value[1:])
