"""One seed: a world with faults, then a quiet time in which everything must be joined."""

import traceback
from dataclasses import dataclass, field, replace

from greenlet import getcurrent

from tests.simulation.broker import Broker, Ticks
from tests.simulation.database import Database
from tests.simulation.group import Group
from tests.simulation.invariants import Invariants
from tests.simulation.nemesis import Nemesis
from tests.simulation.processes import DEPLOYMENT, JOIN_GROUP, NAMES, SCORE_GROUP, Fleet, settings_of, simulated
from tests.simulation.traffic import Traffic
from tests.simulation.world import World


@dataclass(frozen=True)
class Course:
    """The length of a history and the rate of its events; times in seconds."""

    faults_s: float = 15.0
    recovery_s: float = 30.0
    windows_s: tuple[float, ...] = (1.5, 3.0, 5.0)
    captures_per_second: tuple[float, ...] = (1.5, 3.0, 8.0)
    most_faults: int = 10
    tick_s: float = 0.5
    idle: float = 1.0
    """The factor by which an idle process waits longer than it asked."""


def lasting(hours: float) -> Course:
    """Return the course of a long history: windows of minutes, little traffic, about two faults an hour.

    It ends hours later: a window may last one, and a process that has nothing to do waits half of one.
    """
    return Course(
        hours * 3600, 4 * 3600.0, (60.0, 900.0, 3600.0), (0.002, 0.01, 0.1), max(10, round(4 * hours)), 8.0, 1000.0
    )


def quiet(hours: float) -> Course:
    """Return the course of weeks in which little happens: 0.7 to 18 captures an hour, at most one fault an hour.

    The clock goes from event to event, so that an hour costs only what happens in it. A process that has nothing to do
    waits for up to two hours, so that the end takes twice as long as that of `lasting`.
    """
    course = lasting(hours)
    return replace(
        course,
        recovery_s=2 * course.recovery_s,
        captures_per_second=(0.0002, 0.001, 0.005),
        most_faults=max(10, round(hours)),
        idle=4 * course.idle,
    )


@dataclass
class Result:
    """The result of a seed; `violation` is empty if every invariant held."""

    seed: int
    violation: str = ""
    minutes: float = 0.0
    steps: int = 0
    captures: int = 0
    windows: int = 0
    pairs: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)


def run(seed: int, course: Course = Course()) -> Result:
    """Simulate one seed to its end."""
    assert getcurrent().parent is None
    world = World(seed, course.idle)
    dice = world.dice
    broker, database = Broker(world), Database(world)
    settings = settings_of(
        dice.choice(course.windows_s),
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
    traffic = Traffic(world, broker, NAMES.live, dice.choice(course.captures_per_second))
    invariants = Invariants(shadow, traffic, database, settings.score.seed)
    broker.on_commit, database.on_commit = invariants.shadow_log, invariants.applied
    fleet = Fleet(world, broker, database, settings, dice.choice((0.001, 0.02, 0.2)))
    nemesis = Nemesis(world, broker, database, fleet, invariants)
    result = Result(seed)
    with simulated(fleet):
        try:
            _play(course, world, broker, traffic, fleet, nemesis, invariants)
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
    course: Course,
    world: World,
    broker: Broker,
    traffic: Traffic,
    fleet: Fleet,
    nemesis: Nemesis,
    invariants: Invariants,
) -> None:
    Ticks(broker, course.tick_s)
    traffic.start()
    for name in nemesis.fleet_names:
        fleet.start(name)
    nemesis.start(course.faults_s, course.most_faults)
    world.run(course.faults_s)
    nemesis.stop()
    ends = {log.number: max(traffic.captured.get(log.number, ()), default=-1) + 1 for log in broker.topics[NAMES.live]}
    world.run(course.faults_s + 5.0)
    traffic.stopped = True
    world.run(course.faults_s + course.recovery_s)
    invariants.at_the_end(ends)
