"""Bytes of captures in, bytes of outcomes out: what a worker does with a job. No process, no pipe."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gnomon_consumer.scorer.features import columns
from gnomon_consumer.scorer.models import ModelSpec
from gnomon_consumer.scorer.models.base import Answers, Batch, Runner, check_fit
from gnomon_consumer.scorer.outcomes import Row, Status, encode, status_of
from gnomon_schemas.codec import Reader
from gnomon_schemas.errors import ConfigurationError, DecodeError
from gnomon_schemas.features import Feature, FeatureSchema
from gnomon_schemas.records import Failure, FailureKind, Prediction, as_dict
from gnomon_schemas.schema import Schema
from gnomon_schemas.store import MemorySchemas

LIVE = "gnomon.v1.LivePrediction"


@dataclass(slots=True)
class Scored:
    """The outcome of one row: its ledger bucket, its ShadowPrediction, and why it is a dead letter, if it is."""

    status: Status
    message: bytes
    reason: str = ""
    detail: str = ""


@dataclass(slots=True)
class _Capture:
    """A decoded row of a batch."""

    index: int
    request_id: str
    features: dict[str, object]
    schema: Schema


@dataclass
class Scorer:
    """One loaded model with what is needed to read its captures; `clock` gives seconds, `now_us` the wall clock."""

    spec: ModelSpec
    runner: Runner
    schemas: MemorySchemas
    now_us: Callable[[], int]
    clock: Callable[[], float] = time.perf_counter
    _features: dict[str, tuple[Feature, ...] | ConfigurationError] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._reader = Reader(self.schemas)
        self._model = as_dict(self.spec.artefact)
        names = frozenset(name for one in self.runner.inputs for name in one.features)
        self._wanted = names if self.runner.inputs else None

    def score(
        self, rows: Sequence[Row], window_id: str, sealed_at: int, one_by_one: bool, starting: Callable[[int], None]
    ) -> list[Scored]:
        """Outcomes in the order of the rows. `starting(i)` is called before each row that is scored by itself."""
        queued_us = max(0, self.now_us() - sealed_at)
        if one_by_one:
            result = []
            for index, row in enumerate(rows):
                starting(index)
                result += self._batch([row], window_id, queued_us)
            return result
        return self._batch(rows, window_id, queued_us)

    def _batch(self, rows: Sequence[Row], window_id: str, queued_us: int) -> list[Scored]:
        result: list[Scored | None] = [None] * len(rows)
        groups: dict[str, list[_Capture]] = {}
        for index, row in enumerate(rows):
            try:
                capture = self._decode(index, row)
            except DecodeError as error:
                failure = Failure(FailureKind.DEAD_LETTER, f"{error.reason}: {error}")
                message = self._encode(row, window_id, failure, row.key.decode("utf-8", "replace"), None, 0, None)
                result[index] = Scored("dead_lettered", message, error.reason, str(error)[:500])
            else:
                groups.setdefault(str(capture.schema.fingerprint), []).append(capture)
        for captures in groups.values():
            outcomes, seconds = self._predict(captures)
            latency = round(1e6 * seconds / len(captures))
            for capture, outcome in zip(captures, outcomes, strict=True):
                message = self._encode(
                    rows[capture.index], window_id, outcome, capture.request_id, latency, len(captures), queued_us
                )
                result[capture.index] = Scored(status_of(outcome), message)
        return [one for one in result if one is not None]

    def _decode(self, index: int, row: Row) -> _Capture:
        name, schema, record = self._reader.decode(row.value)
        if name != LIVE:
            raise DecodeError("not_a_capture", f"a {name} in the live topic")
        request_id = record["request_id"]
        if row.key != request_id.encode():
            raise DecodeError("key", f"the key {row.key[:100]!r} is not the request id {request_id[:100]!r}")
        return _Capture(index, request_id, record["features"], schema)

    def _encode(
        self,
        row: Row,
        window_id: str,
        outcome: Prediction | Failure,
        request_id: str,
        latency_us: int | None,
        batch_size: int,
        queued_us: int | None,
    ) -> bytes:
        return encode(
            row,
            window_id,
            self._model,
            outcome,
            request_id=request_id,
            scored_at=self.now_us(),
            latency_us=latency_us,
            batch_size=batch_size,
            queued_us=queued_us,
            feature_state=self.runner.feature_state() if batch_size else None,
        )

    def _predict(self, captures: list[_Capture]) -> tuple[list[Prediction | Failure], float]:
        """Outcomes of captures of one schema, and the seconds that the model's caller would have waited for them."""
        features = self._known(captures[0].schema)
        if isinstance(features, ConfigurationError):
            failure = Failure(FailureKind.INVALID_FEATURES, str(features))
            return [failure for _ in captures], 0.0
        batch = columns([capture.features for capture in captures], features, self._wanted)
        started = self.clock()
        try:
            answers = self._call(batch, len(captures))
        except Exception as error:  # noqa: BLE001 - whatever a model raises is an outcome
            if len(captures) > 1:  # find the rows at fault
                alone = [self._predict([capture]) for capture in captures]
                return [outcomes[0] for outcomes, _ in alone], sum(seconds for _, seconds in alone)
            kind = FailureKind.MODEL_ERROR if isinstance(error, ValueError) else FailureKind.EXCEPTION
            return [Failure(kind, f"{type(error).__name__}: {error}")], self.clock() - started
        seconds = self.clock() - started
        return [answers.prediction(row) for row in range(len(captures))], seconds

    def _call(self, batch: Batch, rows: int) -> Answers:
        answers = self.runner.predict(batch, rows)
        for part in (answers.value, answers.label, answers.scores):
            if part is not None and len(part) != rows:
                raise ValueError(f"the model answered {len(part)} rows for {rows} captures")
        return answers

    def _known(self, schema: Schema) -> tuple[Feature, ...] | ConfigurationError:
        """The features of a writer schema, or why the model cannot use them; asked once a schema."""
        key = str(schema.fingerprint)
        if key not in self._features:
            try:
                features = FeatureSchema.in_live(schema).features
                check_fit(self.runner.inputs, features)
                self._features[key] = features
            except ConfigurationError as error:
                self._features[key] = error
        return self._features[key]
