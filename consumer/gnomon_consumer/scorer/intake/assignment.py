"""The partitions that this member is assigned, and the next offset of each."""

from collections.abc import Callable
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, TopicPartition

from gnomon_consumer.kafka.errors import denial, join, read
from gnomon_consumer.runtime.logging import get_logger
from gnomon_consumer.runtime.stalls import PartitionPosition
from gnomon_consumer.scorer.sampling.open_window import AssignmentToken
from gnomon_schemas.errors import DependencyUnreachableError

_RETRY_SECONDS = 1.0
log = get_logger("score")


@dataclass(slots=True, eq=False)
class AssignedPartition:
    """A partition of this assignment, and the offset of its next capture."""

    owner: AssignmentToken
    next_offset: int

    def advance(self, end: int) -> None:
        """Record that every offset below `end` was read, or is never read."""
        self.next_offset = end


class Assignment:
    """The partitions that the group has assigned to this member; `needs` are the rights to be that.

    `resume` finds the offset at which partitions continue. It may raise DependencyUnreachableError or KafkaException:
    the assignment then asks again later and reads nothing of them before. `drop_unowned` is called with `owns` when
    this member no longer owns a partition, or has to read it again.

    librdkafka's callbacks only record assigned and revoked partitions; `step` asks the broker. A request on the same
    client inside a callback makes the client end the process at its next callback.
    """

    def __init__(
        self,
        consumer: Consumer,
        topic: str,
        group: str,
        *,
        resume: Callable[[list[int]], dict[int, int]],
        drop_unowned: Callable[[Callable[[AssignmentToken], bool]], None],
        clock: Callable[[], float],
    ) -> None:
        self._consumer = consumer
        self._topic = topic
        self.needs = (read(topic), join(group))
        self._resume_at = resume
        self._drop_unowned = drop_unowned
        self._clock = clock
        self.owned: dict[int, AssignedPartition] = {}
        self._pending: list[int] = []  # assigned to us, but their start offsets are not known yet
        self._retry_at = 0.0

    def subscribe(self) -> None:
        """Join the group."""
        callbacks = {"on_assign": self._on_assign, "on_revoke": self._on_revoke, "on_lost": self._on_revoke}
        self._consumer.subscribe([self._topic], **callbacks)

    def owns(self, owner: AssignmentToken) -> bool:
        """Return whether this is still the assignment under which a window was opened."""
        owned = self.owned.get(owner.partition)
        return owned is not None and owned.owner is owner

    def step(self) -> None:
        """Ask where new partitions continue; ask again for unanswered ones. Raises GnomonError."""
        if self._pending and self._clock() >= self._retry_at:
            self._resume_pending()

    @property
    def settled(self) -> bool:
        """Return whether this member has partitions and reads all of them."""
        return bool(self.owned) and not self._pending

    def positions(self) -> dict[int, PartitionPosition]:
        """Return the position of each partition; a partition that waits to be resumed counts as having work."""
        waiting = {partition: PartitionPosition(None, 0, work=True) for partition in self._pending}
        return waiting | {at: PartitionPosition(one.next_offset, one.next_offset) for at, one in self.owned.items()}

    def resume_owned(self) -> None:
        """After an ambiguous result: discard everything in flight, and continue where the shadow log ends."""
        held = sorted(self.owned)
        self.owned.clear()
        self._drop_unowned(self.owns)
        if held:
            self._consumer.incremental_unassign([TopicPartition(self._topic, partition) for partition in held])
            self._pending += held
            self._retry_at = self._clock()

    def read_on(self, owned: AssignedPartition) -> None:
        """Continue to read at the next offset."""
        start = TopicPartition(self._topic, owned.owner.partition, owned.next_offset)
        self._consumer.incremental_unassign([TopicPartition(start.topic, start.partition)])
        self._consumer.incremental_assign([start])

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Record the assigned partitions. A partition is read only after its start offset is known."""
        consumer.incremental_assign([])
        given = {one.partition for one in partitions}
        self._pending += sorted(given.difference(self._pending))
        self._retry_at = self._clock()

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Drop the windows, open and sealed, of the revoked partitions; the other partitions continue."""
        gone = {one.partition for one in partitions}
        if gone.intersection(self._pending):
            # Without this call librdkafka would revoke all partitions, including those that were never assigned to it.
            consumer.incremental_unassign([one for one in partitions if one.partition not in self._pending])
            self._pending = [one for one in self._pending if one not in gone]
        for partition in gone:
            self.owned.pop(partition, None)
        self._drop_unowned(self.owns)
        if gone:
            log.info("revoked", partitions=sorted(gone))

    def _resume_pending(self) -> None:
        """Continue where the shadow log ends, as soon as the broker answers.

        If it does not answer for all partitions together, ask for each alone until one fails, and ask for that one last
        the next time, so that an unreadable partition does not delay the others.
        """
        if not self._resumed(list(self._pending)) and len(self._pending) > 1:
            while self._pending and self._resumed([self._pending[0]]):
                pass

    def _resumed(self, partitions: list[int]) -> bool:
        """Continue with partitions; return False if the broker does not answer."""
        others = [one for one in self._pending if one not in partitions]
        try:
            self._resume(partitions)
        except (DependencyUnreachableError, KafkaException) as error:
            if denied := denial(error, *self.needs):
                raise denied from error
            self._pending = [*others, *partitions]
            self._retry_at = self._clock() + _RETRY_SECONDS
            log.warning("waiting for the broker", partitions=sorted(partitions), reason=str(error))
            return False
        self._pending = others
        return True

    def _resume(self, partitions: list[int]) -> None:
        offsets = self._resume_at(partitions)
        for partition, offset in offsets.items():
            self.owned[partition] = AssignedPartition(AssignmentToken(partition), offset)
        starts = [TopicPartition(self._topic, partition, offset) for partition, offset in offsets.items()]
        self._consumer.incremental_assign(starts)
        log.info("assigned", offsets={str(partition): offset for partition, offset in sorted(offsets.items())})
