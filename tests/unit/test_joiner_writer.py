"""The thread that writes windows: in order, one batch at a time, and after an error everything is handed out again."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from tests.shadow_log import seal, start

from gnomon_consumer.joiner.assemble import PAIRS, Assembled, assemble
from gnomon_consumer.joiner.features import Layout
from gnomon_consumer.joiner.partition import Partition
from gnomon_consumer.joiner.shadows import Read, ShadowBatch, ShadowRun, outcomes
from gnomon_consumer.joiner.sink import ProgressMovedError, Sink
from gnomon_consumer.joiner.window import JoinedWindow
from gnomon_consumer.joiner.writer import Writer
from gnomon_schemas.columnar import ColumnarReader
from gnomon_schemas.store import MemorySchemas

READER = ColumnarReader(MemorySchemas([]))


class Gate(Sink):
    """A sink that writes nowhere, and not before it is let; `fails` is what the next write raises."""

    def __init__(self) -> None:
        self.wrote: list[list[int]] = []
        self.open = threading.Event()
        self.begun = threading.Event()
        self.fails: Exception | None = None

    def assemble(
        self, windows: Sequence[JoinedWindow], reader: ColumnarReader, before_asking: Callable[[], None] = lambda: None
    ) -> Assembled:
        return assemble(1, windows, reader, lambda _: Layout((), (), frozenset()))

    def write(self, windows: Sequence[JoinedWindow], assembled: Assembled) -> int:
        self.begun.set()
        assert self.open.wait(30)
        if self.fails is not None:
            raise self.fails
        assert assembled.batch.schema == PAIRS
        self.wrote.append([window.seal["start_offset"] for window in windows])
        return len(windows)


def sealed(partition: Partition, offset: int, *records: tuple[str, dict[str, Any]]) -> None:
    """Hand a partition records of its shadow log, from `offset` on; there is no live log to wait for."""
    places = np.arange(len(records))
    others: dict[int, Read] = {at: (f"gnomon.v1.{name}", record) for at, (name, record) in enumerate(records)}
    read = ShadowBatch(outcomes([]), np.full(len(records), -1), others)
    partition.shadow(ShadowRun(places + offset, places, read))


def window(partition: Partition, begin: int) -> None:
    gap = {"reason": "expired", "lost": 1}
    sealed(partition, begin + 1, ("SamplingWindow", seal(0, begin, begin + 1, [], f"w{begin}", gap=gap)))


@pytest.fixture
def partition() -> Partition:
    made = Partition(0, None, {})
    sealed(made, 0, ("DeploymentStart", start(0, "c", None)))
    return made


def test_the_next_batch_waits_for_the_one_under_way(partition: Partition) -> None:
    sink = Gate()
    writer = Writer(sink)
    assert writer.settle() is None
    window(partition, 0)
    assert partition.collect()
    writer.assemble([partition], READER)
    writer.start()
    assert sink.begun.wait(30)
    window(partition, 1)
    window(partition, 2)
    assert partition.collect()
    writer.assemble([partition], READER)
    writer.start()
    assert writer.full
    assert not partition.collect()
    assert len(partition.ready) == 3
    assert not partition.at_the_end
    assert not writer.ended
    sink.open.set()
    first = writer.settle()
    assert first is not None
    assert ([one.seal["start_offset"] for one in first[0]], first[1]) == ([0], 1)
    assert len(partition.ready) == 2
    writer.start()
    second = writer.settle()
    assert second is not None
    assert second[1] == 2
    assert sink.wrote == [[0], [1, 2]]
    assert partition.ready == []
    writer.close()


@pytest.mark.parametrize("error", [ProgressMovedError(0), OSError("gone")])
def test_after_an_error_everything_is_handed_out_again(partition: Partition, error: Exception) -> None:
    sink = Gate()
    writer = Writer(sink)
    for begin in range(2):
        window(partition, begin)
        writer.assemble([partition], READER)
        writer.start()
    sink.fails = error
    sink.open.set()
    with pytest.raises(type(error)):
        writer.settle()
    assert writer.settle() is None
    assert not writer.full
    sink.fails = None
    assert partition.collect()
    writer.assemble([partition], READER)
    writer.start()
    assert writer.settle() is not None
    assert sink.wrote == [[0, 1]]
    writer.close()


def test_what_waits_can_be_called_back_and_what_is_under_way_ends(partition: Partition) -> None:
    sink = Gate()
    writer = Writer(sink)
    for begin in range(2):
        window(partition, begin)
        writer.assemble([partition], READER)
        writer.start()
    sink.open.set()
    writer.recall()
    assert sink.wrote == [[0]]
    assert not writer.full
    assert writer.ended
    assert partition.collect()
    assert writer.settle() is not None
    assert [one.seal["start_offset"] for one in partition.hand_out()] == [1]
    writer.close()


def test_a_dropped_writer_forgets_how_it_ended(partition: Partition) -> None:
    sink = Gate()
    writer = Writer(sink)
    window(partition, 0)
    writer.assemble([partition], READER)
    writer.start()
    sink.fails = OSError("gone")
    sink.open.set()
    writer.drop()
    assert writer.settle() is None
    assert len(partition.hand_out()) == 1
    writer.close()
