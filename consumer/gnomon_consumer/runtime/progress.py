"""Progress by partition: metrics, and warnings of a stalled partition and of a member without partitions."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from gnomon_consumer.kafka.end_offsets import EndOffsets
from gnomon_consumer.runtime.metrics import PartitionGauges
from gnomon_consumer.runtime.stalls import NEWER_PROTOCOL, STANDBY, PartitionPosition, StallWatch, StandbyWatch
from gnomon_consumer.settings import Settings


class PartitionProgress:
    """Watches a member's partitions of one topic. `positions` returns their positions."""

    def __init__(
        self,
        settings: Settings,
        topic: str,
        *,
        gauges: PartitionGauges,
        log: Any,
        positions: Callable[[], Mapping[int, PartitionPosition]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ends = EndOffsets(settings, topic, clock)
        self._watch = StallWatch(log, clock)
        self._standby = standby_watch(settings, log, clock)
        self._gauges = gauges
        self._positions = positions

    def step(self) -> None:
        """Check for progress and stalls. Call this in each step of a loop; it never waits."""
        positions = self._positions()
        self._standby.look(bool(positions))
        if not self._ends.step(positions):
            return
        self._watch.look(positions, self._ends.ends)
        self._gauges.show(
            {at: position.next_offset for at, position in positions.items()}, self._ends.ends, self._watch.seconds
        )


def standby_watch(settings: Settings, log: Any, clock: Callable[[], float]) -> StandbyWatch:
    """Return a watch of whether this member has partitions, with the reasons that these settings allow."""
    newer = settings.kafka.properties.get("group.protocol", "classic").lower() == "consumer"
    return StandbyWatch(log, clock, f"{STANDBY}; {NEWER_PROTOCOL}" if newer else STANDBY)
