"""Problems inside the hook, logged for the service's operators and not raised to its callers."""

import contextlib
import logging
import time
from collections.abc import Callable

logger = logging.getLogger("gnomon_producer")

LOG_SECONDS = 60.0


class OncePerMinute:
    """Collects problems and logs each kind at most once a minute, outside of any request.

    `note` only stores, so that no logging handler runs on a caller's thread.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._notes: dict[str, tuple[str, int]] = {}
        self._written: dict[str, float] = {}

    def note(self, kind: str, text: str) -> None:
        """Remember the latest text of its kind. The set of kinds is small and fixed."""
        _, before = self._notes.get(kind, ("", 0))
        self._notes[kind] = (text, before + 1)

    def write(self) -> None:
        """Log the kinds whose minute is over."""
        now = self._clock()
        for kind in list(self._notes):
            if now - self._written.get(kind, -LOG_SECONDS) >= LOG_SECONDS:
                text, times = self._notes.pop(kind)
                self._written[kind] = now
                # Handlers and filters of the service run here; their exceptions must not reach the caller.
                with contextlib.suppress(Exception):
                    logger.warning("%s (%d since the last such line)", text, times)
