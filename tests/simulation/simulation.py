"""One seed: a world with faults, then a quiet time in which everything has to get through."""

import traceback
from dataclasses import dataclass, field

from greenlet import getcurrent

from tests.simulation.broker import Broker
from tests.simulation.database import Database
from tests.simulation.group import Group
from tests.simulation.invariants import Invariants
from tests.simulation.nemesis import Nemesis
from tests.simulation.processes import DEPLOYMENT, JOIN_GROUP, NAMES, SCORE_GROUP, Fleet, settings_of, simulated
from tests.simulation.traffic import Traffic
from tests.simulation.world import World

FAULTS_S = 15.0
RECOVERY_S = 30.0
_TICK_S = 0.5


@dataclass
class Result:
    """What came of a seed; `violation` is empty when everything held."""

    seed: int
    violation: str = ""
    minutes: float = 0.0
    steps: int = 0
    captures: int = 0
    windows: int = 0
    pairs: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)


def run(seed: int) -> Result:
    """Simulate one seed to its end."""
    assert getcurrent().parent is None
    world = World(seed)
    dice = world.dice
    broker, database = Broker(world), Database(world)
    settings = settings_of(
        dice.choice((1.5, 3.0, 5.0)),
        dice.choice((0.0, 0.0, 1.0, 6.0)),
        dice.choice((4, 1000)),
        dice.choice(("default", "house", "senate")),
        dice.choice((0, 7)),
    )
    partitions = dice.choice((1, 2, 3))
    broker.grow(NAMES.live, partitions)
    broker.grow(NAMES.dead_letters, 1)
    shadow = NAMES.shadow(DEPLOYMENT)
    broker.writable = {shadow, NAMES.dead_letters}.__contains__  # invariant H

    def silent() -> bool:
        return broker.silent_until > world.now

    broker.groups[SCORE_GROUP] = Group(world, lambda: len(broker.topics[NAMES.live]), False, silent)
    broker.groups[JOIN_GROUP] = Group(world, lambda: len(broker.topics.get(shadow, [])), True, silent)
    traffic = Traffic(world, broker, NAMES.live, dice.choice((1.5, 3.0, 8.0)))
    invariants = Invariants(shadow, traffic, database, settings.score.seed)
    broker.on_commit, database.on_commit = invariants.shadow_log, invariants.applied
    fleet = Fleet(world, broker, database, settings, dice.choice((0.001, 0.02, 0.2)))
    nemesis = Nemesis(world, broker, database, fleet, invariants)
    result = Result(seed)
    with simulated(fleet):
        try:
            _play(world, broker, traffic, fleet, nemesis, invariants)
        except AssertionError as violation:
            result.violation = f"{type(violation).__name__}: {violation}"
            result.history = [*world.log, *traceback.format_exc().splitlines()]
        finally:
            world.end()
    result.minutes, result.steps, result.faults = world.now / 60, world.steps, world.counts
    result.captures = sum(map(len, traffic.captured.values()))
    result.windows, result.pairs = invariants.windows, invariants.pairs
    return result


def _play(
    world: World, broker: Broker, traffic: Traffic, fleet: Fleet, nemesis: Nemesis, invariants: Invariants
) -> None:
    def tick() -> None:
        broker.tick()
        world.later(_TICK_S, tick)

    tick()
    traffic.start()
    for name in nemesis.fleet_names:
        fleet.start(name)
    nemesis.start(FAULTS_S)
    world.run(FAULTS_S)
    nemesis.stop()
    ends = {log.number: max(traffic.captured.get(log.number, ()), default=-1) + 1 for log in broker.topics[NAMES.live]}
    world.run(FAULTS_S + 5.0)
    traffic.stopped = True
    world.run(FAULTS_S + RECOVERY_S)
    invariants.at_the_end(ends)
