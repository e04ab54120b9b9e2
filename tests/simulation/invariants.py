"""The invariants, checked at every commit of a transaction in Kafka and in the database.

The letters are those of docs/architecture.md. Nothing here uses the product's sampling, join or COPY: ranks are
hashed, cells counted and rows compared again, with the ledger that the traffic kept.
"""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from xxhash import xxh3_64_intdigest

from gnomon_schemas.codec import Reader, Record
from gnomon_schemas.store import packaged_schemas
from tests.simulation.broker import Log
from tests.simulation.database import Change, Database
from tests.simulation.traffic import Captured, Traffic
from tests.simulation.world import ViolationError

_BUCKETS = ("scored", "failed", "timed_out", "dead_lettered")


@dataclass
class Sealed:
    """A window of the shadow log, with its rows by source offset."""

    seal: Record
    rows: dict[int, Record]


@dataclass
class ShadowPartition:
    """The position up to which the committed part of a shadow partition is checked."""

    read_to: int = 0
    position: int | None = None
    pending: list[Record] = field(default_factory=list)
    windows: dict[str, Sealed] = field(default_factory=dict)


def must(holds: bool, text: str) -> None:
    """Raise ViolationError unless something is true."""
    if not holds:
        raise ViolationError(text)


class Invariants:
    """Checks the invariants. `shadow_log` and `applied` are called at each commit."""

    def __init__(self, shadow_topic: str, traffic: Traffic, database: Database, seed: int) -> None:
        self.shadow: dict[int, ShadowPartition] = defaultdict(ShadowPartition)
        self.removed_from_live = False
        self._topic = shadow_topic
        self._traffic = traffic
        self._database = database
        self._seed = seed
        self._reader = Reader(packaged_schemas())
        self._joined_to: dict[int, int] = {}
        self.seen = self.pairs = self.rows = self.windows = self.lost = 0

    # The shadow log: windows cover the log, and their samples follow from the seed (A, B, G, H).

    def shadow_log(self, log: Log) -> None:
        """Check the records that were committed to a shadow partition."""
        if log.topic != self._topic:
            return
        state = self.shadow[log.number]
        for entry in log.read(state.read_to, committed=True):
            name, _, record = self._reader.decode(entry.value)
            if name.endswith("DeploymentStart"):
                must(state.position is None, f"partition {log.number} begins twice")
                state.position = record["start_offset"]
            elif name.endswith("ShadowPrediction"):
                state.pending.append(record)
            else:
                self._sealed(log.number, state, record)
        state.read_to = log.stable

    def _sealed(self, partition: int, state: ShadowPartition, seal: Record) -> None:
        where = f"window [{seal['start_offset']}, {seal['end_offset']}) of partition {partition}"
        must(seal["source_partition"] == partition, f"{where} is of partition {seal['source_partition']}")
        must(seal["start_offset"] == state.position, f"{where} was sealed where {state.position} was expected")
        rows = [row for row in state.pending if row["window_id"] == seal["window_id"]]
        state.pending = []
        by_offset = {row["source_offset"]: row for row in rows}
        must(len(by_offset) == len(rows), f"{where} has an outcome twice")
        must(list(by_offset) == sorted(by_offset), f"{where} has its outcomes out of order")
        must(seal["window_id"] not in state.windows, f"{where} was sealed twice")
        state.position = seal["end_offset"]
        state.windows[seal["window_id"]] = Sealed(seal, by_offset)
        own = self._traffic.captured.get(partition, {})
        there = {at: own[at] for at in range(seal["start_offset"], seal["end_offset"]) if at in own}
        self.windows += 1
        if seal["gap"] is not None:
            must(not seal["cells"] and not rows, f"{where} is a gap with rows")
            must(seal["gap"]["lost"] >= len(there), f"{where} lost {len(there)} and says {seal['gap']['lost']}")
            must(self.removed_from_live, f"{where} is a gap, and nothing was removed from the live log")
            self.lost += len(there)
            return
        self._cells(where, seal, by_offset, there)

    def _cells(self, where: str, seal: Record, rows: dict[int, Record], there: dict[int, Captured]) -> None:
        must(rows.keys() <= there.keys(), f"{where} has outcomes of no capture")
        merged = [cell["stratum"] for cell in seal["cells"]] == [""]
        strata: dict[str, dict[int, Captured]] = defaultdict(dict)
        for offset, capture in there.items():
            strata["" if merged else capture.stratum][offset] = capture
        names = {cell["stratum"] for cell in seal["cells"]}
        must(names == strata.keys(), f"{where} has cells {sorted(names)}, the traffic {sorted(strata)}")
        found: dict[str, dict[int, Record]] = defaultdict(dict)
        for offset, row in rows.items():
            must(row["request_id"] == there[offset].request_id, f"{where} has another request at {offset}")
            found[row["stratum"] or ""][offset] = row
        must(found.keys() <= names, f"{where} has rows of no cell")
        for cell in seal["cells"]:
            self._cell(f"{where}, cell {cell['stratum']!r}", cell, found[cell["stratum"]], strata[cell["stratum"]])

    def _cell(self, where: str, cell: Record, rows: dict[int, Record], there: dict[int, Captured]) -> None:
        sampled, draw = cell["sampled"], cell["draw_probability"]
        must(cell["seen"] == len(there), f"{where} saw {len(there)} and says {cell['seen']}")
        must(sampled == len(rows), f"{where} has {len(rows)} rows and says {sampled}")
        outcomes = Counter(_bucket(row) for row in rows.values())
        for name in _BUCKETS:
            must(cell[name] == outcomes[name], f"{where} has {outcomes[name]} {name} and says {cell[name]}")
        ids = {at: capture.request_id.encode() for at, capture in there.items()}
        order = sorted(ids, key=lambda at: (xxh3_64_intdigest(ids[at], self._seed) >> 1, ids[at], at))
        must(set(order[:sampled]) == rows.keys(), f"{where}: the sample is not that of the smallest ranks")
        must(0 <= draw <= 1 and (draw > 0 or not rows), f"{where}: draw probability {draw}")
        must(draw == 1 or sampled == 0 or sampled >= min(2, len(there)), f"{where}: drawn and not given two rows")
        weight = sum(1 / row["inclusion_probability"] for row in rows.values())
        must(not rows or math.isclose(weight, len(there) / draw, rel_tol=1e-9), f"{where}: the weights sum to {weight}")
        must(all(0 < row["inclusion_probability"] <= 1 for row in rows.values()), f"{where}: not a probability")
        probed = [row for row in rows.values() if row["probe_probability"] is not None]
        must(len(probed) <= cell["probed"] <= sampled, f"{where}: {len(probed)} probed, {cell['probed']} said")

    # The database: each window once and whole, in order, with progress (A, B, D).

    def applied(self, change: Change) -> None:
        """Check a transaction before it is applied."""
        windows = sorted(change.rows.get("windows", []), key=lambda row: (row["source_partition"], row["start_offset"]))
        must(bool(windows) == bool(change.progress), "progress without windows, or windows without progress")
        reached: dict[int, int] = {}
        rows = _by_window(change)
        for window in windows:
            partition, start = window["source_partition"], window["start_offset"]
            stored = self._database.progress[partition]["next_source_offset"]
            due = reached.get(partition, stored)
            must(start == due, f"window {partition}/{start} was applied where {due} was expected")
            reached[partition] = window["end_offset"]
            self._window(window, rows.pop((partition, start), _Rows()))
        must(not rows, f"rows of no window of this transaction: {list(rows)[:3]}")
        for partition, (source, _) in change.progress.items():
            must(source == reached.get(partition), f"progress of {partition} is {source}, not {reached.get(partition)}")
            must(source >= self._joined_to.get(partition, 0), f"progress of {partition} goes back")
            self._joined_to[partition] = source
        sums = change.rollups
        seen = sum(cell["joined_seen"] for cell in change.rows.get("cells", []))
        must(sums["gnomon.rollups", "seen"] == seen, f"rollups saw {sums['gnomon.rollups', 'seen']}, cells {seen}")
        self.pairs += len(change.pairs)

    def _window(self, window: dict[str, Any], rows: "_Rows") -> None:
        partition, start = window["source_partition"], window["start_offset"]
        where = f"joined window {partition}/{start}"
        sealed = self.shadow[partition].windows.get(str(window["window_id"]))
        must(sealed is not None, f"{where} was never sealed")
        assert sealed is not None
        must(sealed.seal["end_offset"] == window["end_offset"], f"{where} has another end than its seal")
        letters, pairs = {row["source_offset"] for row in rows.letters}, {pair.offset for pair in rows.pairs}
        orphaned = sum(cell["joined_orphaned"] for cell in rows.cells)
        must(not letters & pairs, f"{where}: {letters & pairs} are pairs and dead letters")
        must(letters | pairs <= sealed.rows.keys(), f"{where}: rows that were not sampled")
        must(
            len(letters) + len(pairs) + orphaned == len(sealed.rows),
            f"{where}: {len(sealed.rows)} sampled, {len(pairs)} pairs, {len(letters)} letters, {orphaned} orphans",
        )
        must(orphaned == 0 or self.removed_from_live, f"{where}: orphans, and nothing was removed from the live log")
        found = Counter(pair.outcome for pair in rows.pairs) + Counter(dead_lettered=len(letters))
        for name in _BUCKETS:
            counted = sum(cell[f"joined_{name}"] for cell in rows.cells)
            must(counted == found[name], f"{where}: {found[name]} {name}, and the cells count {counted}")
        for pair in rows.pairs:
            claim = sealed.rows[pair.offset]
            must(pair.request_id == claim["request_id"], f"{where}: another request at {pair.offset}")
            must(pair.probability == claim["inclusion_probability"], f"{where}: another weight at {pair.offset}")
            must(pair.outcome == _bucket(claim), f"{where}: another outcome at {pair.offset}")
        claims = {cell["stratum"]: cell for cell in sealed.seal["cells"]}
        for cell in rows.cells:
            claim = claims.get(cell["stratum"], {"seen": 0, "sampled": 0})
            must(cell["seen"] == claim["seen"], f"{where}: a cell of {cell['seen']} that claims {claim['seen']}")
            joined = sum(cell[f"joined_{name}"] for name in (*_BUCKETS, "orphaned"))
            must(joined == claim["sampled"], f"{where}: {claim['sampled']} sampled, {joined} accounted for")
            same = cell["joined_seen"] == cell["seen"]
            must(same or self.removed_from_live, f"{where}: {cell['seen']} seen, {cell['joined_seen']} recounted")
            self.seen += cell["seen"]
            self.rows += claim["sampled"]
        must({cell["stratum"] for cell in rows.cells} >= claims.keys(), f"{where}: a cell is missing")

    # The end: nothing remains.

    def at_the_end(self, ends: dict[int, int]) -> None:
        """Check that everything captured before `ends` is in the database, in one bucket."""
        for partition, end in ends.items():
            reached = self._database.progress.get(partition, {"next_source_offset": 0})["next_source_offset"]
            must(reached >= end, f"partition {partition} is joined to {reached}, and was captured to {end}")
        captured = sum(
            self._started(partition) <= at < self._joined_to.get(partition, 0)
            for partition, own in self._traffic.captured.items()
            for at in own
        )
        must(self.seen + self.lost >= captured, f"{captured} captured, {self.seen} counted, {self.lost} lost")
        must(len(self._database.pairs) == self.pairs, "pairs are missing")

    def _started(self, partition: int) -> int:
        return int(self._database.progress[partition]["start_offset"]) if partition in self._database.progress else 0


@dataclass
class _Rows:
    cells: list[dict[str, Any]] = field(default_factory=list)
    letters: list[dict[str, Any]] = field(default_factory=list)
    pairs: list[Any] = field(default_factory=list)


def _by_window(change: Change) -> dict[tuple[int, int], _Rows]:
    found: dict[tuple[int, int], _Rows] = defaultdict(_Rows)
    spans = [
        (row["source_partition"], row["start_offset"], row["end_offset"]) for row in change.rows.get("windows", [])
    ]
    for cell in change.rows.get("cells", []):
        found[cell["source_partition"], cell["start_offset"]].cells.append(cell)
    for letter in change.rows.get("dead_letters", []):
        found[letter["source_partition"], letter["window_start"]].letters.append(letter)
    for pair in change.pairs:
        start = next((a for at, a, end in spans if at == pair.partition and a <= pair.offset < end), -1)
        found[pair.partition, start].pairs.append(pair)
    return found


def _bucket(row: Record) -> str:
    if row["error"] is None:
        return "scored"
    return {"timeout": "timed_out", "dead_letter": "dead_lettered"}.get(row["error"]["kind"], "failed")
