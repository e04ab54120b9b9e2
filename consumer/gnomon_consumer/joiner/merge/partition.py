"""One partition of a joiner: the positions in its two logs, their identity, and their merge join. No I/O."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from gnomon_consumer.joiner.merge.identity import IdentityError, JoinProgress, check_identity, identity_of
from gnomon_consumer.joiner.merge.merge_join import ContradictionError, MergeJoin
from gnomon_consumer.joiner.merge.shadow_records import Read, ShadowRun
from gnomon_consumer.joiner.merge.window import JoinedWindow, LiveMessage
from gnomon_schemas.errors import DecodeError
from gnomon_schemas.records import DeploymentStart, from_dict


class Partition:
    """A partition, joined from `known` on (None for a new one); `here` names the cluster and the live topic.

    `begins` are DeploymentStarts with their offsets, `ready` the complete windows: both wait for the database. A
    contradiction, which stops the partition, is raised as ContradictionError; a log with another identity as
    IdentityError.
    """

    def __init__(self, number: int, known: JoinProgress | None, here: dict[str, Any]) -> None:
        if known is not None:
            check_identity(number, known.identity, here)
        self.number = number
        self.merge_join = MergeJoin(number, known.next_source if known else None)
        self.begins: list[tuple[DeploymentStart, int]] = []
        self.ready: list[JoinedWindow] = []
        self.caught_up = False
        self.shadow_paused = False
        self._known = known
        self._here = here
        self._expected = 0
        self._first_seen = False
        self._shadow_end = False
        self._ended_at = 0
        self._live_end = 0

    # The shadow log.

    def shadow(self, run: ShadowRun) -> int | None:
        """Accept new messages of the shadow log; return the offset at which to continue if it is not the next one."""
        go_on_at = None
        run = run.since(self._expected)
        if len(run.offsets) and not self._first_seen:
            first = ShadowRun(run.offsets[:1], run.places[:1], run.batch)
            for offsets, read in first.pieces():
                go_on_at = self._begin(int(offsets[0]), read)
            run = run.since(self._expected)
        for offsets, read in run.pieces():
            self._shadow_end = self.caught_up = False
            if isinstance(read, pa.RecordBatch):
                self._expected = int(offsets[-1]) + 1
                self.merge_join.outcomes(offsets, read)
            else:
                self._other(int(offsets[0]), read)
        return go_on_at

    def _begin(self, offset: int, read: pa.RecordBatch | Read) -> int | None:
        """Check the identity in the first record; only then search the middle of the log and trust it."""
        self._shadow_end = self.caught_up = False
        if isinstance(read, tuple) and read[0].endswith(".DeploymentStart"):
            self._check(from_dict(DeploymentStart, read[1]))
        elif isinstance(read, DecodeError):
            raise self._unreadable(offset, read)
        self._first_seen = True
        if self._known is not None and self._known.next_shadow > offset + 1:
            self._expected = self._known.next_shadow
            return self._expected
        return None

    def _other(self, offset: int, read: Read) -> None:
        if isinstance(read, DecodeError):
            raise self._unreadable(offset, read)
        name, record = read
        if name.endswith(".DeploymentStart"):
            start = from_dict(DeploymentStart, record)
            self._check(start)
            self.begins.append((start, offset))
        self._expected = offset + 1
        self.merge_join.shadow(offset, name, record)

    def _unreadable(self, offset: int, error: DecodeError) -> ContradictionError:
        contradiction = ContradictionError(f"shadow partition {self.number}, offset {offset}: {error}")
        contradiction.__cause__ = error
        return contradiction

    def _check(self, start: DeploymentStart) -> None:
        found = identity_of(start)
        for name, value in self._here.items():
            if found[name] != value:
                raise IdentityError(
                    f"partition {self.number}: the shadow log was made from {name} {found[name]}, the live topic here"
                    f" is of {value}; the topic was re-created or this is another broker"
                )
        if self._known is not None:
            check_identity(self.number, self._known.identity, found)

    def shadow_ends(self, offset: int) -> None:
        """Record that the shadow log ends there for now."""
        self._shadow_end = self._shadow_end or offset >= self._expected
        self._ended_at = max(self._ended_at, offset)

    def shadow_lost(self) -> ContradictionError:
        """Return the error for a next offset that the shadow log does not hold."""
        return ContradictionError(
            f"shadow partition {self.number} no longer holds offset {self._expected}, the position of the join:"
            " it expired or was re-created"
        )

    # The live log.

    def live(self, messages: Sequence[LiveMessage]) -> None:
        """Accept messages of the live log, in offset order."""
        if messages:
            self.merge_join.live(messages)
            self._live_end = max(self._live_end, (messages[-1].offset() or 0) + 1)

    def live_reached(self, offset: int = 0) -> None:
        """Record that the live log holds no further message below `offset`, or below an earlier such offset."""
        self._live_end = max(self._live_end, offset)
        self.merge_join.live_reached(self._live_end)

    def live_too_short(self, end: int) -> ContradictionError | None:
        """Return the error for a live log that ends before an offset that the shadow log refers to."""
        if end >= (self.merge_join.next_source or 0):
            return None
        return ContradictionError(
            f"live partition {self.number} ends at {end}, before {self.merge_join.next_source}, which the shadow log"
            " has seen: the topic was re-created or was truncated"
        )

    # The remaining work.

    def complete_windows(self) -> list[JoinedWindow]:
        """Return all complete windows that are not yet written; they stay in `ready` until the caller clears it."""
        self.ready += self.merge_join.pop_complete()
        return self.ready

    @property
    def held(self) -> int:
        """Return the number of messages in memory."""
        return self.merge_join.held_ahead + self.merge_join.held_rows

    @property
    def joined_to(self) -> int:
        """Return the live offset below which everything is joined: transaction markers may follow the last window."""
        sealed = self.merge_join.next_source or 0
        return sealed if self.merge_join.held_ahead else max(sealed, self._live_end)

    @property
    def shadow_position(self) -> int:
        """Return the next offset of the shadow log: transaction markers may follow the last window."""
        return max(self._expected, self._ended_at)

    @property
    def has_work(self) -> bool:
        """Return whether messages in memory wait to be joined or written."""
        return bool(self.ready) or not self.merge_join.idle

    @property
    def at_the_end(self) -> bool:
        """Return whether every record of the shadow log is joined and written."""
        return self._shadow_end and self.merge_join.idle and not self.ready
