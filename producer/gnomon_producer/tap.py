"""The hook: what a live service calls. It raises nothing, waits for nothing, and holds bounded memory.

Only `Exception` is ever swallowed. KeyboardInterrupt, SystemExit, a task's cancellation and the like are the caller's
own control flow, wherever they strike, and pass.
"""

import dataclasses
import functools
import inspect
import os
import time
import uuid
import weakref
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from gnomon_producer import exits
from gnomon_producer.binding import FeatureBinder, Values
from gnomon_producer.config import TapConfig, disabled_by
from gnomon_producer.delivery import Delivery, DeliverySettings, Headers, logger
from gnomon_producer.encoding import ServiceEncoder, live_encoder
from gnomon_producer.errors import Dropped
from gnomon_producer.ledger import Counts
from gnomon_producer.predictions import (
    failure_fields,
    feature_state_fields,
    label_fields,
    microseconds,
    prediction_fields,
    prediction_of_result,
)
from gnomon_producer.privacy import EVENT_KEYS, Privacy
from gnomon_producer.sampling import Sampler
from gnomon_producer.trace import request_id_of_context, traceparent_source
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.records import Failure, FailureKind
from gnomon_schemas.topics import Topics

F = TypeVar("F", bound=Callable[..., Any])

NO_PREDICTION = Failure(FailureKind.MODEL_ERROR, "the captured block ended without a prediction")


@dataclasses.dataclass(frozen=True, slots=True)
class TapStats:
    """One moment of this process: offered = delivered + sum(dropped) + in_flight.

    What was sampled out or switched off was not offered. `labels` is the same account of the labels.
    """

    offered: int = 0
    delivered: int = 0
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    in_flight: int = 0
    sampled_out: int = 0
    switched_off: int = 0
    labels: "TapStats | None" = None


