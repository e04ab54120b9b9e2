"""A shadow log read in batches of any division, with redelivery, gives the same result as record by record."""

import uuid
from typing import Any

import numpy as np
import pytest
from confluent_kafka import KafkaError, Message
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.drawn_logs import Live, Logs, logs
from tests.support.logs import CODECS, row, seal, start

from gnomon_consumer.joiner.merge.identity import JoinProgress, identity_of
from gnomon_consumer.joiner.merge.merge_join import ContradictionError
from gnomon_consumer.joiner.merge.partition import Partition
from gnomon_consumer.joiner.merge.shadow_records import NONE, ShadowBatch, ShadowRun, read_shadow
from gnomon_consumer.joiner.reading.message_batches import by_partition, values_of
from gnomon_schemas.columnar import ColumnarReader
from gnomon_schemas.records import DeploymentStart, from_dict
from gnomon_schemas.store import packaged_schemas

READER = ColumnarReader(packaged_schemas())


def take(partition: Partition, offsets: list[int], values: list[bytes], others: int = 200) -> list[int | None]:
    run = ShadowRun(np.array(offsets, np.int64), np.arange(len(offsets)), read_shadow(READER, values))
    return [partition.shadow(part) for part in run.parts(others)]


def messages(logs: Logs) -> list[bytes]:
    return [CODECS[step.name.rpartition(".")[2]].encode(step.record) for step in logs.shadow]


def outcome(partition: Partition, found: list[int | None], live: list[Live]) -> Any:
    """Return everything about a partition that is visible from outside."""
    partition.live(live)
    windows = [
        (window.seal.start_offset, window.shadow_offset, window.matches.shadow.to_pylist(), window.matches.values)
        for window in partition.complete_windows()
    ]
    begins = [(start.start_offset, offset) for start, offset in partition.begins]
    asked = [offset for offset in found if offset is not None]
    return windows, begins, asked, partition.held, partition.merge_join.next_source, partition.caught_up


@settings(max_examples=100, deadline=None)
@given(logs(), st.data())
def test_any_cut_of_the_log_gives_the_same(logs: Logs, data: st.DataObject) -> None:
    values = messages(logs)
    known = None
    if data.draw(st.booleans()):
        stands = data.draw(st.sampled_from(logs.windows))[0]
        (next_shadow,) = [n for n, step in enumerate(logs.shadow) if step.record.get("end_offset") == stands][:1] or [0]
        known = JoinProgress(stands, next_shadow + 1, identity_of(from_dict(DeploymentStart, logs.shadow[0].record)))
    one_by_one, in_batches = Partition(0, known, {}), Partition(0, known, {})
    single = [found for at, value in enumerate(values) for found in take(one_by_one, [at], [value])]
    cut: list[int | None] = []
    at = 0
    while at < len(values):
        back, size = data.draw(st.integers(0, at)), data.draw(st.integers(1, 12))
        offsets = [*range(back, at), *range(at, min(at + size, len(values)))]
        cut += take(in_batches, offsets, [values[offset] for offset in offsets], data.draw(st.integers(1, 4)))
        at += size
    assert outcome(in_batches, cut, logs.live) == outcome(one_by_one, single, logs.live)


@pytest.mark.parametrize("at", range(1, 6))
def test_a_record_that_cannot_be_read_stops_the_partition_where_it_stands(at: int) -> None:
    window = str(uuid.UUID(int=1))
    values = [CODECS["DeploymentStart"].encode(start(0, "c", None))]
    values += [CODECS["ShadowPrediction"].encode(row(0, n, f"r{n}", window)) for n in range(4)]
    values.append(CODECS["SamplingWindow"].encode(seal(0, 0, 4, [], window)))
    values[at] = values[at][:-1]
    with pytest.raises(ContradictionError, match=f"shadow partition 0, offset {at}: "):
        take(Partition(0, None, {}), list(range(6)), values)


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 5))
def test_parts_are_the_run_with_few_records_that_are_no_outcomes(outcomes: list[bool], others: int) -> None:
    row_of = np.where(np.array(outcomes, bool), np.arange(len(outcomes)), -1)
    run = ShadowRun(np.arange(len(outcomes)) * 3, np.arange(len(outcomes)), ShadowBatch(NONE, row_of, {}))
    parts = list(run.parts(others))
    assert [offset for part in parts for offset in part.offsets.tolist()] == run.offsets.tolist()
    assert [place for part in parts for place in part.places.tolist()] == run.places.tolist()
    counts = [int((row_of[part.places] < 0).sum()) for part in parts]
    assert all(count == others for count in counts[:-1])
    assert all(count <= others for count in counts[-1:])


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=30))
def test_batches_keep_the_order_of_each_partition(drawn: list[tuple[int, bool]]) -> None:
    end = KafkaError(KafkaError._PARTITION_EOF)
    given_messages = [
        Message(topic="t", partition=partition, offset=at, value=b"%d" % at, error=end if event else None)
        for at, (partition, event) in enumerate(drawn)
    ]
    records = [message for message in given_messages if message.error() is None]
    assert values_of(given_messages) == [message.value() for message in records]
    found: dict[int, list[tuple[int, bool]]] = {}
    for batch in by_partition(given_messages):
        own = found.setdefault(batch.partition, [])
        own += [(message.offset() or 0, False) for message in batch.messages]
        assert [records[place] for place in batch.places.tolist()] == list(batch.messages)
        if batch.event is not None:
            own.append((batch.event[1], True))
    wanted: dict[int, list[tuple[int, bool]]] = {}
    for at, (partition, event) in enumerate(drawn):
        wanted.setdefault(partition, []).append((at, event))
    assert found == wanted
