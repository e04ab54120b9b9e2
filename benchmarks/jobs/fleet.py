"""`python -m benchmarks fleet`: sampler and ledger at the size of a fleet, on one core and a simulated clock.

Every member's own code processes every capture: its Sealer counts, samples and seals; the merge join reads the same
captures again with the seals; its Sink writes into PostgreSQL. At the end the database's ledger and its report of
agreement are queried. Kafka and the model are left out: captures are generated, and each sampled one is answered at
once; nine of ten answers are the live ones. Figures for a day are the counts, times the seconds of a day.
"""

import argparse
import contextlib
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from confluent_kafka import Message
from numpy.typing import NDArray
from tests.support.servers import postgres

from benchmarks.harness.running import say
from benchmarks.jobs.joiner import upgrade
from gnomon_consumer.database import maintenance
from gnomon_consumer.joiner.merge.partition import Partition
from gnomon_consumer.joiner.merge.shadow_records import ShadowRun, read_shadow
from gnomon_consumer.joiner.postgres.sink import Sink
from gnomon_consumer.reports import Question, ask
from gnomon_consumer.scorer.outcomes import STATUSES, Outcomes
from gnomon_consumer.scorer.sampling.open_window import AssignmentToken
from gnomon_consumer.scorer.sealed.sealer import ReadingPosition, Sealer
from gnomon_consumer.scorer.sealed.window import SealedWindow, Tick
from gnomon_consumer.settings import ScoreSettings
from gnomon_schemas.codec import Codec
from gnomon_schemas.columnar import ColumnarReader
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.records import CloseReason
from gnomon_schemas.schema import record_schema
from gnomon_schemas.store import ChainedSchemas, MemorySchemas, packaged_schemas

STREAM, DEPLOYMENT = "fleet", "challenger"
FEATURES = FeatureSchema.of({f"number_{at}": "double" for at in range(20)} | {"country": "string"})
MODEL = {"name": "boost", "version": "1", "sha256": "ab" * 32}
DAY = 86_400
_STEP_S = 0.1
_BLOCK = 20_000  # captures that the joiner reads at once
_FIRST = 2**27  # the first sequence number: from here to 2**34 all are written with five bytes
_SEQUENCE, _TIME, _ID = slice(47, 52), slice(52, 60), slice(61, 77)  # their positions in a framed capture
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)


@dataclass(frozen=True)
class Size:
    """A fleet: captures a second, partitions, members of scorer and joiner, processes with the hook, pairs a second."""

    rate: int
    partitions: int
    members: int
    producers: int
    pairs: int = 1_000
    seconds: float = 10.0


SIZES = (
    Size(1_000, 3, 1, 4, seconds=30),
    Size(100_000, 24, 1, 40, seconds=30),
    Size(10_000_000, 1_000, 25, 2_000, seconds=5),
)


class Captures:
    """Generates captures by partition and offset, always the same for one coordinate; `began` in microseconds."""

    def __init__(self, size: Size, began: int) -> None:
        self._size = size
        self._began = began
        codec = Codec(FEATURES.live)
        record: dict[str, Any] = {
            "producer_id": str(uuid.UUID(int=0)),
            "sequence": _FIRST,
            "captured_at": began,
            "request_id": "0" * 16,
            "capture_probability": 1.0,
            "stratum": None,
            "segments": {},
            "cluster": None,
            "model": {"name": "live", "version": "1"},
            "features": {f"number_{at}": float(at) for at in range(20)} | {"country": "CH"},
            "prediction": {"value": 0.5, "label": "yes", "scores": None, "items": None},
            "error": None,
            "latency_us": 800,
            "feature_state": None,
        }
        self._template = np.frombuffer(codec.encode(record), np.uint8)
        self.bytes = len(self._template)
        ids = [str(uuid.UUID(int=number + 1)).encode() for number in range(size.producers)]
        self._producers = np.frombuffer(b"".join(ids), np.uint8).reshape(size.producers, 36)
        self._per_partition = size.rate / size.partitions

    def at(self, partition: int, first: int, end: int) -> tuple[NDArray[np.int64], list[Message]]:
        """Return offsets [first, end) of a partition and the messages there."""
        offsets = np.arange(first, end)
        number = (offsets * self._size.partitions + partition).astype(np.uint64)
        mixed = number * np.uint64(0x9E3779B97F4A7C15)  # odd, hence one to one
        table = np.tile(self._template, (len(offsets), 1))
        table[:, 11:47] = self._producers[(mixed >> np.uint64(33)) % np.uint64(self._size.producers)]
        table[:, _SEQUENCE] = _varints(number + np.uint64(_FIRST), 5)
        times = self._began + (offsets / self._per_partition * 1e6).astype(np.int64)
        table[:, _TIME] = _varints(times.astype(np.uint64), 8)
        ids = _HEX[(mixed[:, None] >> np.arange(0, 64, 4, dtype=np.uint64)) & np.uint64(15)]
        table[:, _ID] = ids
        width, raw, keys = table.shape[1], table.tobytes(), ids.tobytes()
        return offsets, [
            Message(
                topic="live", partition=partition, offset=first + at,
                key=keys[16 * at : 16 * at + 16], value=raw[width * at : width * at + width],
            )
            for at in range(len(offsets))
        ]  # fmt: skip