class Tap:
    """The hook of one stream, shared by all threads, tasks and forked children of a process.

    Takes the fields of TapConfig as keywords, or a TapConfig. Raises ConfigurationError when made with something that
    cannot work, and nothing ever after. With GNOMON_DISABLED set it is a DisabledTap. The Kafka client is made by the
    first capture of each process, so a Tap may be made before a server forks.
    """

    def __new__(cls, *_args: Any, **_settings: Any) -> "Tap":
        """Make a DisabledTap instead where GNOMON_DISABLED says so."""
        return object.__new__(DisabledTap if cls is Tap and disabled_by() else cls)

    def __init__(self, config: TapConfig | None = None, /, **settings: Any) -> None:
        self.config = config = config or TapConfig(**settings)
        self._schema = _allowed(FeatureSchema.of(config.features), config.allowed_features)
        self._binder = FeatureBinder(self._schema, listed_only=config.allowed_features is not None, encoder_checks=True)
        self._plain = not (config.segments or config.strata or config.before_send or config.hmac_fields)
        self._privacy = Privacy(config.before_send, config.hmac_key, frozenset(config.hmac_fields))
        self._sampler = Sampler(config.sample_rate, config.sample_salt) if config.sample_rate < 1 else None
        self._topics = Topics(config.stream, config.topic_prefix)
        self._live_topic = self._topics.live
        self._service_encoder = ServiceEncoder(config.service)
        self._traceparent = traceparent_source()
        self._renew()
        # Only a weak reference: hooks of os.register_at_fork can never be taken off.
        here = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _renew(here))
        if config.handle_sigterm:
            exits.close_on_sigterm()

    @classmethod
    def from_env(cls, **given: Any) -> "Tap":
        """Return the Tap that GNOMON_… variables describe; keywords go before them.

        A deployment with a wrong variable must not take the service down: the error is logged, and the Tap disabled.
        """
        if disabled_by():
            return DisabledTap()
        try:
            return cls(TapConfig.from_env(**given))
        except ConfigurationError as error:
            logger.error("the hook is disabled: %s", error)
            return DisabledTap()

    def capture(
        self,
        request_id: str | None,
        features: Any,
        *,
        segments: Mapping[str, Any] | None = None,
        cluster: str | None = None,
        feature_state: Any = None,
    ) -> "Shot":
        """Return a context manager, `with` or `async with`, around the live prediction; tell it the outcome by
        `predicted`. An exception from the block is recorded by its type and passes untouched.

        `features` are read on entry. Without a request id the middleware's is taken, or a new UUID.
        """
        return Shot(self, request_id, features, segments, cluster, feature_state)

    def observe(
        self,
        *,
        features: Callable[..., Any],
        predicted: Callable[[Any], Any],
        request_id: Callable[..., str | None] | None = None,
        segments: Callable[..., Mapping[str, Any]] | None = None,
        cluster: Callable[..., str | None] | None = None,
    ) -> Callable[[F], F]:
        """Return a decorator for a function or coroutine function whose every call is a capture.

        `predicted` is called on the result and returns a number (value), a text (label), or a mapping of `value`,
        `label`, `scores`, `items`; the others are called on the arguments.
        """

        def shot_of(args: Any, kwargs: Any) -> Shot:
            def drawn(source: Callable[..., Any] | None) -> Any:
                return None if source is None else source(*args, **kwargs)

            try:
                return Shot(self, drawn(request_id), drawn(features), drawn(segments), drawn(cluster), None)
            except Exception as error:
                why = Dropped("invalid_features", f"{type(error).__name__} in a callable given to observe()")
                return Shot(self, None, None, None, None, None, why)

        def decorate(function: F) -> F:
            if inspect.iscoroutinefunction(function):

                @functools.wraps(function)
                async def watched_coroutine(*args: Any, **kwargs: Any) -> Any:
                    with shot_of(args, kwargs) as shot:
                        result = await function(*args, **kwargs)
                        shot._returned(predicted, result)
                    return result

                return watched_coroutine  # type: ignore[return-value]  # wraps() keeps the signature

            @functools.wraps(function)
            def watched(*args: Any, **kwargs: Any) -> Any:
                with shot_of(args, kwargs) as shot:
                    result = function(*args, **kwargs)
                    shot._returned(predicted, result)
                return result

            return watched  # type: ignore[return-value]  # wraps() keeps the signature

        return decorate

    def record(
        self,
        request_id: str | None,
        features: Any,
        *,
        value: Any = None,
        label: Any = None,
        scores: Any = None,
        items: Any = None,
        error: Any = None,
        latency_us: int | None = None,
        segments: Mapping[str, Any] | None = None,
        cluster: str | None = None,
        captured_at: Any = None,
        feature_state: Any = None,
    ) -> None:
        """Record a prediction made elsewhere.

        `error`: an exception, or a text. `captured_at`: microseconds since the Unix epoch or an aware datetime, now
        by default (for replays).
        """
        shot = Shot(self, request_id, features, segments, cluster, feature_state)
        shot._begin()
        shot.predicted(value, label, scores, items)
        shot._end(error, latency_us, captured_at)

    def label(
        self,
        request_id: str,
        *,
        value: Any = None,
        label: Any = None,
        relevance: Any = None,
        items: Any = None,
        occurred_at: Any = None,
        observed_at: Any = None,
    ) -> None:
        """Send the ground truth of a request: one or more of a number, a class, and a list of relevances with the
        items they belong to. Times as in `record`, now by default.
        """
        delivery = self._delivery
        try:
            delivery.labels.offer()
            now = time.time_ns() // 1000
            truth = label_fields(value, label, relevance, items)
            key = self._privacy.identifier("request_id", _text(request_id))
            message = self._service_encoder.label(
                request_id=key,
                occurred_at=now if occurred_at is None else microseconds("occurred_at", occurred_at),
                observed_at=now if observed_at is None else microseconds("observed_at", observed_at),
                **truth,
            )
        except Exception as error:
            dropped = _as_dropped(error)
            delivery.labels.drop(dropped.reason)
            delivery.log.note(f"label {dropped.reason}", f"labels are dropped: {dropped.detail}")
        else:
            delivery.send(delivery.labels, self._topics.labels, key.encode(), message)

    def stats(self) -> TapStats:
        """Return this process's counters, of one moment."""
        delivery = self._delivery
        try:
            delivery.serve()
        except Exception as error:
            delivery.log.note("stats", f"{type(error).__name__} while serving delivery reports")
        return _stats(delivery.captures.counts(), _stats(delivery.labels.counts()))

    def start(self) -> bool:
        """Make the Kafka client of this process now, rather than in its first capture; return whether that worked."""
        return self._delivery.start()

    def flush(self, timeout: float = 2.0) -> bool:
        """Wait up to `timeout` seconds for what was recorded so far; return whether nothing is in flight."""
        try:
            return self._delivery.flush(timeout)
        except Exception as error:
            self._delivery.log.note("flush", f"{type(error).__name__} while flushing")
            return False

    def close(self, timeout: float | None = None) -> bool:
        """Drain for up to `timeout` seconds (`exit_timeout_s` by default) and end; return whether all was delivered.

        What is offered later is counted as dropped. Called by itself at exit and on SIGTERM.
        """
        return self._delivery.close(self.config.exit_timeout_s if timeout is None else timeout)

    def _renew(self) -> None:
        """Begin a process's life: new identity, counters from zero, no producer yet."""
        config = self.config
        settings = DeliverySettings(
            config.bootstrap_servers,
            config.max_buffer_bytes,
            config.heartbeat_s,
            config.exit_timeout_s,
            config.properties,
        )
        self._delivery = delivery = Delivery(settings, self._announce, self._report)
        self._encode = live_encoder(self._schema, delivery.producer_id, config.model, self._schema.live.fingerprint)

    def _announce(self, delivery: Delivery) -> None:
        live = self._schema.live
        delivery.announce(self._topics.schemas, str(live.fingerprint).encode(), live.text.encode())

    def _report(self, delivery: Delivery, closed: bool) -> tuple[str, bytes]:
        counts = delivery.captures.counts()
        report = self._service_encoder.report(delivery.producer_id, delivery.started_at, counts, closed=closed)
        return self._topics.producers, report

    def _admits(self, request_id: str, cluster: str | None, delivery: Delivery) -> bool:
        """Ask the switch and the sampler; count what they leave out."""
        enabled = self.config.enabled
        if enabled is not None and not _asked(enabled, delivery):
            delivery.captures.leave_out("switched_off")
            return False
        if self._sampler is not None:
            key = cluster if cluster is not None and self.config.sample_by == "cluster" else request_id
            if not self._sampler.takes(key):
                delivery.captures.leave_out("sampled_out")
                return False
        return True

    def _refine(self, record: dict[str, Any]) -> None:
        """Add the declared segments and the stratum, then give the privacy settings the last word."""
        features = dict(zip(self._binder.names, record["features"], strict=True))
        record["segments"] = {**self._segments_of(features), **record["segments"]}
        record["stratum"] = self._stratum_of(features, record["segments"])
        if self._privacy.active:
            event = {key: record[key] for key in EVENT_KEYS} | {"features": features}
            record.update(self._privacy.apply(event))
            record["features"] = self._binder.bind(record["features"])

    def _encoded(self, record: dict[str, Any]) -> bytes:
        try:
            return self._encode(record)
        except Exception:
            self._binder.check(record["features"])  # names the feature that does not fit, if it is one
            raise

    def _headers(self, stratum: str | None) -> Headers | None:
        traceparent = self._traceparent()
        if stratum is None and traceparent is None:
            return None
        found = (("stratum", stratum), ("traceparent", traceparent))
        return [(name, text.encode()) for name, text in found if text is not None]

    def _segments_of(self, features: Mapping[str, Any]) -> dict[str, str]:
        declared = self.config.segments
        if callable(declared):
            return _texts(declared(features))
        return _texts({name: features.get(name) for name in declared})

    def _stratum_of(self, features: Mapping[str, Any], segments: Mapping[str, str]) -> str | None:
        declared = self.config.strata
        if callable(declared):
            stratum = declared(features, segments)
            return None if stratum is None else _text(stratum)
        if not declared:
            return None
        found = (segments.get(name, features.get(name)) for name in declared)
        return "|".join("" if value is None else _text(value) for value in found)


