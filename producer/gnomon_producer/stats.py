"""The counters of a Tap."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gnomon_producer.account import Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class TapStats:
    """The counters of this process at one moment: offered = delivered + sum(dropped) + in_flight.

    Captures that were sampled out, switched off or rejected were not offered. `labels` counts the labels in the same
    way.
    """

    offered: int = 0
    delivered: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    in_flight: int = 0
    sampled_out: int = 0
    switched_off: int = 0
    rejected: int = 0
    labels: "TapStats | None" = None
    misconfigured: str | None = None
    """Why `Tap.from_env` could not create a hook; everything that is offered is then dropped."""

    @classmethod
    def of(cls, counts: Counts, labels: "TapStats | None" = None, *, misconfigured: str | None = None) -> "TapStats":
        """Return the counters of an account."""
        return cls(
            offered=counts.offered,
            delivered=counts.delivered,
            dropped=dict(counts.dropped),
            in_flight=counts.in_flight,
            sampled_out=counts.sampled_out,
            switched_off=counts.switched_off,
            rejected=counts.rejected,
            labels=labels,
            misconfigured=misconfigured,
        )
