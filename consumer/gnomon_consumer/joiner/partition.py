"""One partition of a joiner: how far its two logs are read, whose they are, and their merge join. No I/O."""

from typing import Any

from gnomon_consumer.joiner.identity import IdentityError, Progress, check_identity, identity_of
from gnomon_consumer.joiner.pairing import Pairing, PairingError
from gnomon_consumer.joiner.shadows import Read, ShadowRow
from gnomon_consumer.joiner.window import JoinedWindow, LiveMessage
from gnomon_schemas.codec import Record
from gnomon_schemas.errors import DecodeError


class Partition:
    """Joined from `known` on, None for a new one; `here` says which cluster and live topic are read.

    `begins` are DeploymentStarts with their offsets, `ready` the windows that are complete: both wait for the database.
    Whatever stops the partition is raised as PairingError, and a log of somebody else as IdentityError.
    """

    def __init__(self, number: int, known: Progress | None, here: dict[str, Any]) -> None:
        if known is not None:
            check_identity(number, known.identity, here)
        self.number = number
        self.pairing = Pairing(number, known.next_source if known else None)
        self.begins: list[tuple[Record, int]] = []
        self.ready: list[JoinedWindow] = []
        self.caught_up = False
        self.shadow_paused = False
        self._known = known
        self._here = here
        self._expected = 0
        self._first_seen = False
        self._shadow_end = False
        self._live_end = 0

    # The shadow log.

    def shadow(self, offset: int, read: Read) -> int | None:
        """Take a record of the shadow log; return the offset at which to go on when it is not the next one.

        The first record says whose log this is; only then is the middle of it trusted.
        """
        if offset < self._expected:
            return None
        self._shadow_end = self.caught_up = False
        if isinstance(read, DecodeError):
            raise PairingError(f"shadow partition {self.number}, offset {offset}: {read}") from read
        name, record = read
        if self._first_seen and isinstance(record, ShadowRow):  # nearly all are
            self._expected = offset + 1
            self.pairing.row(offset, record)
            return None
        first, self._first_seen = not self._first_seen, True
        begins = name.endswith(".DeploymentStart")
        if begins:
            self._check(record)
        if first and self._known is not None and self._known.next_shadow > offset + 1:
            self._expected = self._known.next_shadow
            return self._expected
        if begins:
            self.begins.append((record, offset))
        self._expected = offset + 1
        self.pairing.shadow(offset, name, record)
        return None

    def _check(self, start: Record) -> None:
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
        """Say that the shadow log ends there for now."""
        self._shadow_end = self._shadow_end or offset >= self._expected

    def shadow_lost(self) -> PairingError:
        """What to say when the shadow log has no such offset as the next one."""
        return PairingError(
            f"shadow partition {self.number} no longer holds offset {self._expected}, where the join stands:"
            " it expired or was re-created"
        )

    # The live log.

    def live(self, messages: list[LiveMessage]) -> None:
        """Take messages of the live log, in the order of their offsets."""
        if messages:
            self.pairing.live(messages)
            self._live_end = max(self._live_end, (messages[-1].offset() or 0) + 1)

    def live_reached(self, offset: int = 0) -> None:
        """Say that nothing below `offset`, nor below the offsets said before, is left in the live log to hand over."""
        self._live_end = max(self._live_end, offset)
        self.pairing.live_reached(self._live_end)

    def live_too_short(self, end: int) -> PairingError | None:
        """What to say when the live log ends before what the shadow log has seen."""
        if end >= (self.pairing.next_source or 0):
            return None
        return PairingError(
            f"live partition {self.number} ends at {end}, before {self.pairing.next_source}, which the shadow log has"
            " seen: the topic was re-created or lost its end"
        )

    # What is left to do.

    def take(self) -> list[JoinedWindow]:
        """Everything that is complete and not yet written; it stays `ready` until that is cleared."""
        self.ready += self.pairing.take()
        return self.ready

    @property
    def held(self) -> int:
        """Messages in memory."""
        return self.pairing.held_ahead + self.pairing.held_rows

    @property
    def at_the_end(self) -> bool:
        """Whether everything that the shadow log holds is joined and written."""
        return self._shadow_end and self.pairing.idle and not self.ready