class Shot:
    """One capture under way; `predicted` tells it the live model's answer."""

    __slots__ = (
        "_admitted",
        "_captured_at",
        "_cluster",
        "_dropped",
        "_feature_state",
        "_features",
        "_outcome",
        "_request_id",
        "_segments",
        "_started_ns",
        "_tap",
        "_values",
    )

    def __init__(
        self,
        tap: Tap,
        request_id: Any,
        features: Any,
        segments: Any,
        cluster: Any,
        feature_state: Any,
        dropped: Dropped | None = None,
    ) -> None:
        self._tap = tap
        self._request_id = request_id
        self._features = features
        self._segments = segments
        self._cluster = cluster
        self._feature_state = feature_state
        self._dropped = dropped
        self._outcome: Callable[[], Any] | None = None
        self._admitted = False
        self._values: Values = ()
        self._captured_at = 0
        self._started_ns = 0

    def predicted(self, value: Any = None, label: Any = None, scores: Any = None, items: Any = None) -> None:
        """Tell the live model's answer: a number, a decision, class probabilities or scores, and their names."""
        self._outcome = lambda: prediction_fields(value, label, scores, items)

    def _returned(self, predicted: Callable[[Any], Any], result: Any) -> None:
        """Let `predicted` be asked about the result later, when the latency has been taken."""
        self._outcome = lambda: prediction_of_result(predicted(result))

    def __enter__(self) -> Self:
        self._begin()
        self._started_ns = time.perf_counter_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(error, (time.perf_counter_ns() - self._started_ns) // 1000, None)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def _begin(self) -> None:
        """Ask whether to capture, and read the features before the live code may change them."""
        tap = self._tap
        delivery = tap._delivery
        self._captured_at = time.time_ns() // 1000
        try:
            identity = self._request_id
            if identity is None:
                identity = request_id_of_context.get() or str(uuid.uuid4())
            self._request_id = identity if type(identity) is str else _text(identity)
            if self._cluster is not None:
                self._cluster = _text(self._cluster)
            self._admitted = tap._admits(self._request_id, self._cluster, delivery)
            if self._admitted and self._dropped is None:
                self._values = tap._binder.bind(self._features)
        except Dropped as dropped:
            self._admitted, self._dropped = True, dropped
        except Exception as error:
            why = Dropped("invalid_features", f"{type(error).__name__} while reading the features or ids")
            self._admitted, self._dropped = True, why

    def _end(self, error: Any, latency_us: Any, captured_at: Any) -> None:
        """Offer the capture. It is counted exactly once: here when it is dropped, by `send` from there on."""
        if not self._admitted:
            return
        delivery = self._tap._delivery
        sequence = delivery.captures.offer()
        try:
            key, message, headers = self._message(sequence, error, latency_us, captured_at)
        except Exception as problem:
            dropped = _as_dropped(problem)
            delivery.captures.drop(dropped.reason)
            delivery.log.note(dropped.reason, f"captures are dropped ({dropped.reason}): {dropped.detail}")
            delivery.start()  # it says so in its heartbeats and its log even if no capture ever fits
        except BaseException:
            delivery.captures.drop("internal_error")
            raise
        else:
            delivery.send(delivery.captures, self._tap._live_topic, key, message, headers)

    def _message(
        self, sequence: int, error: Any, latency_us: Any, captured_at: Any
    ) -> tuple[bytes, bytes, Headers | None]:
        if self._dropped is not None:
            raise self._dropped
        tap = self._tap
        failure = failure_fields(error)
        prediction = self._outcome() if self._outcome is not None and failure is None else None
        if prediction is None and failure is None:
            failure = failure_fields(NO_PREDICTION)
        record = {
            "request_id": self._request_id,
            "cluster": self._cluster,
            "stratum": None,
            "segments": _texts(self._segments) if self._segments else {},
            "features": self._values,
            "prediction": prediction,
            "error": failure,
            "sequence": sequence,
            "captured_at": self._captured_at if captured_at is None else microseconds("captured_at", captured_at),
            "capture_probability": tap.config.sample_rate,
            "latency_us": None if latency_us is None else int(latency_us),
            "feature_state": None if self._feature_state is None else feature_state_fields(self._feature_state),
        }
        if not tap._plain:
            tap._refine(record)
        return record["request_id"].encode(), tap._encoded(record), tap._headers(record["stratum"])


class DisabledTap(Tap):
    """The same interface with nothing behind it: no client, no thread, no counters."""

    def __init__(self, *_args: Any, **_settings: Any) -> None:
        pass

    def capture(self, *_args: Any, **_given: Any) -> Shot:
        """Return a context manager that does nothing."""
        return _NOTHING

    def observe(self, **_given: Any) -> Callable[[F], F]:
        """Return a decorator that gives the function back as it is."""
        return lambda function: function

    def record(self, *_args: Any, **_given: Any) -> None:
        """Do nothing."""

    def label(self, *_args: Any, **_given: Any) -> None:
        """Do nothing."""

    def stats(self) -> TapStats:
        """Return zeros."""
        return TapStats(labels=TapStats())

    def start(self) -> bool:
        """Do nothing; there is no client."""
        return False

    def flush(self, *_args: Any, **_given: Any) -> bool:
        """Return True: nothing is ever in flight."""
        return True

    def close(self, *_args: Any, **_given: Any) -> bool:
        """Return True: nothing is ever in flight."""
        return True


class _NullShot(Shot):
    """What a DisabledTap captures."""

    __slots__ = ()

    def __init__(self) -> None:
        pass

    def predicted(self, *_args: Any, **_given: Any) -> None:
        """Do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        pass


_NOTHING = _NullShot()


def _allowed(schema: FeatureSchema, names: tuple[str, ...] | None) -> FeatureSchema:
    """Return the schema with the listed features alone."""
    if names is None:
        return schema
    unknown = set(names) - {feature.name for feature in schema.features}
    if unknown:
        raise ConfigurationError(f"allowed_features: not in the feature schema: {', '.join(sorted(unknown))}")
    fields = [field for field in schema.record["fields"] if field["name"] in names]
    return FeatureSchema.of({**schema.record, "fields": fields})


def _renew(here: "weakref.ref[Tap]") -> None:
    tap = here()
    if tap is not None:
        tap._delivery.abandon()
        tap._renew()


def _asked(enabled: Callable[[], bool], delivery: Delivery) -> bool:
    try:
        return bool(enabled())
    except Exception as error:
        delivery.log.note("enabled", f"the switch raised {type(error).__name__} and counts as off")
        return False


def _text(value: Any) -> str:
    return value if type(value) is str else str(value)


def _texts(given: Mapping[Any, Any]) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in given.items() if value is not None}


def _as_dropped(error: Exception) -> Dropped:
    return error if isinstance(error, Dropped) else Dropped("internal_error", f"{type(error).__name__} in the hook")


def _stats(counts: Counts, labels: TapStats | None = None) -> TapStats:
    return TapStats(
        offered=counts.offered,
        delivered=counts.delivered,
        dropped=dict(counts.dropped),
        in_flight=counts.in_flight,
        sampled_out=counts.sampled_out,
        switched_off=counts.switched_off,
        labels=labels,
    )
