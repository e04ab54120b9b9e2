"""The hook that a live service calls. It raises nothing, waits for nothing, and uses bounded memory.

It suppresses only `Exception`. KeyboardInterrupt, SystemExit, a task's cancellation and the like are the caller's
own control flow and always pass through.
"""

import contextlib
import functools
import os
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from gnomon_producer import exits
from gnomon_producer.composing import Composer
from gnomon_producer.config import TapConfig, disabled_by
from gnomon_producer.delivery import Delivery
from gnomon_producer.delivery_settings import DeliverySettings
from gnomon_producer.encoding import ServiceEncoder
from gnomon_producer.errors import Dropped, kind_of
from gnomon_producer.fork_check import ForkCheck
from gnomon_producer.observing import F, watching
from gnomon_producer.predictions import label_fields, microseconds, text, with_class
from gnomon_producer.registration import Registration
from gnomon_producer.sampling import Sampler
from gnomon_producer.shot import Shot
from gnomon_producer.stats import TapStats
from gnomon_producer.trouble import logger
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.registry import PREFIX, registry_client, registry_properties
from gnomon_schemas.topics import Topics


class Tap:
    """The hook of one stream, shared by all threads, tasks and forked children of a process.

    Takes the fields of TapConfig as keywords, or a TapConfig. The constructor raises ConfigurationError for an invalid
    configuration; after that nothing is raised. With GNOMON_DISABLED set it creates a DisabledTap. The first capture of
    each process creates the Kafka client, so a Tap may be created before a server forks.
    """

    def __new__(cls, *_args: Any, **_settings: Any) -> "Tap":
        """Create a DisabledTap instead if GNOMON_DISABLED requires it."""
        if cls is Tap and disabled_by():
            from gnomon_producer.disabled import DisabledTap

            return object.__new__(DisabledTap)
        return object.__new__(cls)

    def __init__(self, config: TapConfig | None = None, /, **settings: Any) -> None:
        self.config = config = config or TapConfig(**settings)
        self.composer = Composer(config)
        self.sampler = Sampler(config.sample_rate, config.sample_salt) if config.sample_rate < 1 else None
        self._topics = Topics(config.stream, config.topic_prefix)
        self.live_topic = self._topics.live
        self._service_encoder = ServiceEncoder(config.service)
        self._registry: Callable[[], AbstractContextManager[Any]] | None = None
        if config.registry is not None:
            self._registry = functools.partial(contextlib.nullcontext, config.registry)
        elif registry_properties(config.properties):
            self._registry = functools.partial(registry_client, config.properties)
            self._registry().__exit__(None, None, None)  # refuses wrong properties now, in the caller's thread
        self._begin_process()
        # Only a weak reference, because hooks of os.register_at_fork cannot be removed.
        here = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _renew(here))
        if config.handle_sigterm:
            exits.close_on_sigterm()

    @classmethod
    def from_env(cls, **given: Any) -> "Tap":
        """Return the Tap that GNOMON_… variables describe; keywords override them. Raise nothing.

        A deployment with a wrong variable or schema file must not take the service down: the error is logged once,
        and the Tap is off, counts each capture as dropped (`misconfigured`), and gives the reason in its stats.
        """
        from gnomon_producer.disabled import DisabledTap, MisconfiguredTap

        if disabled_by():
            return DisabledTap()
        try:
            return cls(TapConfig.from_env(**given))
        except Exception as error:
            why = _error_text(error)
            # A logging filter of the service may raise; that must not take the service down either.
            with contextlib.suppress(Exception):
                logger.error("the hook is off, its captures are dropped: %s", why)
            return MisconfiguredTap(why)

    def capture(
        self,
        request_id: str | None,
        features: Any,
        *,
        segments: Mapping[str, Any] | None = None,
        cluster: str | None = None,
        feature_state: Any = None,
    ) -> Shot:
        """Return a context manager, `with` or `async with`, around the live prediction.

        Call `predicted` with the outcome. An exception from the block is recorded by its type and passes through
        unchanged. `features` are read at once. Without a request id the middleware's is taken, or a new UUID.
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
                why = Dropped("invalid_features", f"{kind_of(error)} in a callable given to observe()")
                return Shot(self, None, None, None, None, None, why)

        return watching(shot_of, predicted)

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
        shot.predicted(value, label, scores, items)
        shot.end(error, latency_us, captured_at)

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
        """Send the ground truth of a request: one or more of `value`, `label` and `relevance`.

        `value` is a number (in a binary stream 1 or 0), `label` a class with the same name as in decisions, and
        `relevance` belongs to `items`. Times as in `record`, now by default.
        """
        delivery = self.delivery
        try:
            delivery.labels.offer()
            now = time.time_ns() // 1000
            key = self.composer.privacy.identifier("request_id", text("request_id", request_id))
            message = self._service_encoder.label(
                request_id=key,
                occurred_at=now if occurred_at is None else microseconds("occurred_at", occurred_at),
                observed_at=now if observed_at is None else microseconds("observed_at", observed_at),
                **with_class(label_fields(value, label, relevance, items), self.config.classes),
            )
            encoded_key = key.encode()
        except Exception as error:
            delivery.drop(delivery.labels, "labels", error)
        except BaseException:
            delivery.labels.drop("internal_error")
            raise
        else:
            delivery.send(delivery.labels, self._topics.labels, encoded_key, message)

    def stats(self) -> TapStats:
        """Return this process's counters at one moment."""
        delivery = self.delivery
        try:
            delivery.serve()
        except Exception as error:
            delivery.log.note("stats", f"{kind_of(error)} while serving delivery reports")
        return TapStats.of(delivery.captures.counts(), TapStats.of(delivery.labels.counts()))

    def start(self, timeout: float = 0.0) -> bool:
        """Create the Kafka client of this process now, rather than in its first capture; return whether that worked.

        With a schema registry, wait up to `timeout` seconds for its answer: from then on captures are framed by its id.
        """
        started = self.delivery.start()
        return started and (self._registration is None or self._registration.done.wait(timeout))

    def flush(self, timeout: float = 2.0) -> bool:
        """Wait up to `timeout` seconds for everything recorded so far; return whether nothing is in flight."""
        try:
            return self.delivery.flush(timeout)
        except Exception as error:
            self.delivery.log.note("flush", f"{kind_of(error)} while flushing")
            return False

    def close(self, timeout: float | None = None) -> bool:
        """Drain for up to `timeout` seconds (`exit_timeout_s` by default) and end; return whether everything was
        delivered.

        Captures that are offered later are counted as dropped. It is called automatically at exit and on SIGTERM.
        """
        if self._registration is not None:
            self._registration.stop()
        return self.delivery.close(self.config.exit_timeout_s if timeout is None else timeout)

    def _begin_process(self, fork_check: ForkCheck | None = None) -> None:
        """Start a process's state: new identity, counters from zero, no producer yet."""
        config = self.config
        own = {name: value for name, value in config.properties.items() if not name.startswith(PREFIX)}
        settings = DeliverySettings(
            bootstrap_servers=config.bootstrap_servers,
            max_buffer_bytes=config.max_buffer_bytes,
            heartbeat_s=config.heartbeat_s,
            exit_timeout_s=config.exit_timeout_s,
            properties=own,
            topics=(self._topics.live, self._topics.labels),
        )
        self.delivery = delivery = Delivery(settings, self._announce, self._report, fork_check=fork_check)
        self.composer.write_as(delivery.producer_id, self.composer.schema.live.fingerprint)
        self._registration: Registration | None = None
        if self._registry is not None:
            self._registration = Registration(
                self._registry,
                self.live_topic,
                self.composer.schema.live,
                registered=functools.partial(self.composer.write_as, delivery.producer_id),
                log=delivery.log,
            )

    def _announce(self, delivery: Delivery, first: bool) -> None:
        live = self.composer.schema.live
        delivery.announce(self._topics.schemas, str(live.fingerprint).encode(), live.text.encode())
        if first and self._registration is not None:
            self._registration.start()

    def _report(self, delivery: Delivery, closed: bool) -> tuple[str, bytes]:
        counts = delivery.captures.counts()
        report = self._service_encoder.report(delivery.producer_id, delivery.started_at, counts, closed=closed)
        return self._topics.producers, report


def _error_text(error: Exception) -> str:
    """Return an exception's text, after its type's name if it is not ours; only the name if there is no text."""
    try:
        return str(error) if isinstance(error, ConfigurationError) else f"{kind_of(error)}: {error}"
    except Exception:
        return kind_of(error)


def _renew(here: "weakref.ref[Tap]") -> None:
    """Leave the parent's client alone and start again, in a fork's child."""
    tap = here()
    if tap is not None:
        tap.delivery.abandon()
        tap._begin_process(ForkCheck())
