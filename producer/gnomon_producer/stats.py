"""What a Tap tells of itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gnomon_producer.account import Counts


@dataclass(frozen=True, slots=True)
class TapStats:
    """One moment of this process: offered = delivered + sum(dropped) + in_flight.

    What was sampled out, switched off or rejected was not offered. `labels` is the same account of the labels.
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
    """Why `Tap.from_env` could make no hook; everything offered is dropped then."""

    @classmethod
    def of(cls, counts: Counts, labels: "TapStats | None" = None, *, misconfigured: str | None = None) -> "TapStats":
        """Return the counters of a ledger."""
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