def _varints(numbers: NDArray[np.uint64], width: int) -> NDArray[np.uint8]:
    """Zig-zag numbers that take exactly `width` bytes."""
    shifted = numbers << np.uint64(1)
    found = np.empty((len(numbers), width), np.uint8)
    for at in range(width):
        found[:, at] = (shifted >> np.uint64(7 * at)) & np.uint64(0x7F) | np.uint64(0x80 if at < width - 1 else 0)
    return found


@dataclass
class Counts:
    """What happened, over all members."""

    seen: int = 0
    sampled: int = 0
    windows: int = 0
    empty: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    shadow_bytes: int = 0
    window_bytes: int = 0
    weights: float = 0.0
    sampler_s: float = 0.0
    joiner_s: float = 0.0
    waited_s: float = 0.0


class Member:
    """A scorer of some partitions with the joiner of the same ones."""

    def __init__(self, size: Size, partitions: range, captures: Captures, sink: Sink, counts: Counts) -> None:
        self._size = size
        self._captures = captures
        self._sink = sink
        self._counts = counts
        # The budget is a scoring rate, of which `efficiency` is used.
        share = size.pairs / size.members / ScoreSettings().efficiency
        self._now = 0.0
        self._sealer = Sealer(
            ScoreSettings(budget_rows_per_second=share), share, no_sampling=False, now=0.0,
            now_us=lambda: began_us(captures) + int(self._now * 1e6),
        )  # fmt: skip
        self._owners = {partition: AssignmentToken(partition) for partition in partitions}
        self._reader = ColumnarReader(ChainedSchemas(packaged_schemas(), MemorySchemas([FEATURES.live])))
        self._answer = Codec(record_schema("ShadowPrediction"))
        self._states = {partition: Partition(partition, None, {}) for partition in partitions}
        self._shadow_offsets = dict.fromkeys(partitions, 0)
        start = Codec(record_schema("DeploymentStart"))
        for partition, state in self._states.items():
            self._shadow(state, [start.encode(self._start(partition, began_us(captures)))])
            ((record, offset),) = state.begins
            sink.begin(partition, record, offset)

    @staticmethod
    def _start(partition: int, began: int) -> dict[str, Any]:
        return {
            "deployment": DEPLOYMENT, "role": "challenger", "cluster_id": "c", "topic_id": None,
            "source_partition": partition, "start_offset": 0, "model": MODEL, "seed": 0, "policy": "p",
            "started_at": began,
        }  # fmt: skip

    def run(self) -> None:
        """Read for the simulated time; windows that are still open then are sealed as at a stop."""
        for step in range(round(self._size.seconds / _STEP_S)):
            before, self._now = step * _STEP_S, (step + 1) * _STEP_S
            for partition, owner in self._owners.items():
                first, end = (int(at * self._size.rate / self._size.partitions) for at in (before, self._now))
                if end == first:
                    continue
                offsets, messages = self._captures.at(partition, first, end)
                began = time.process_time()
                self._sealer.add_messages(ReadingPosition(owner, first, before), offsets, messages)
                self._counts.sampler_s += time.process_time() - began
            began = time.process_time()
            reason = self._sealer.due(self._now, idle=True)
            self._counts.sampler_s += time.process_time() - began
            if reason is not None:
                self._seal(reason)
        if self._sealer.open:
            self._seal("shutdown")

    def _seal(self, reason: CloseReason) -> None:
        began = time.process_time()
        tick = self._sealer.seal(reason, self._now, queued=0)
        self._counts.sampler_s += time.process_time() - began
        for window in tick.windows:
            self._score(window)
            self._join(window, tick)
            self._count(window)
        self._counts.reasons[reason] += len(tick.windows)
        began, since = time.process_time(), time.monotonic()
        windows = [one for state in self._states.values() for one in state.complete_windows()]
        self._sink.apply(windows, self._reader)
        for state in self._states.values():
            state.ready.clear()
        worked = time.process_time() - began
        self._counts.joiner_s += worked
        self._counts.waited_s += time.monotonic() - since - worked

    def _score(self, window: SealedWindow) -> None:
        """Answer each sampled capture: nine of ten as live did."""
        rows = window.sample.rows
        messages = [
            self._answer.encode(
                {
                    "source_partition": row.partition, "source_offset": row.offset, "request_id": row.key.decode(),
                    "window_id": window.window_id, "stratum": None, "rank": row.rank,
                    "inclusion_probability": row.inclusion_probability, "probe_probability": None, "model": MODEL,
                    "prediction": {
                        "value": 0.5, "label": "no" if int(row.key[-4:], 16) % 10 == 0 else "yes",
                        "scores": None, "items": None,
                    },
                    "error": None, "latency_us": 90, "batch_size": 100, "queued_us": 100,
                    "scored_at": window.seal.sealed_at, "feature_state": None,
                }
            )
            for row in rows
        ]  # fmt: skip
        scored = bytes([STATUSES.index("scored")]) * len(rows)
        if len(rows):
            window.sample.store(np.arange(len(rows)), Outcomes(scored, messages))

    def _join(self, window: SealedWindow, tick: Tick) -> None:
        record = window.record(tick)
        messages = [*window.sample.messages, record]
        self._counts.window_bytes += len(record)
        self._counts.shadow_bytes += sum(map(len, messages))
        state = self._states[window.owner.partition]
        began = time.process_time()
        self._shadow(state, messages)
        self._counts.joiner_s += time.process_time() - began
        for first in range(window.seal.start, window.seal.end, _BLOCK):
            _, live = self._captures.at(window.owner.partition, first, min(window.seal.end, first + _BLOCK))
            began = time.process_time()
            state.live(live)
            self._counts.joiner_s += time.process_time() - began

    def _shadow(self, state: Partition, messages: list[bytes]) -> None:
        first = self._shadow_offsets[state.number]
        self._shadow_offsets[state.number] = first + len(messages)
        places = np.arange(len(messages))
        state.shadow(ShadowRun(first + places, places, read_shadow(self._reader, messages)))

    def _count(self, window: SealedWindow) -> None:
        counts, sample = self._counts, window.sample
        counts.windows += 1
        counts.seen += window.seen
        counts.sampled += len(sample.rows)
        counts.empty += not len(sample.rows)
        counts.weights += float((1 / sample.rows.probabilities).sum())


