"""From matched bytes to columns: decode the live messages of whole windows and lay the pairs out in Arrow.

The columns of `PAIRS` are those of table `pairs` that the joiner writes, in natural units: times in microseconds since
the Unix epoch, UUIDs as 16 bytes, segments as JSON text. `copy_format` turns them into what COPY takes.
"""

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gnomon_consumer.joiner.merge.matches import Match, Matches, Refusal
from gnomon_consumer.joiner.merge.shadow_records import chosen, part
from gnomon_consumer.joiner.pairs.feature_layout import Layout, bounded
from gnomon_consumer.times import EARLIEST_US, LATEST_US
from gnomon_schemas.arrays import Integers
from gnomon_schemas.codec import Record
from gnomon_schemas.columnar import ColumnarReader, Decoded
from gnomon_schemas.records import LEAST_PROBABILITY, FailureKind
from gnomon_schemas.schema import Schema, other_unit
from gnomon_schemas.texts import storable

_FLOATS = pa.list_(pa.float64())
_TEXTS = pa.list_(pa.string())


class MatchedWindow(Protocol):
    """The matches of a window that can become pairs, and the earlier refusals."""

    @property
    def matches(self) -> Matches:
        """Return the outcomes with the bytes of their captures."""
        ...

    @property
    def refusals(self) -> Sequence[Refusal]:
        """Return the sampled rows that cannot be pairs."""
        ...


class LooseMatches(NamedTuple):
    """Matches that are passed without their window."""

    matches: Matches
    refusals: Sequence[Refusal] = ()


def _answer(side: str) -> list[tuple[str, pa.DataType]]:
    return [
        (f"{side}_value", pa.float64()),
        (f"{side}_label", pa.string()),
        (f"{side}_scores", _FLOATS),
        (f"{side}_items", _TEXTS),
        (f"{side}_error_kind", pa.string()),
        (f"{side}_error_message", pa.string()),
        (f"{side}_latency_us", pa.int64()),
        (f"{side}_feature_version", pa.string()),
        (f"{side}_cache_hits", pa.int32()),
        (f"{side}_cache_misses", pa.int32()),
    ]


