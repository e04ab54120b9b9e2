"""Both logs of the partitions that a joiner owns: their messages go to each partition's merge join."""

from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, KafkaError

from gnomon_consumer.joiner.merge.identity import JoinProgress
from gnomon_consumer.joiner.merge.merge_join import ContradictionError
from gnomon_consumer.joiner.merge.partition import Partition
from gnomon_consumer.joiner.merge.shadow_records import ShadowRun, read_shadow
from gnomon_consumer.joiner.reading.live_log import LiveLog
from gnomon_consumer.joiner.reading.message_batches import by_partition, offsets_of, values_of
from gnomon_consumer.joiner.spans import JoinSpans
from gnomon_consumer.kafka.group import GroupTopic
from gnomon_consumer.runtime.outage import KafkaErrorLog
from gnomon_consumer.runtime.stalls import PartitionPosition
from gnomon_consumer.settings import Settings
from gnomon_schemas.columnar import ColumnarReader
from gnomon_schemas.errors import GnomonError
from gnomon_schemas.topics import Topics

# Between two pushes of a write the server waits, and after half a minute it ends the session. A batch of many tiny
# windows takes seconds, and several times as long where other processes want the cores.
_OTHERS_AT_ONCE = 200
_LIVE_AT_ONCE = 2000


class Logs:
    """The shadow log, read in the deployment's group, and the live log, read without a group.

    `owned` are the open partitions, `failed` those that stopped, with the reason. `still_ours` raises if a topic was
    replaced since the join began. `push` is called every few messages; `finish_write` when partitions were revoked,
    because another member will soon read their progress.
    """

    def __init__(
        self,
        settings: Settings,
        deployment: str,
        reader: ColumnarReader,
        log: Any,
        *,
        still_ours: Callable[[], object],
        push: Callable[[], object],
        finish_write: Callable[[], object],
        spans: JoinSpans,
    ) -> None:
        topics = Topics(settings.require_stream(), settings.topic_prefix)
        self.owned: dict[int, Partition] = {}
        self.failed: dict[int, GnomonError] = {}
        self._limits = settings.join
        self._reader = reader
        self._log = log
        self._still_ours = still_ours
        self._push = push
        self._finish_write = finish_write
        self._spans = spans
        self._kafka_errors = KafkaErrorLog(log)
        self._waited: dict[int, int] = {}
        group = f"{topics.prefix}.{topics.stream}.join.{deployment}"
        self._shadow = GroupTopic(settings, group, topics.shadow(deployment), self._revoked)
        self._live = LiveLog(settings, topics.live)

    def close(self) -> None:
        """Leave the group and the broker."""
        self._shadow.close()
        self._live.close()

    @property
    def unopened(self) -> list[int]:
        """Return the assigned partitions that wait to be opened."""
        return sorted(self._shadow.unopened)

    def open(self, partitions: list[int], progress: Mapping[int, JoinProgress], here: dict[str, Any]) -> None:
        """Begin to read partitions, each from its progress in the database."""
        for partition in partitions:
            known = progress.get(partition)
            self.owned[partition] = Partition(partition, known, here)
            if known is not None:
                self._live.follow(partition, known.next_source)
        self._shadow.open(dict.fromkeys(partitions, OFFSET_BEGINNING))

    def follow(self, timeout: float) -> bool:
        """Read the next messages of both logs; wait at most this many seconds for the log that is behind.

        Returns whether there were any.
        """
        found = self.follow_shadow(0 if self._wants_live else timeout)
        self._push()
        found += self._follow_live(timeout if self._wants_live else 0)
        self._push()
        return found > 0

    @property
    def _wants_live(self) -> bool:
        return any(state.merge_join.wants_live for number, state in self.owned.items() if number not in self.failed)

    def follow_shadow(self, timeout: float) -> int:
        """Read the next messages of the shadow log; return the number of messages and events."""
        messages = self._shadow.consume(self._limits.batch_messages, timeout)
        read = read_shadow(self._reader, values_of(messages))
        for batch in by_partition(messages):
            state = self.owned.get(batch.partition)
            if batch.event is not None:
                self._shadow_event(batch.event[0], state, batch.event[1])
            elif state is not None and state.number not in self.failed:
                self._spans.remember(batch.partition, batch.messages)
                run = ShadowRun(offsets_of(batch.messages), batch.places, read)
                try:
                    for part in run.parts(_OTHERS_AT_ONCE):
                        if (go_on_at := state.shadow(part)) is not None:
                            self._shadow.seek(state.number, go_on_at)
                        self._push()
                except ContradictionError as contradiction:
                    self._fail(state, contradiction)
        for state in self.owned.values():
            if state.merge_join.next_source is not None:
                self._live.follow(state.number, state.merge_join.live_position)
            state.live_reached()
        return len(messages)

    def _follow_live(self, timeout: float) -> int:
        messages = self._live.consume(self._limits.batch_messages, timeout)
        for batch in by_partition(messages):
            state = self.owned.get(batch.partition)
            if state is None:
                continue
            if batch.event is None:
                for first in range(0, len(batch.messages), _LIVE_AT_ONCE):
                    state.live(batch.messages[first : first + _LIVE_AT_ONCE])
                    self._push()
            else:
                self._live_event(batch.event[0], state, batch.event[1])
        return len(messages)

    def balance(self) -> None:
        """Bound the memory: stop reading the log that is ahead until the other one catches up."""
        share = max(1, self._limits.held_messages // max(1, len(self.owned)))
        for partition, state in self.owned.items():
            if state.merge_join.held_ahead > share:
                self._live.hold(partition, True)
            elif state.merge_join.held_ahead <= share // 2:
                self._live.hold(partition, False)
            too_many = state.merge_join.wants_live and state.merge_join.held_rows > share
            if too_many != state.shadow_paused:
                self._shadow.hold([partition], too_many)
                state.shadow_paused = too_many

    def at_the_end(self) -> list[int]:
        """Return partitions that are newly joined to the end of their live log."""
        return [
            partition
            for partition, state in self.owned.items()
            if not state.caught_up and state.at_the_end
            if self._end(partition) <= state.joined_to
        ]

    def look_for_lost_ends(self) -> None:
        """Stop partitions whose live log ends before an offset in the shadow log; call this from time to time.

        If windows wait for live messages and none came since the last call, this asks the broker.
        """
        waiting = {
            partition: state.merge_join.live_position
            for partition, state in self.owned.items()
            if state.merge_join.wants_live and not state.merge_join.held_ahead and partition not in self.failed
        }
        for partition in [at for at, position in waiting.items() if self._waited.get(at) == position]:
            too_short = self.owned[partition].live_too_short(self._end(partition))
            if too_short is not None:
                self._fail(self.owned[partition], too_short)
        self._waited = waiting

    def _end(self, partition: int) -> int:
        """Return the end of the live log; an unreachable broker takes its whole time, for each partition."""
        self._push()
        return self._live.end(partition)

    def positions(self) -> dict[int, PartitionPosition]:
        """Return each partition's position in the shadow log; one that waits to be opened counts as having work."""
        waiting = {partition: PartitionPosition(None, 0, work=True) for partition in self._shadow.unopened}
        return waiting | {
            at: PartitionPosition(
                (state.shadow_position, state.merge_join.live_position), state.shadow_position, state.has_work
            )
            for at, state in self.owned.items()
        }

    def commit_group_offsets(self, ends: Mapping[int, int]) -> None:
        """Commit the offsets of owned partitions, for tools that show a group's lag."""
        ends = {partition: end for partition, end in ends.items() if partition in self.owned}
        if ends and (reason := self._shadow.commit_group_offsets(ends)):
            self._log.info("offsets for lag tools are not committed", reason=reason)

    def _shadow_event(self, error: KafkaError, state: Partition | None, offset: int) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            if state is not None:
                state.shadow_ends(offset)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET and state is not None:
            self._still_ours()
            self._fail(state, state.shadow_lost())
        else:
            self._kafka_errors.handle(error, *self._shadow.needs)

    def _live_event(self, error: KafkaError, state: Partition, offset: int) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            state.live_reached(offset)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._live_out_of_range(state)
        else:
            self._kafka_errors.handle(error, *self._live.needs)

    def _live_out_of_range(self, state: Partition) -> None:
        """Handle a live log that begins after the join's position, or ends before it."""
        self._still_ours()
        self._live.leave([state.number])
        found = self._live.watermarks(state.number)
        position = state.merge_join.live_position
        if found is not None and found[0] > position:
            self._log.warning("beginning of the live log moved", partition=state.number, offset=found[0])
            state.live_reached(found[0])
            self._live.follow(state.number, found[0])
        elif found is not None and (too_short := state.live_too_short(found[1])) is not None:
            self._fail(state, too_short)
        else:
            self._live.follow(state.number, position)

    def _fail(self, state: Partition, error: GnomonError) -> None:
        """Stop one partition; the others continue."""
        self._log.error("partition stopped", partition=state.number, reason=str(error))
        self.failed[state.number] = error
        self._shadow.hold([state.number], True)

    def _revoked(self, partitions: list[int]) -> None:
        self.forget(partitions)
        self._finish_write()

    def forget(self, partitions: list[int]) -> None:
        """Drop the messages of partitions in memory; the next owner begins at the progress in the database."""
        self._live.leave(partitions)
        self._spans.forget(partitions)
        for partition in partitions:
            self.owned.pop(partition, None)
            self.failed.pop(partition, None)

    def reopen(self, partitions: list[int]) -> None:
        """Drop the messages of partitions, and pause them until they are opened again."""
        self.forget(partitions)
        self._shadow.close_again(partitions)
