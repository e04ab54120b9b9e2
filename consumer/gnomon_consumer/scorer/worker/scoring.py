"""Convert bytes of captures to bytes of outcomes: a worker's job. No process, no pipe."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gnomon_consumer.scorer.captures import Row, Rows, as_array, taken, text_at
from gnomon_consumer.scorer.outcomes import Outcomes, Scored, status_of
from gnomon_consumer.scorer.worker.columns import columns, live_items
from gnomon_consumer.scorer.worker.encoding import encode, encode_batch, most_bytes
from gnomon_consumer.scorer.worker.models import ModelSpec
from gnomon_consumer.scorer.worker.models.base import (
    LIVE_ITEMS,
    Answers,
    Batch,
    FeatureColumn,
    Runner,
    check_fit,
    joined,
)
from gnomon_consumer.scorer.worker.process_limit import explained
from gnomon_schemas.arrays import Indices
from gnomon_schemas.columnar import ColumnarReader, Decoded
from gnomon_schemas.errors import ConfigurationError, DecodeError
from gnomon_schemas.features import Feature, FeatureSchema
from gnomon_schemas.framing import MAX_MESSAGE_BYTES
from gnomon_schemas.records import Failure, FailureKind, FeatureState, as_dict
from gnomon_schemas.schema import Schema
from gnomon_schemas.store import MemorySchemas

LIVE = "gnomon.v1.LivePrediction"
MOST_UNBOUND = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """Rows that are scored together, and the common fields of their outcomes."""

    rows: Rows
    window_id: str
    queued_us: int
    batch_size: int
    single: bool


class UnboundWriter(NamedTuple):
    """A live model whose captures the model cannot be bound to: its name, the reason, and one of its producers."""

    writer: str
    reason: str
    producer: str = ""


class _Call(NamedTuple):
    """One call of the model: its answers or its exception, and the seconds that its caller waited."""

    answers: Answers | Exception
    seconds: float
    state: FeatureState | None


@dataclass
class BatchScorer:
    """One loaded model with what is needed to read its captures; `clock` gives seconds, `now_us` the wall clock.

    `processes` is the worker's limit, for the text of an error.
    """

    spec: ModelSpec
    runner: Runner
    schemas: MemorySchemas
    _: KW_ONLY
    now_us: Callable[[], int]
    clock: Callable[[], float] = time.perf_counter
    processes: int = 64
    _features: dict[str, tuple[Feature, ...] | ConfigurationError] = field(default_factory=dict)
    _unbound: set[UnboundWriter] = field(default_factory=set)
    _unreported: list[UnboundWriter] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reader = ColumnarReader(self.schemas)
        self._model = as_dict(self.spec.artefact)
        names = frozenset(name for one in self.runner.inputs for name in one.features)
        self._wanted = names if self.runner.inputs else None
        self._ranks = LIVE_ITEMS.name in names

    def score(
        self,
        rows: Rows,
        window_id: str,
        sealed_at: int,
        single: bool,
        starting: Callable[[int], None] | None = None,
    ) -> Outcomes:
        """Return the outcomes in the order of the rows; `single`: the model scores one row at a time, for its latency.

        With `starting`, each row is processed separately, and `starting(i)` is called before row i.
        """
        queued_us = max(0, self.now_us() - sealed_at)
        if starting is None:
            return self._batch(rows, window_id, queued_us, single)
        result: list[Scored] = []
        for index in range(len(rows)):
            starting(index)
            result += self._batch(rows.cut(index, index + 1), window_id, queued_us, single=True)
        return Outcomes.of(result)

    def _batch(self, rows: Rows, window_id: str, queued_us: int, single: bool) -> Outcomes:
        batches = self._reader.decode(rows.values)
        errors = batches.errors
        outcomes: list[tuple[Indices, Outcomes]] = []
        for group in batches.groups:
            captures, places = self._captures(group, rows, errors)
            if not len(places):
                continue
            task = _Task(
                rows=rows if len(places) == len(rows) else rows.select(places),
                window_id=window_id,
                queued_us=queued_us,
                batch_size=1 if single else len(places),
                single=single,
            )
            outcomes.append((places, self._group(captures, group.schema, task)))
        if len(outcomes) == 1 and not errors:
            return outcomes[0][1]
        found = {place: self._dead(rows[place], window_id, error) for place, error in errors.items()}
        for places, several in outcomes:
            found.update(zip(places.tolist(), several, strict=True))
        return Outcomes.of([found[place] for place in range(len(rows))])

    def _group(self, captures: pa.RecordBatch, schema: Schema, task: _Task) -> Outcomes:
        features = self._known(schema)
        if not isinstance(features, ConfigurationError):
            return self._score(captures, features, task)
        state = self._state()
        state = None if isinstance(state, Exception) else state
        failed = []
        whose = (captures.column(name).to_pylist() for name in ("request_id", "model", "producer_id"))
        for row, request_id, model, producer in zip(task.rows, *whose, strict=True):
            unbound = UnboundWriter(f"{model['name']} {model['version']}", str(features))
            if unbound not in self._unbound and len(self._unbound) < MOST_UNBOUND:
                self._unbound.add(unbound)
                self._unreported.append(unbound._replace(producer=producer))
            failure = Failure(FailureKind.INVALID_FEATURES, f"written by {unbound.writer}: {unbound.reason}")
            failed.append(self._failed(row, task, failure, request_id, 0, state))
        return Outcomes.of(failed)

    def new_unbound_writers(self) -> list[UnboundWriter]:
        """Return the live models whose captures cannot be bound, each once."""
        found, self._unreported = self._unreported, []
        return found

    def _captures(self, group: Decoded, rows: Rows, errors: dict[int, DecodeError]) -> tuple[pa.RecordBatch, Indices]:
        """Return the captures of a group and their indices; other messages and other keys are added to `errors`."""
        places = group.rows
        if group.schema.name != LIVE:
            text = f"a {group.schema.name} in the live topic"
            errors.update((at, DecodeError("not_a_capture", text)) for at in places.tolist())
            return group.batch, places[:0]
        request_ids = group.batch.column("request_id")
        keys = rows.keys if len(places) == len(rows) else taken(rows.keys, places)
        same = pc.equal(request_ids.cast(pa.binary()), as_array(keys))
        if pc.all(same).as_py():
            return group.batch, places
        fits = same.to_numpy(zero_copy_only=False)
        for at in np.flatnonzero(~fits).tolist():
            text = f"the key {text_at(keys, at)[:100]!r} is not the request id {request_ids[at].as_py()[:100]!r}"
            errors[int(places[at])] = DecodeError("key", text)
        return group.batch.filter(same), places[fits]

    def _score(self, captures: pa.RecordBatch, features: tuple[Feature, ...], task: _Task) -> Outcomes:
        """Return the outcomes of captures of one schema; their latency is the waiting time of the model's caller."""
        count = captures.num_rows
        try:
            batch = columns(captures.column("features"), features, self._wanted)
            if self._ranks and LIVE_ITEMS.name not in batch:
                batch[LIVE_ITEMS.name] = live_items(captures)
        except Exception as error:  # noqa: BLE001 - a row that cannot be prepared fails alone
            return self._unprepared(captures, features, task, error)
        if count == 1 or not task.single:
            call = self._call(batch, count)
            if count == 1:
                return Outcomes.of([self._alone(captures, task, call)])
            # if they cannot be written together, the faulty ones are found one by one
            with contextlib.suppress(Exception):
                return self._encoded(captures, task, [call], np.full(count, round(1e6 * call.seconds / count)))
        calls = [self._call(_row(batch, at), 1) for at in range(count)]
        with contextlib.suppress(Exception):
            return self._encoded(captures, task, calls, [round(1e6 * call.seconds) for call in calls])
        return Outcomes.of(
            [
                self._alone(captures.slice(at, 1), replace(task, rows=task.rows.cut(at, at + 1)), call)
                for at, call in enumerate(calls)
            ]
        )

    def _unprepared(
        self, captures: pa.RecordBatch, features: tuple[Feature, ...], task: _Task, error: Exception
    ) -> Outcomes:
        """Return the outcomes of captures whose columns cannot be built together: process each alone."""
        if captures.num_rows > 1:
            parts = (
                self._score(captures.slice(at, 1), features, replace(task, rows=task.rows.cut(at, at + 1)))
                for at in range(captures.num_rows)
            )
            return Outcomes.of([scored for part in parts for scored in part])
        failure = Failure(FailureKind.INVALID_FEATURES, f"the features cannot be prepared: {self._error_text(error)}")
        request_id = captures.column("request_id")[0].as_py()
        return Outcomes.of([self._failed(task.rows[0], task, failure, request_id, 0, None)])

    def _alone(self, captures: pa.RecordBatch, task: _Task, call: _Call) -> Scored:
        """Return the outcome of one capture, whatever the model did."""
        latency_us = round(1e6 * call.seconds)
        try:
            return self._encoded(captures, task, [call], [latency_us])[0]
        except Exception as error:  # noqa: BLE001 - whatever a model raises or returns becomes an outcome
            failure = Failure(_kind(error), self._error_text(error))
            request_id = captures.column("request_id")[0].as_py()
            return self._failed(task.rows[0], task, failure, request_id, latency_us, call.state)

    def _encoded(
        self, captures: pa.RecordBatch, task: _Task, calls: Sequence[_Call], latency_us: Sequence[int] | Indices
    ) -> Outcomes:
        """Return the outcomes of answers, encoded together; raise a call's exception, or ValueError on a mismatch."""
        answers = []
        for call in calls:
            if isinstance(call.answers, Exception):
                raise call.answers
            answers.append(call.answers)
        states = {call.state for call in calls}
        if len(states) > 1:
            raise ValueError("each row has its own state")
        outcomes = encode_batch(
            task.rows,
            task.window_id,
            self._model,
            joined(answers),
            request_ids=captures.column("request_id"),
            scored_at=self.now_us(),
            latency_us=latency_us,
            batch_size=task.batch_size,
            queued_us=task.queued_us,
            feature_state=states.pop(),
        )
        assert outcomes.columns is not None
        # Encoding a batch only to see how long its messages are took a tenth of the worker's CPU time (hundred trees).
        if most_bytes(outcomes.columns, task.rows, self._model, captures.column("request_id")) > MAX_MESSAGE_BYTES:
            longest = pc.max(pc.binary_length(as_array(outcomes.messages))).as_py() or 0
            if longest > MAX_MESSAGE_BYTES:
                raise ValueError(f"the outcome has {longest} bytes, over the limit of {MAX_MESSAGE_BYTES}")
        return outcomes

    def _failed(
        self, row: Row, task: _Task, failure: Failure, request_id: str, latency_us: int, state: FeatureState | None
    ) -> Scored:
        message = encode(
            row,
            task.window_id,
            self._model,
            failure,
            request_id=request_id,
            scored_at=self.now_us(),
            latency_us=latency_us,
            batch_size=task.batch_size,
            queued_us=task.queued_us,
            feature_state=state,
        )
        return Scored(status_of(failure), message)

    def _dead(self, row: Row, window_id: str, error: DecodeError) -> Scored:
        failure = Failure(FailureKind.DEAD_LETTER, f"{error.reason}: {error}")
        request_id = row.key.decode("utf-8", "replace")
        message = encode(row, window_id, self._model, failure, request_id=request_id, scored_at=self.now_us())
        return Scored("dead_lettered", message, error.reason, str(error)[:500])

    def _call(self, batch: Batch, rows: int) -> _Call:
        started = self.clock()
        try:
            answers: Answers | Exception = self.runner.predict(batch, rows)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - it becomes the outcome; also sys.exit() and panics of Rust
            answers = error if isinstance(error, Exception) else RuntimeError(self._error_text(error))
        seconds = self.clock() - started
        if isinstance(answers, Answers):
            if self._ranks and answers.scores is not None and answers.items is None and answers.row_items is None:
                answers.row_items = [list(items) for items in batch[LIVE_ITEMS.name].values]
            parts = (answers.value, answers.label, answers.scores)
            short = next((len(part) for part in parts if part is not None and len(part) != rows), None)
            if short is not None:
                answers = ValueError(f"the model answered {short} rows for {rows} captures")
        state = self._state()
        return _Call(state, seconds, None) if isinstance(state, Exception) else _Call(answers, seconds, state)

    def _state(self) -> FeatureState | Exception | None:
        """Return the state of the model's feature cache, or the exception of the model's own code."""
        try:
            return self.runner.feature_state()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - as above
            return RuntimeError(f"feature_state() raised {self._error_text(error)}")

    def _error_text(self, error: BaseException) -> str:
        """Return the text of an exception, whatever its own `__str__` does."""
        try:
            return explained(error, self.processes)
        except Exception:  # noqa: BLE001 - a model may raise an exception of its own class
            return type(error).__name__

    def _known(self, schema: Schema) -> tuple[Feature, ...] | ConfigurationError:
        """Return the features of a writer schema, or why the model cannot use them; cached for each schema."""
        key = str(schema.fingerprint)
        if key not in self._features:
            try:
                features = FeatureSchema.in_live(schema).features
                check_fit(self.runner.inputs, (*features, LIVE_ITEMS) if self._ranks else features)
                self._features[key] = features
            except ConfigurationError as error:  # also for a schema
                self._features[key] = error
        return self._features[key]


def _row(batch: Batch, at: int) -> Batch:
    """Return one row of a batch."""
    here = slice(at, at + 1)
    return {
        name: FeatureColumn(
            column.values[here],
            None if column.missing is None else column.missing[here],
            column.nullable,
            column.ragged,
        )
        for name, column in batch.items()
    }


def _kind(error: Exception) -> FailureKind:
    if isinstance(error, TimeoutError):  # a model server's
        return FailureKind.TIMEOUT
    return FailureKind.MODEL_ERROR if isinstance(error, ValueError) else FailureKind.EXCEPTION
