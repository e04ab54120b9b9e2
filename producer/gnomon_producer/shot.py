"""One capture in progress, from the features on entry to the message that is offered."""

import time
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

from gnomon_producer.binding import Values
from gnomon_producer.composing import Composer, texts
from gnomon_producer.config import TapConfig
from gnomon_producer.delivery import Delivery, Headers
from gnomon_producer.errors import Dropped, kind_of
from gnomon_producer.predictions import (
    failure_fields,
    feature_state_fields,
    microseconds,
    prediction_fields,
    prediction_of_result,
    text,
)
from gnomon_producer.rejections import is_rejection
from gnomon_producer.sampling import Sampler
from gnomon_producer.trace import request_id_of_context
from gnomon_schemas.records import Failure, FailureKind

REJECTED: Callable[[], Any] = lambda: None  # noqa: E731 - a sentinel for `rejected`, which is never called
NO_PREDICTION = Failure(FailureKind.MODEL_ERROR, "the captured block ended without a prediction")


class Owner(Protocol):
    """The part of a Tap that a Shot uses. A forked child gets a delivery of its own."""

    config: TapConfig
    composer: Composer
    sampler: Sampler | None
    delivery: Delivery
    live_topic: str


class Shot:
    """One capture in progress; the service calls `predicted` with the live model's answer."""

    __slots__ = (
        "_admitted",
        "_captured_at",
        "_cluster",
        "_dropped",
        "_feature_state",
        "_outcome",
        "_owner",
        "_request_id",
        "_segments",
        "_started_ns",
        "_values",
    )

    def __init__(
        self,
        owner: Owner,
        request_id: Any,
        features: Any,
        segments: Any,
        cluster: Any,
        feature_state: Any,
        dropped: Dropped | None = None,
    ) -> None:
        """Decide whether to capture, and read the features before the live code may change them."""
        self._captured_at = time.time_ns() // 1000
        self._owner = owner
        self._segments = segments
        self._feature_state = feature_state
        self._outcome: tuple[Any, Any, Any, Any] | Callable[[], Any] | None = None
        self._values: Values = ()
        self._dropped = dropped
        try:
            if request_id is None:
                request_id = request_id_of_context.get() or str(uuid.uuid4())
            self._request_id = request_id if type(request_id) is str else text("request_id", request_id)
            self._cluster = None if cluster is None else text("cluster", cluster)
            self._admitted = (owner.sampler is None and owner.config.enabled is None) or self._is_admitted()
            if self._admitted and dropped is None:
                self._values = owner.composer.binder.bind(features)
        except Dropped as misfit:
            self._admitted, self._dropped = True, misfit
        except Exception as error:
            why = Dropped("invalid_features", f"{kind_of(error)} while reading the features or ids")
            self._admitted, self._dropped = True, why

    def predicted(self, value: Any = None, label: Any = None, scores: Any = None, items: Any = None) -> None:
        """Record the live model's answer: a number, a decision, class probabilities or scores, and their names."""
        self._outcome = (value, label, scores, items)

    def rejected(self) -> None:
        """Record that the request was refused for the caller's fault (HTTP 422): no capture, counted as `rejected`."""
        self._outcome = REJECTED

    def returned(self, predicted: Callable[[Any], Any], result: Any) -> None:
        """Call `predicted` on a function's result later, after the latency was measured."""
        self._outcome = lambda: prediction_of_result(predicted(result))

    def __enter__(self) -> Self:
        self._started_ns = time.perf_counter_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(error, (time.perf_counter_ns() - self._started_ns) // 1000, None)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def _is_admitted(self) -> bool:
        """Apply the switch and the sampler; count what they leave out."""
        owner = self._owner
        enabled, sampler = owner.config.enabled, owner.sampler
        if enabled is not None and not _is_on(enabled, owner.delivery):
            owner.delivery.captures.leave_out("switched_off")
            return False
        if sampler is not None:
            by_cluster = owner.config.sample_by == "cluster"
            if not sampler.takes((self._cluster if by_cluster else None) or self._request_id):
                owner.delivery.captures.leave_out("sampled_out")
                return False
        return True

    def end(self, error: Any, latency_us: Any, captured_at: Any) -> None:
        """Offer the capture. It is counted exactly once: here if it is dropped, else by `send`."""
        if not self._admitted:
            return
        owner = self._owner
        delivery = owner.delivery
        if self._outcome is REJECTED or (error is not None and self._is_ignored(error)):
            delivery.captures.leave_out("rejected")
            return
        sequence = delivery.captures.offer()
        try:
            key, value, headers = self._message(sequence, error, latency_us, captured_at)
        except Exception as problem:
            delivery.drop(delivery.captures, "captures", problem)
            delivery.start()  # so that heartbeats and log report it even if no capture ever fits
        except BaseException:
            delivery.captures.drop("internal_error")
            raise
        else:
            delivery.send(delivery.captures, owner.live_topic, key, value, headers)

    def _is_ignored(self, error: Any) -> bool:
        ignored = self._owner.config.ignore
        try:
            return bool(ignored) and isinstance(error, BaseException) and is_rejection(error, ignored)
        except Exception as problem:
            self._owner.delivery.log.note(
                "ignore", f"ignore raised {kind_of(problem)}: the exception counts as a failure"
            )
            return False

    def _message(
        self, sequence: int, error: Any, latency_us: Any, captured_at: Any
    ) -> tuple[bytes, bytes, Headers | None]:
        if self._dropped is not None:
            raise self._dropped
        prediction = failure = None
        if error is not None:
            failure = failure_fields(error)
        elif self._outcome is not None:
            outcome = self._outcome
            prediction = prediction_fields(*outcome) if isinstance(outcome, tuple) else outcome()
        if prediction is None and failure is None:
            failure = failure_fields(NO_PREDICTION)
        return self._owner.composer.compose(
            sequence,
            self._captured_at if captured_at is None else microseconds("captured_at", captured_at),
            self._request_id,
            texts(self._segments) if self._segments else {},
            self._cluster,
            self._values,
            prediction,
            failure,
            None if latency_us is None else int(latency_us),
            None if self._feature_state is None else feature_state_fields(self._feature_state),
        )


class NullShot(Shot):
    """The Shot of a DisabledTap, which captures nothing."""

    __slots__ = ()

    def __init__(self) -> None:
        pass

    def predicted(self, *_args: Any, **_given: Any) -> None:
        """Do nothing."""

    def rejected(self) -> None:
        """Do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        pass


def _is_on(enabled: Callable[[], bool], delivery: Delivery) -> bool:
    try:
        return bool(enabled())
    except Exception as error:
        delivery.log.note("enabled", f"the switch raised {kind_of(error)} and counts as off")
        return False
