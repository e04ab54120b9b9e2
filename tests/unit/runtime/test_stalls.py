"""A partition with messages to read that makes no progress is named once; a member without partitions says why."""

from typing import Any

import pytest

from gnomon_consumer.runtime.metrics import JoinerMetrics
from gnomon_consumer.runtime.progress import standby_watch
from gnomon_consumer.runtime.stalls import STANDBY, PartitionPosition, StallWatch
from gnomon_consumer.settings import Settings


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def warning(self, event: str, **values: Any) -> None:
        self.lines.append((event, values))

    info = warning


class World:
    """A watch with a clock and a log."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log = Log()
        self.watch = StallWatch(self.log, lambda: self.now)

    def look(self, at: float, positions: dict[int, int], ends: dict[int, int], work: bool = False) -> list[str]:
        self.now = at
        before = len(self.log.lines)
        self.watch.look({number: PartitionPosition(offset, offset, work) for number, offset in positions.items()}, ends)
        return [event for event, _ in self.log.lines[before:]]


@pytest.fixture
def world() -> World:
    return World()


def test_one_partition_of_three_is_named_once_and_when_it_moves_again(world: World) -> None:
    said = []
    for turn in range(8):
        at = 5.0 * turn
        said += world.look(at, {0: turn, 1: 7, 2: 10}, {0: 100, 1: 50, 2: 10})
    assert said == ["partition stalled"]
    assert world.log.lines == [("partition stalled", {"partition": 1, "next_offset": 7, "end": 50, "seconds": 30})]
    assert [world.watch.seconds(partition) for partition in (0, 1, 2)] == [0, 35, 0]
    assert world.look(40, {0: 9, 1: 8, 2: 10}, {0: 100, 1: 50, 2: 10}) == ["partition makes progress again"]
    assert world.watch.seconds(1) == 0


def test_one_at_its_end_never_stalls_and_the_time_counts_from_when_something_came(world: World) -> None:
    world.look(0, {0: 5}, {0: 5})
    assert world.look(1000, {0: 5}, {0: 5}) == []
    world.look(1005, {0: 5}, {0: 6})
    assert world.look(1030, {0: 5}, {0: 6}) == []
    assert world.look(1035, {0: 5}, {0: 6}) == ["partition stalled"]


def test_an_end_that_the_broker_does_not_say_counts_as_something_to_read(world: World) -> None:
    world.look(0, {0: 5}, {})
    assert world.look(31, {0: 5}, {}) == ["partition stalled"]
    assert world.log.lines[0][1]["end"] == "unknown"


def test_what_was_read_and_waits_to_be_written_counts_too(world: World) -> None:
    world.look(0, {0: 5}, {0: 5}, work=True)
    assert world.look(30, {0: 5}, {0: 5}, work=True) == ["partition stalled"]


def test_seconds_go_on_without_a_look(world: World) -> None:
    world.look(0, {0: 5}, {0: 9})
    world.now = 500
    assert world.watch.seconds(0) == 500


def test_a_partition_that_was_taken_away_is_forgotten(world: World) -> None:
    world.look(0, {0: 5, 1: 5}, {0: 9, 1: 9})
    assert world.look(30, {1: 5}, {1: 9}) == ["partition stalled"]
    assert world.watch.seconds(0) == 0
    assert world.look(35, {0: 5, 1: 5}, {0: 9, 1: 9}) == []


def test_metrics_show_the_partitions_that_are_owned_and_no_other() -> None:
    metrics = JoinerMetrics("s", "d")
    metrics.by_partition.show({0: 5, 3: 10}, {0: 9, 3: 10}, lambda partition: 40.0 * (partition == 0))

    def shown(name: str) -> dict[str, float]:
        (family,) = [one for one in metrics.registry.collect() if one.name == f"gnomon_join_partition_{name}"]
        return {sample.labels["partition"]: sample.value for sample in family.samples}

    assert shown("position") == {"0": 5, "3": 10}
    assert shown("behind") == {"0": 4, "3": 0}
    assert shown("stalled_seconds") == {"0": 40, "3": 0}
    metrics.by_partition.show({3: 11}, {}, lambda _: 0.0)
    assert shown("position") == {"3": 11}
    assert shown("behind") == {"3": 0}


class Member:
    """A watch of whether a member has partitions, with a clock and a log."""

    def __init__(self, protocol: str = "classic") -> None:
        self.now = 0.0
        self.log = Log()
        settings = Settings.model_validate({"kafka": {"properties": {"group.protocol": protocol}}})
        self.watch = standby_watch(settings, self.log, lambda: self.now)

    def look(self, at: float, has_partitions: bool) -> int:
        """Return the number of lines until now."""
        self.now = at
        self.watch.look(has_partitions)
        return len(self.log.lines)


def test_a_member_without_partitions_says_so_once_and_again_after_it_had_some() -> None:
    member = Member()
    assert [member.look(at, False) for at in (0, 29, 30, 90)] == [0, 0, 1, 1]
    assert member.log.lines == [("no partitions", {"seconds": 30, "reason": STANDBY})]
    assert member.look(91, True) == 1
    assert [member.look(at, False) for at in (92, 121, 122)] == [1, 1, 2]


@pytest.mark.parametrize(("protocol", "named"), [("classic", False), ("consumer", True), ("CONSUMER", True)])
def test_the_newer_group_protocol_is_named_as_a_reason(protocol: str, named: bool) -> None:
    member = Member(protocol)
    member.look(0, False)
    assert member.look(31, False) == 1
    assert ("Kafka 4.0" in member.log.lines[0][1]["reason"]) == named
