"""The faults of a simulation: random, several at a time, and none after the faults' time."""

from collections.abc import Callable

from tests.simulation.broker import Broker
from tests.simulation.database import Database
from tests.simulation.invariants import Invariants
from tests.simulation.processes import NAMES, Fleet
from tests.simulation.world import World

_MOST_PARTITIONS = 5


class Nemesis:
    """Causes faults until it is stopped; `fleet_names` are the existing processes."""

    def __init__(self, world: World, broker: Broker, database: Database, fleet: Fleet, invariants: Invariants) -> None:
        self.fleet_names = [
            *(f"score-{at}" for at in range(world.dice.choice((1, 2, 2)))),
            *(f"join-{at}" for at in range(world.dice.choice((1, 1, 2)))),
        ]
        self._world = world
        self._broker = broker
        self._database = database
        self._fleet = fleet
        self._invariants = invariants
        self._stopped = False
        faults: list[Callable[[], None]] = [
            self._kill, self._kill, self._freeze, self._silence, self._lose_database, self._fill_disk, self._rebalance,
            self._remove, self._grow, self._forget_offsets,
        ]  # fmt: skip
        self._faults = world.dice.sample(faults, world.dice.randint(1, len(faults)))

    def start(self, seconds: float, most: int) -> None:
        """Cause up to `most` faults within so many seconds."""
        for _ in range(self._world.dice.randint(0, most)):
            self._world.later(self._world.dice.uniform(1, seconds), self._strike)

    def stop(self) -> None:
        """Cause no more faults, and end those that continue by themselves."""
        self._stopped = self._world.calm = True
        self._broker.silent_until = self._database.away_until = self._database.full_until = 0.0
        for process in self._fleet.running.values():
            process.frozen_until = 0.0

    def _strike(self) -> None:
        if not self._stopped:
            self._world.dice.choice(self._faults)()

    def _name(self) -> str:
        return self._world.dice.choice(self.fleet_names)

    def _until(self, least: float, most: float) -> float:
        return self._world.now + self._world.dice.uniform(least, most)

    def _kill(self) -> None:
        name = self._name()
        if not self._fleet.running[name].dead:
            self._world.count("kill -9")
            self._world.note(name)
            self._fleet.kill(name, self._world.dice.uniform(0, 6))

    def _freeze(self) -> None:
        name = self._name()
        self._world.count("frozen")
        process = self._fleet.running[name]
        self._world.freeze(process, self._until(0.5, 18))
        self._world.note(f"{name} until {process.frozen_until:.1f}")

    def _silence(self) -> None:
        self._world.count("broker silent")
        self._broker.silence(self._until(0.5, 14))

    def _lose_database(self) -> None:
        self._world.count("database away")
        self._database.away_until = self._until(0.2, 8)

    def _fill_disk(self) -> None:
        self._world.count("disk full")
        self._database.full_until = self._until(0.5, 8)

    def _rebalance(self) -> None:
        self._world.count("rebalance")
        for group in self._broker.groups.values():
            group.rebalance()

    def _remove(self) -> None:
        """Remove the beginning of a live partition, as retention or DeleteRecords does."""
        log = self._world.dice.choice(self._broker.topics[NAMES.live])
        if log.high > log.low:
            self._world.count("live log truncated")
            self._invariants.removed_from_live = True
            log.low = self._world.dice.randint(log.low + 1, log.high)
            self._world.note(f"partition {log.number} begins at {log.low}")

    def _forget_offsets(self) -> None:
        """Delete the group's offsets, as if it was empty for too long or somebody deleted them."""
        self._world.count("group offsets forgotten")
        for group in self._broker.groups.values():
            group.committed.clear()

    def _grow(self) -> None:
        partitions = len(self._broker.topics[NAMES.live])
        if partitions < _MOST_PARTITIONS:
            self._world.count("partition added")
            self._broker.grow(NAMES.live, partitions + 1)
