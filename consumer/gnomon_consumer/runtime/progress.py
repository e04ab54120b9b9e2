"""Progress by partition: metrics, and a warning that names a stalled partition."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from gnomon_consumer.kafka.end_offsets import EndOffsets
from gnomon_consumer.runtime.metrics import PartitionGauges
from gnomon_consumer.runtime.stalls import PartitionPosition, StallWatch
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
        self._gauges = gauges
        self._positions = positions

    def step(self) -> None:
        """Check for progress and stalls. Call this in each step of a loop; it never waits."""
        positions = self._positions()
        if not self._ends.step(positions):
            return
        self._watch.look(positions, self._ends.ends)
        self._gauges.show(
            {at: position.next_offset for at, position in positions.items()}, self._ends.ends, self._watch.seconds
        )
