"""The reasons why a capture does not reach Kafka: a closed vocabulary."""

from typing import Any, Final, Literal

DropReason = Literal[
    "queue_full",
    "publisher_dead",
    "too_large",
    "invalid_features",
    "privacy_error",
    "delivery_failed",
    "closed",
    "misconfigured",
    "internal_error",
]

DROP_REASONS: Final[dict[DropReason, str]] = {
    "queue_full": "the buffer is full: Kafka acknowledges, but more slowly than captures arrive",
    "publisher_dead": "the buffer is full and for ten seconds nothing was acknowledged: the broker is unreachable",
    "too_large": "one message over the broker's limit",
    "invalid_features": "an argument is invalid, for example a feature is missing, extra or of the wrong type",
    "privacy_error": "before_send raised or returned None, or an identifier could not be hashed",
    "delivery_failed": "not delivered: refused by the broker, timed out, or abandoned at exit",
    "closed": "offered after close()",
    "misconfigured": "Tap.from_env() could not create the hook; stats().misconfigured and the log say why",
    "internal_error": "any other error; the log names it",
}
"""Every reason and its meaning; `switched_off` and `sampled_out` are not losses and are counted separately."""


class Dropped(Exception):  # noqa: N818 - an outcome inside the hook, never an error that a caller sees
    """Raised to drop one capture; `detail` may name a feature, never a value."""

    def __init__(self, reason: DropReason, detail: str) -> None:
        super().__init__(detail)
        self.reason: DropReason = reason
        self.detail = detail


_name_of = type.__dict__["__name__"].__get__


def kind_of(thing: Any) -> str:
    """Return the real name of an object's type: a metaclass may raise when asked for `__name__`."""
    name: str = _name_of(type(thing))
    return name[:60]