PAIRS = pa.schema(
    [
        ("deployment_id", pa.int32()),
        ("event_time", pa.int64()),
        ("source_partition", pa.int32()),
        ("source_offset", pa.int64()),
        ("request_id", pa.string()),
        ("cluster", pa.string()),
        ("stratum", pa.string()),
        ("segments", pa.string()),
        ("features_numeric", _FLOATS),
        ("features_text", _TEXTS),
        *_answer("live"),
        ("live_model_name", pa.string()),
        ("live_model_version", pa.string()),
        *_answer("shadow"),
        ("shadow_batch_size", pa.int32()),
        ("shadow_queued_us", pa.int64()),
        ("scored_at", pa.int64()),
        ("outcome", pa.string()),
        ("capture_probability", pa.float64()),
        ("inclusion_probability", pa.float64()),
        ("probe_probability", pa.float64()),
        ("rank", pa.int64()),
        ("window_id", pa.binary(16)),
        ("producer_id", pa.binary(16)),
        ("producer_sequence", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """The pairs of some windows as one batch; row i of it is match `places[i]`, of window `window_of[i]`."""

    batch: pa.RecordBatch
    window_of: Integers
    refusals: list[tuple[int, Refusal]]
    matches: Matches
    places: Integers

    def refused(self, row: int, reason: str, detail: str) -> tuple[int, Refusal]:
        """Record the refusal of a row that cannot become a pair after all, and return it with its window."""
        return int(self.window_of[row]), refused(self.matches[int(self.places[row])], reason, detail)


def assemble(
    deployment_id: int,
    windows: Sequence[MatchedWindow],
    reader: ColumnarReader,
    layout_of: Callable[[Schema], Layout],
) -> Assembled:
    """Decode every match of `windows`; refuse, with a reason, unreadable captures and those of another request."""
    matches = Matches.joined([window.matches for window in windows])
    window_of = np.repeat(np.arange(len(windows)), [len(window.matches) for window in windows])
    refusals = [(at, refusal) for at, window in enumerate(windows) for refusal in window.refusals]
    batches = reader.decode(matches.values)
    faults = {place: (error.reason, str(error)) for place, error in batches.errors.items()}
    cells = pa.array(matches.cells, pa.string())
    parts: list[pa.RecordBatch] = []
    taken: list[Integers] = [np.empty(0, np.int64)]
    for group in batches.groups:
        outcomes = chosen(matches.shadow, group.rows)
        found = _faults(group, outcomes)
        good = np.flatnonzero(~np.isin(group.rows, list(found))) if found else np.arange(len(group.rows))
        faults.update(found)
        if len(good):
            live, outcomes, own = chosen(group.batch, good), chosen(outcomes, good), group.rows[good]
            parts.append(_pairs(deployment_id, live, outcomes, cells.take(pa.array(own)), layout_of(group.schema)))
            taken.append(own)
    for place, (reason, detail) in sorted(faults.items()):
        refusals.append((int(window_of[place]), refused(matches[place], reason, detail)))
    batch = parts[0] if parts else pa.RecordBatch.from_pylist([], schema=PAIRS)
    places = np.concatenate(taken)
    if len(parts) > 1:
        order = np.argsort(places)
        batch, places = pa.concat_batches(parts).take(pa.array(order)), places[order]
    return Assembled(batch=batch, window_of=window_of[places], refusals=refusals, matches=matches, places=places)


def _faults(group: Decoded, outcomes: pa.RecordBatch) -> dict[int, tuple[str, str]]:
    """Find messages of one writer schema that are not captures of their outcome's request: index -> reason, detail."""
    places, batch = group.rows, group.batch
    if group.schema.name != "gnomon.v1.LivePrediction":
        return dict.fromkeys(places.tolist(), ("not_a_capture", f"a {group.schema.name} in the live topic"))
    if (fault := other_unit("LivePrediction", group.schema)) is not None:
        return dict.fromkeys(places.tolist(), ("invalid", fault))
    faults: dict[int, tuple[str, str]] = {}
    wanted = outcomes.column("request_id")
    for at in _where(pc.not_equal(batch.column("request_id"), wanted)):
        ids = f"{batch.column('request_id')[at].as_py()!r}, the shadow log {wanted[at].as_py()!r}"
        faults[int(places[at])] = ("correlation", f"the live log has request id {ids}")
    for at in _where(pc.is_null(_uuids(batch.column("producer_id")))):
        faults[int(places[at])] = ("invalid", f"producer id {batch.column('producer_id')[at].as_py()!r} is not a UUID")
    times = batch.column("captured_at")
    for at in _where(pc.or_(pc.less(times, EARLIEST_US), pc.greater(times, LATEST_US))):
        faults[int(places[at])] = ("invalid", f"captured_at {times[at].as_py()} is not a valid timestamp")
    shares = batch.column("capture_probability")
    for at in _where(pc.invert(pc.and_(pc.greater_equal(shares, LEAST_PROBABILITY), pc.less_equal(shares, 1.0)))):
        detail = f"capture_probability {shares[at].as_py()} is outside {LEAST_PROBABILITY} to 1"
        faults[int(places[at])] = ("invalid", detail)
    return faults


def without_nul(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return pairs whose texts PostgreSQL can store, see `storable`; the same object if nothing changes."""
    columns = {
        field.name: cleaned
        for field, column in zip(batch.schema, batch.columns, strict=True)
        if (cleaned := _cleaned(column)) is not None
    }
    if not columns:
        return batch
    return pa.RecordBatch.from_arrays([columns.get(name, batch.column(name)) for name in PAIRS.names], schema=PAIRS)


def _cleaned(column: pa.Array) -> pa.Array | None:
    if pa.types.is_list(column.type):
        items = _cleaned(column.flatten())
        lengths = pc.fill_null(pc.list_value_length(column), 0)
        ends = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths).cast(pa.int32())])
        return None if items is None else pa.ListArray.from_arrays(ends, items, mask=column.is_null())
    if not pa.types.is_string(column.type) or not pc.any(pc.match_substring(column, "\0")).as_py():
        return None
    return pc.replace_substring(column, "\0", storable("\0"))


def _where(flags: pa.Array) -> list[int]:
    return np.flatnonzero(flags.to_numpy(zero_copy_only=False)).tolist()


def refused(match: Match, reason: str, detail: str) -> Refusal:
    """Return a match that the joiner cannot turn into a pair."""
    size = len(match.value) if match.value is not None else 0
    return Refusal(shadow=match.shadow, cell=match.cell, stage="join", reason=reason, detail=detail, size=size)


def outcome_of(shadow: Record) -> str:
    """Return `scored`, `timed_out` or `failed`."""
    error = shadow["error"]
    if error is None:
        return "scored"
    return "timed_out" if error["kind"] == FailureKind.TIMEOUT else "failed"


@lru_cache(maxsize=65_536)
def uuid_bytes(text: str) -> bytes | None:
    """Return the 16 bytes of a UUID, None for any other text."""
    try:
        return uuid.UUID(text).bytes
    except ValueError:
        return None


def _uuids(texts: pa.Array) -> pa.Array:
    """Return UUIDs as 16 bytes, null for any other text; few distinct values are expected."""
    coded = texts.dictionary_encode()
    known = pa.array([uuid_bytes(text) for text in coded.dictionary.to_pylist()], pa.binary(16))
    return known.take(coded.indices)


@lru_cache(maxsize=65_536)
def _json(items: tuple[tuple[str, str], ...]) -> str:
    return json.dumps({storable(name): storable(value) for name, value in items})


def _segments(column: pa.MapArray) -> pa.Array:
    some = np.flatnonzero(np.diff(column.offsets.to_numpy()))
    if not len(some):
        return pa.repeat("{}", len(column))
    texts = ["{}"] * len(column)
    for at, items in zip(some.tolist(), column.take(pa.array(some)).to_pylist(), strict=True):
        texts[at] = _json(tuple(items))
    return pa.array(texts, pa.string())


def _pairs(
    deployment_id: int, live: pa.RecordBatch, shadow: pa.RecordBatch, cells: pa.Array, layout: Layout
) -> pa.RecordBatch:
    features = live.column("features")
    kind = part(shadow.column("error"), "kind")
    failed = pc.if_else(pc.equal(kind, FailureKind.TIMEOUT.value), "timed_out", "failed")
    columns: dict[str, Any] = {
        "deployment_id": pa.repeat(pa.scalar(deployment_id, pa.int32()), live.num_rows),
        "event_time": live.column("captured_at"),
        "stratum": cells,
        "segments": _segments(live.column("segments")),
        "features_numeric": layout.numbers(features),
        "features_text": layout.texts(features),
        **_answers("live", live),
        "live_model_name": part(live.column("model"), "name"),
        "live_model_version": part(live.column("model"), "version"),
        **_answers("shadow", shadow),
        "shadow_batch_size": shadow.column("batch_size"),
        "shadow_queued_us": shadow.column("queued_us"),
        "outcome": pc.if_else(pc.is_null(kind), "scored", failed),
        "window_id": _uuids(shadow.column("window_id")),
        "producer_id": _uuids(live.column("producer_id")),
        "producer_sequence": live.column("sequence"),
    }
    columns |= {name: live.column(name) for name in ("request_id", "cluster", "capture_probability")}
    columns |= {
        name: shadow.column(name)
        for name in (
            "source_partition",
            "source_offset",
            "scored_at",
            "inclusion_probability",
            "probe_probability",
            "rank",
        )
    }
    return pa.RecordBatch.from_arrays([columns[field.name].cast(field.type) for field in PAIRS], schema=PAIRS)


def _bounded_lists(lists: pa.ListArray) -> pa.ListArray:
    numbers = lists.values
    if bounded(numbers) is numbers:
        return lists
    rows = [None if row is None else bounded(pa.array(row, pa.float64())).to_pylist() for row in lists.to_pylist()]
    return pa.array(rows, lists.type)


def _answers(side: str, records: pa.RecordBatch) -> dict[str, pa.Array]:
    prediction, error = records.column("prediction"), records.column("error")
    state = records.column("feature_state")
    return {
        f"{side}_value": bounded(part(prediction, "value")),
        **{f"{side}_{name}": part(prediction, name) for name in ("label", "items")},
        f"{side}_scores": _bounded_lists(part(prediction, "scores")),
        f"{side}_error_kind": part(error, "kind"),
        f"{side}_error_message": part(error, "message"),
        f"{side}_latency_us": records.column("latency_us"),
        f"{side}_feature_version": part(state, "version"),
        f"{side}_cache_hits": part(state, "cache_hits"),
        f"{side}_cache_misses": part(state, "cache_misses"),
    }
