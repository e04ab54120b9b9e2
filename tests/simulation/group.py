"""A consumer group's coordinator: members, generations, and the owner of each partition."""

from collections.abc import Callable
from dataclasses import dataclass, field

from confluent_kafka import KafkaError

from tests.simulation.world import Process, World

SESSION_S = 10.0


@dataclass(eq=False)
class Member:
    """One member as the coordinator knows it, and as its client was informed (`has`, `generation`)."""

    id: str
    process: Process
    has: set[int] = field(default_factory=set)
    generation: int = -1
    last_heard: float = 0.0
    expired: bool = False


class Group:
    """A group. With `eager`, each rebalance revokes all partitions first."""

    def __init__(self, world: World, partitions: Callable[[], int], eager: bool, silent: Callable[[], bool]) -> None:
        self.world = world
        self.eager = eager
        self.generation = 0
        self.members: dict[str, Member] = {}
        self.committed: dict[int, int] = {}
        self.pending: set[int] = set()
        self._partitions = partitions
        self._silent = silent
        self._assigned = 0
        self._wanted = False
        self._target: dict[int, str] = {}
        self._number = 0

    def join(self, process: Process) -> Member:
        """Add a member; a rebalance follows."""
        self._number += 1
        member = Member(f"{process.name}-{self._number}", process)
        self.rebalance()
        member.last_heard = self.world.now
        self.members[member.id] = member
        return member

    def leave(self, member: Member) -> None:
        """Remove a member that leaves."""
        self.rebalance()
        self.members.pop(member.id, None)

    def rebalance(self) -> None:
        """Assign the partitions again, as soon as every member can be asked."""
        self._wanted = True
        self.world.on_change()

    @property
    def rests(self) -> bool:
        """Return whether nothing is due after a tick: no rebalance, and no silent member."""
        silent = any(member.last_heard != self.world.now for member in self.members.values())
        return not (self._wanted or silent or self._assigned != self._partitions())

    def heard(self, at: float) -> None:
        """Note the heartbeats of every member up to a time, for ticks that were left out."""
        for member in self.members.values():
            member.last_heard = max(member.last_heard, at)

    def refuses(self, member: tuple[str, int]) -> KafkaError | None:
        """Return why a member may not commit: the group's generation fences it."""
        if member[0] not in self.members:
            return KafkaError(KafkaError.UNKNOWN_MEMBER_ID, "unknown member", False, False, True)
        if member[1] != self.generation:
            return KafkaError(KafkaError.ILLEGAL_GENERATION, "another generation", False, False, True)
        return None

    def tick(self) -> None:
        """Process heartbeats, expire silent members, and rebalance when every member can be asked."""
        now = self.world.now
        for member in list(self.members.values()):
            reachable = not member.process.dead and member.process.frozen_until <= now and not self._silent()
            if reachable:
                member.last_heard = now
            elif now - member.last_heard > SESSION_S:
                member.expired = True
                del self.members[member.id]
                self._wanted = True
        self._wanted = self._wanted or self._assigned != self._partitions()
        if self._wanted and all(member.last_heard == now for member in self.members.values()):
            self._rebalance()

    def _rebalance(self) -> None:
        self._wanted = False
        self.generation += 1
        self._assigned = self._partitions()
        names = sorted(self.members)
        keep = dict(self._target)
        self._target = {}
        for partition in range(self._assigned if names else 0):
            stays = not self.eager and keep.get(partition) in self.members and self.world.chance(0.5)
            self._target[partition] = keep[partition] if stays else names[(partition + self.generation) % len(names)]
        for member in self.members.values():
            member.generation = self.generation

    def next_event(self, member: Member) -> tuple[str, set[int]] | None:
        """Return the next event for a member's client: partitions lost, revoked or assigned."""
        if member.expired:
            return "lost", set(member.has)
        target = {partition for partition, owner in self._target.items() if owner == member.id}
        gone = set(member.has) if self.eager and member.has != target else member.has - target
        if gone:
            return "revoke", gone
        taken = {partition for other in self.members.values() for partition in other.has if other is not member}
        if self.eager and target & taken:
            return None
        given = target - member.has - taken
        return ("assign", given) if given else None
