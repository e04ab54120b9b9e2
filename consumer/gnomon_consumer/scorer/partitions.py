"""The partitions that this member has, and the offset that is due in each."""

from collections.abc import Callable
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, TopicPartition

from gnomon_consumer.logs import get_logger
from gnomon_consumer.scorer.window import Ownership
from gnomon_schemas.errors import DependencyUnreachableError, GnomonError

_RETRY_SECONDS = 1.0
log = get_logger("score")


@dataclass(slots=True, eq=False)
class Owned:
    """A partition of this assignment, and the offset of the capture that is due next."""

    owner: Ownership
    next_offset: int


class Partitions:
    """What the group has given to this member.

    `resume` finds the offset at which each of some partitions goes on, and may raise DependencyUnreachableError or
    KafkaException: then they are asked for again later, and nothing of them is read before. `lost` is called when some
    partition is no longer ours, or is to be read again.
    """

    def __init__(
        self,
        consumer: Consumer,
        topic: str,
        resume: Callable[[list[int]], dict[int, int]],
        lost: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._consumer = consumer
        self._topic = topic
        self._resume_at = resume
        self._lost = lost
        self._clock = clock
        self.owned: dict[int, Owned] = {}
        self._pending: set[int] = set()  # assigned to us, but the broker did not answer yet
        self._retry_at = 0.0
        self._error: GnomonError | None = None

    def subscribe(self) -> None:
        """Join the group."""
        callbacks = {"on_assign": self._on_assign, "on_revoke": self._on_revoke, "on_lost": self._on_revoke}
        self._consumer.subscribe([self._topic], **callbacks)

    def owns(self, owner: Ownership) -> bool:
        """Whether this is still the assignment that a window was opened under."""
        owned = self.owned.get(owner.partition)
        return owned is not None and owned.owner is owner

    def turn(self) -> None:
        """Ask again for what the broker did not answer; raises what a callback of the group's could not."""
        if self._error is not None:
            raise self._error
        if self._pending and self._clock() >= self._retry_at:
            self._resume_pending()

    def again(self) -> None:
        """After anything ambiguous: forget what is in the air, and go on where the shadow log ends."""
        held = sorted(self.owned)
        self.owned.clear()
        self._lost()
        if held:
            self._consumer.incremental_unassign([TopicPartition(self._topic, partition) for partition in held])
            self._pending |= set(held)
            self._resume_pending()

    def read_on(self, owned: Owned) -> None:
        """Read at the offset that is due now."""
        place = TopicPartition(self._topic, owned.owner.partition, owned.next_offset)
        self._consumer.incremental_unassign([TopicPartition(place.topic, place.partition)])
        self._consumer.incremental_assign([place])

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Find where each partition goes on, before the first message of it."""
        try:
            if partitions:
                self._resume([one.partition for one in partitions])
        except (DependencyUnreachableError, KafkaException) as error:
            consumer.incremental_assign([])  # the partitions are ours, but nothing is read before their place is known
            self._wait_for_broker({one.partition for one in partitions}, error)
        except GnomonError as error:
            self._error = error  # raised in the loop: an exception in a callback of librdkafka's would be lost

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """A partition takes its own windows with it, open and sealed; the others go on."""
        gone = {one.partition for one in partitions}
        if self._pending & gone:
            # Without this call all of them would be given back, those too that were never assigned to librdkafka.
            consumer.incremental_unassign([one for one in partitions if one.partition not in self._pending])
            self._pending -= gone
        for partition in gone:
            self.owned.pop(partition, None)
        self._lost()
        if gone:
            log.info("revoked", partitions=sorted(gone))

    def _resume_pending(self) -> None:
        """Go on where the shadow log ends, as soon as the broker says where that is; the group is polled meanwhile."""
        pending = sorted(self._pending)
        try:
            self._resume(pending)
            self._pending -= set(pending)
        except (DependencyUnreachableError, KafkaException) as error:
            self._wait_for_broker(set(pending), error)

    def _wait_for_broker(self, partitions: set[int], error: Exception) -> None:
        self._pending |= partitions
        self._retry_at = self._clock() + _RETRY_SECONDS
        log.warning("waiting for the broker", partitions=sorted(self._pending), reason=str(error))

    def _resume(self, partitions: list[int]) -> None:
        offsets = self._resume_at(partitions)
        for partition, offset in offsets.items():
            self.owned[partition] = Owned(Ownership(partition), offset)
        places = [TopicPartition(self._topic, partition, offset) for partition, offset in offsets.items()]
        self._consumer.incremental_assign(places)
        log.info("assigned", offsets={str(partition): offset for partition, offset in sorted(offsets.items())})