def began_us(captures: Captures) -> int:
    """Return the time of the first capture."""
    return captures._began


def simulate(size: Size, server: str) -> Iterator[str]:
    """Yield lines about one size."""
    counts = Counts()
    captures = Captures(size, time.time_ns() // 1000 - int(size.seconds * 1e6))
    bounds = np.linspace(0, size.partitions, size.members + 1).astype(int).tolist()
    with postgres.database(server) as url:
        upgrade(url)
        with psycopg.connect(url, autocommit=True) as connection:
            empty = sizes(connection)
            began = time.monotonic()
            for number, (first, end) in enumerate(pairwise(bounds), 1):
                sink = Sink(connection, STREAM, DEPLOYMENT)
                Member(size, range(first, end), captures, sink, counts).run()
                if size.members > 1:
                    say(f"member {number} of {size.members}, {time.monotonic() - began:.0f} s")
            differences = maintenance.ledger_differences(connection, STREAM)
            grown = {name: value - empty[name] for name, value in sizes(connection).items()}
            (row,) = ask(connection, "agreement", Question(STREAM)).rows
            tallies = one(connection, "select count(*) from gnomon.producer_tallies")
    yield (
        f"{size.rate:,} captures/s, {size.partitions:,} partitions, {size.members} members,"
        f" {size.producers:,} processes"
    )
    yield f"  simulated: {size.seconds:g} s, {counts.seen:,} captures of {captures.bytes} bytes"
    per_s = counts.windows / size.seconds
    yield (
        f"  windows: {counts.windows:,} ({', '.join(f'{name} {count:,}' for name, count in counts.reasons.items())}),"
        f" {per_s * DAY / 1e6:,.1f} million a day; without a row: {counts.empty:,}"
    )
    yield (
        f"  pairs: {counts.sampled:,}, {counts.sampled / size.seconds:,.0f} a second;"
        f" sum of weights {counts.weights:,.0f}, {counts.weights / counts.seen - 1:+.2%} of the captures"
    )
    yield (
        f"  agreement: {row['agreement']:.3%} (true: 90%), 95% interval {row['period_low']:.2%} to"
        f" {row['period_high']:.2%}, n {row['n']:,}, effective {row['n_effective']:,.0f}"
    )
    yield f"  ledger: {len(differences)} differences, {tallies:,} tallies of producers by partition"
    yield (
        f"  shadow log: {counts.shadow_bytes / size.seconds * DAY / 1e9:,.1f} GB a day,"
        f" {counts.window_bytes / counts.shadow_bytes:.0%} of it windows"
    )
    yield (
        f"  PostgreSQL a day: pairs {grown['pairs'] / size.seconds * DAY / 1e9:,.1f} GB,"
        f" windows and cells {(grown['windows'] + grown['cells']) / size.seconds * DAY / 1e9:,.1f} GB"
    )
    yield (
        f"  CPU of one member for a second of traffic: sampler {counts.sampler_s / size.seconds / size.members:.2f} s,"
        f" joiner {counts.joiner_s / size.seconds / size.members:.2f} s;"
        f" it waits {counts.waited_s / size.seconds / size.members:.2f} s for PostgreSQL"
    )


def sizes(connection: psycopg.Connection[Any]) -> dict[str, int]:
    """Return the bytes of the tables that grow with traffic, indexes included."""
    return {
        name: one(
            connection,
            f"select pg_total_relation_size('gnomon.{name}') + coalesce(sum(pg_total_relation_size(relid)), 0)"
            f" from pg_partition_tree('gnomon.{name}') where relid <> 'gnomon.{name}'::regclass",
        )
        for name in ("pairs", "windows", "cells")
    }


def one(connection: psycopg.Connection[Any], query: str) -> int:
    """Return the one number of a query's result."""
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


def main() -> None:
    """Simulate the three sizes of docs/scale.md, or the one of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks fleet", description=__doc__)
    parser.add_argument("--rate", type=int, help="captures a second; default: three sizes, one after another")
    parser.add_argument("--partitions", type=int, default=24)
    parser.add_argument("--members", type=int, default=1, help="of scorer and joiner")
    parser.add_argument("--producers", type=int, default=40, help="processes with the hook")
    parser.add_argument("--pairs", type=int, default=1_000, help="pairs a second at most; default: 1,000")
    parser.add_argument("--seconds", type=float, default=10.0, help="simulated; default: 10")
    given = parser.parse_args()
    one_size = Size(given.rate or 0, given.partitions, given.members, given.producers, given.pairs, given.seconds)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(postgres.running(folder))
        for size in [one_size] if given.rate else SIZES:
            for line in simulate(size, server):
                print(line, flush=True)
