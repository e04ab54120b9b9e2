"""A hook that is off: on purpose (GNOMON_DISABLED), or because its configuration is invalid."""

import os
import weakref
from collections.abc import Callable
from typing import Any, Final

from gnomon_producer.account import Account
from gnomon_producer.fork_check import ForkCheck
from gnomon_producer.observing import F, watching
from gnomon_producer.shot import NullShot, Shot
from gnomon_producer.stats import TapStats
from gnomon_producer.tap import Tap


class DisabledTap(Tap):
    """The same interface without any effect: no client, no thread, no counters."""

    def __init__(self, *_args: Any, **_settings: Any) -> None:
        pass

    def capture(self, *_args: Any, **_given: Any) -> Shot:
        """Return a context manager that does nothing."""
        return _NOTHING

    def observe(self, **_given: Any) -> Callable[[F], F]:
        """Return a decorator that returns the function unchanged."""
        return lambda function: function

    def record(self, *_args: Any, **_given: Any) -> None:
        """Do nothing."""

    def label(self, *_args: Any, **_given: Any) -> None:
        """Do nothing."""

    def stats(self) -> TapStats:
        """Return zeros."""
        return TapStats(labels=TapStats())

    def start(self, *_args: Any, **_given: Any) -> bool:
        """Do nothing; there is no client."""
        return False

    def flush(self, *_args: Any, **_given: Any) -> bool:
        """Return True: nothing is ever in flight."""
        return True

    def close(self, *_args: Any, **_given: Any) -> bool:
        """Return True: nothing is ever in flight."""
        return True


class MisconfiguredTap(DisabledTap):
    """The result of `Tap.from_env` for an invalid configuration: off, and every capture counts as `misconfigured`.

    `stats().misconfigured` says why.
    """

    def __init__(self, why: str) -> None:
        self._why = why
        self._begin_process()
        here = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _renew(here))

    def capture(self, *_args: Any, **_given: Any) -> Shot:
        """Count a capture as dropped; return a context manager that does nothing."""
        self._captures.offer()
        self._captures.drop(_REASON)
        return _NOTHING

    def observe(self, **_given: Any) -> Callable[[F], F]:
        """Return a decorator that counts each call as a dropped capture and does not change the function."""
        return watching(lambda _args, _kwargs: self.capture(), lambda _result: None)

    def record(self, *_args: Any, **_given: Any) -> None:
        """Count a capture as dropped."""
        self.capture()

    def label(self, *_args: Any, **_given: Any) -> None:
        """Count a label as dropped."""
        self._labels.offer()
        self._labels.drop(_REASON)

    def stats(self) -> TapStats:
        """Return this process's counters and why the hook is off."""
        return TapStats.of(self._captures.counts(), TapStats.of(self._labels.counts()), misconfigured=self._why)

    def _begin_process(self, _fork_check: ForkCheck | None = None) -> None:
        self._captures, self._labels = Account(), Account()


_REASON: Final = "misconfigured"
_NOTHING = NullShot()


def _renew(here: "weakref.ref[MisconfiguredTap]") -> None:
    """Start from zero in a forked child, with new locks, because a thread of the parent may hold the old ones."""
    tap = here()
    if tap is not None:
        tap._begin_process()
