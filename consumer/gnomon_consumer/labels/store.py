"""Write labels to PostgreSQL: keep every version, and move the progress in the transaction of its labels."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb

from gnomon_consumer.database.connections import Connection
from gnomon_consumer.database.queries import queries_of
from gnomon_consumer.labels.maturity import Maturity
from gnomon_consumer.times import EARLIEST_US, LATEST_US, moment
from gnomon_schemas.codec import Record
from gnomon_schemas.errors import ConfigurationError, GnomonError
from gnomon_schemas.records import LARGEST_NUMBER
from gnomon_schemas.texts import storable

SQL = queries_of(__package__)
# The columns of `copy_incoming`.
_TYPES = (
    "int4", "text", "timestamptz", "float8", "text", "float8[]", "text[]", "timestamptz", "text", "int4", "int8",
    "int8", "int8",
)  # fmt: skip
MAX_REQUEST_ID = 2000
"""Bytes: PostgreSQL limits a key of the table to 2,704."""
FUTURE_US = 3_600_000_000
"""A label observed further ahead than this does not move the watermark, because its clock is wrong."""


class LabelsMovedError(GnomonError):
    """Another label consumer moved this partition's progress; what was about to be written is dropped."""


@dataclass(slots=True)
class LabelBatch:
    """One partition of the labels topic in [start, end): valid labels with their offsets, and the rest."""

    start: int
    end: int
    labels: list[tuple[int, Record]] = field(default_factory=list)
    rejected: int = 0

    def observed_until(self, now_us: int) -> int | None:
        """Return the highest plausible observed_at."""
        return max((r["observed_at"] for _, r in self.labels if r["observed_at"] <= now_us + FUTURE_US), default=None)


@dataclass(frozen=True, slots=True)
class Position:
    """A label partition's progress, and the identity of its topic."""

    next_offset: int
    cluster_id: str
    topic_id: str | None


@dataclass(frozen=True, slots=True)
class Load:
    """The result of loading a file."""

    load_id: int
    received: int
    stored: int
    conflicts: int = 0
    """Stored labels that differ from an earlier label of the same request and time; kept as separate versions."""

    @property
    def duplicates(self) -> int:
        """Versions that were already stored."""
        return self.received - self.stored


def fault_of(record: Mapping[str, Any]) -> str | None:
    """Return why a label cannot be stored, None if it can."""
    if not record["request_id"]:
        return "it has no request id"
    if len(record["request_id"].encode()) > MAX_REQUEST_ID:
        return f"its request id is longer than {MAX_REQUEST_ID} bytes"
    if record["value"] is not None and LARGEST_NUMBER < abs(record["value"]) < math.inf:
        return f"its value {record['value']} is beyond {LARGEST_NUMBER}"
    for name in ("observed_at", "occurred_at"):
        time = record[name]
        if time is not None and not EARLIEST_US <= time <= LATEST_US:
            return f"its {name} is outside the years 1 to 9999"
    if all(record[name] is None for name in ("value", "label", "relevance")):
        return "it has neither value nor label nor relevance"
    for name, numbers in (("value", [record["value"]]), ("relevance", record["relevance"] or ())):
        if not all(number is None or math.isfinite(number) for number in numbers):
            return f"its {name} is not a finite number"
    if record["items"] is not None and len(record["items"]) != len(record["relevance"] or ()):
        return f"it has {len(record['items'])} items and {len(record['relevance'] or ())} relevances"
    return None


class LabelStore:
    """Writes the labels and heartbeats of one stream."""

    def __init__(self, connection: Connection, stream: str) -> None:
        self._connection = connection
        connection.autocommit = True
        with connection.transaction():
            connection.execute(SQL["new_stream"], [stream])
            row = connection.execute(SQL["stream_id"], [stream]).fetchone()
        assert row is not None
        self.stream_id: int = row[0]
        self.conflicts = 0
        """Labels from the topic that differ from the stored label of their request and time; kept as versions."""

    def close(self) -> None:
        """Close the connection; a running transaction is rolled back."""
        self._connection.close()

    def positions(self, partitions: Sequence[int]) -> dict[int, Position]:
        """Return the stored progress, by partition."""
        rows = self._connection.execute(SQL["positions"], [self.stream_id, list(partitions)])
        return {row[0]: Position(*row[1:]) for row in rows}

    def begin(self, partition: int, offset: int, cluster_id: str, topic_id: str | None) -> None:
        """Store a partition's start and identity; raise ConfigurationError if they differ from the stored ones."""
        self._connection.execute(
            SQL["begin_partition"],
            [self.stream_id, partition, cluster_id, topic_id, offset],
        )
        stored = self.positions([partition])[partition]
        for name, was, found in (
            ("cluster_id", stored.cluster_id, cluster_id),
            ("topic_id", stored.topic_id, topic_id),
        ):
            if was != found:
                raise ConfigurationError(
                    f"label partition {partition}: {name} is {found}, but the labels stored already came from {was};"
                    " the topic was re-created or this is another broker"
                )

    def apply(self, batches: Mapping[int, LabelBatch], now_us: int) -> int:
        """Store the batches of some partitions in one transaction; return the number of new labels.

        Raises LabelsMovedError if another consumer has moved the progress, and psycopg's errors if the database is
        unreachable.
        """
        stored = 0
        with self._connection.transaction():
            for partition, batch in sorted(batches.items()):
                new = self._insert(
                    (self._row(record, partition, offset, None) for offset, record in batch.labels),
                )
                self.conflicts += self._conflicts
                self._move(partition, batch, new, now_us)
                stored += new
        return stored

    def load(
        self, labels: Iterable[Record], file: str, sha256: str, rejected: int, complete_until: datetime | None
    ) -> Load:
        """Store the labels of a file in one transaction, with a row for the load."""
        with self._connection.transaction():
            row = self._connection.execute(
                SQL["begin_load"],
                [self.stream_id, file, sha256, complete_until],
            ).fetchone()
            assert row is not None
            load_id: int = row[0]
            stored = self._insert(self._row(record, None, None, load_id) for record in labels)
            received = self._received
            conflicts = self._conflicts
            self._connection.execute(
                SQL["end_load"],
                [received + rejected, stored, received - stored, rejected, load_id],
            )
        return Load(load_id, received, stored, conflicts)

    def set_idle(self, partitions: Mapping[int, bool]) -> None:
        """Store which partitions are idle, and which are active again."""
        for partition, idle in sorted(partitions.items()):
            self._connection.execute(SQL["set_idle"], {"idle": idle, "stream": self.stream_id, "partition": partition})

    def maturity(self) -> Maturity:
        """Return until when labels are complete and requests mature."""
        row = self._connection.execute(SQL["maturity"], [self.stream_id]).fetchone()
        assert row is not None
        watermark, grace, horizons = row[0], timedelta(seconds=row[1]), [timedelta(seconds=each) for each in row[2]]
        if watermark is None:
            return Maturity(None, {})
        return Maturity(watermark, {horizon: watermark - horizon - grace for horizon in sorted(horizons)})

    def seal_cohorts(self) -> int:
        """Seal every mature slice of event time; return their number."""
        row = self._connection.execute(SQL["seal_cohorts"], [self.stream_id]).fetchone()
        return int(row[0]) if row else 0

    def report_producers(self, reports: Iterable[Record]) -> None:
        """Store the last heartbeat of each producer run."""
        newest: dict[str, Record] = {}
        for report in reports:
            known = newest.get(report["producer_id"])
            if known is None or report["reported_at"] >= known["reported_at"]:
                newest[report["producer_id"]] = report
        with self._connection.transaction():
            self._connection.cursor().executemany(
                SQL["keep_report"], [self._report(report) for _, report in sorted(newest.items())]
            )

    def _insert(self, rows: Iterable[tuple[Any, ...]]) -> int:
        """Store new versions; return their number.

        A different label for the same request and time is also a version: it is stored one microsecond after the
        previous one.
        """
        self._received = self._conflicts = 0
        with self._connection.cursor() as cursor:
            cursor.execute(SQL["make_incoming"])
            cursor.execute(SQL["number_incoming"])
            with cursor.copy(SQL["copy_incoming"]) as copy:
                copy.set_types(_TYPES)
                for row in rows:
                    copy.write_row((*row, self._received))
                    self._received += 1
            cursor.execute(SQL["store"])
            stored = cursor.rowcount
            if stored < self._received:
                cursor.execute(SQL["forget_known"])
                while cursor.execute(SQL["store_conflicts"]).rowcount > 0:
                    self._conflicts += cursor.rowcount
                    cursor.execute(SQL["forget_known"])
            cursor.execute(SQL["drop_incoming"])
        return stored + self._conflicts

    def _row(self, record: Record, partition: int | None, offset: int | None, load_id: int | None) -> tuple[Any, ...]:
        return (
            self.stream_id,
            storable(record["request_id"]),
            moment(record["observed_at"]),
            record["value"],
            None if record["label"] is None else storable(record["label"]),
            record["relevance"],
            None if record["items"] is None else [storable(item) for item in record["items"]],
            None if record["occurred_at"] is None else moment(record["occurred_at"]),
            storable(record["source"] or ""),
            partition,
            offset,
            load_id,
        )

    def _move(self, partition: int, batch: LabelBatch, stored: int, now_us: int) -> None:
        until = batch.observed_until(now_us)
        moved = self._connection.execute(
            SQL["move_partition"],
            [
                batch.end,
                None if until is None else moment(until),
                len(batch.labels) + batch.rejected,
                stored,
                len(batch.labels) - stored,
                batch.rejected,
                self.stream_id,
                partition,
                batch.start,
            ],
        )
        if moved.rowcount != 1:
            raise LabelsMovedError(f"another consumer moved label partition {partition}")

    def _report(self, report: Record) -> list[Any]:
        return [
            self.stream_id,
            report["producer_id"],
            *(storable(report[name]) for name in ("service", "host")),
            report["pid"],
            moment(report["started_at"]),
            moment(report["reported_at"]),
            report["offered"],
            report["delivered"],
            Jsonb({storable(reason): count for reason, count in report["dropped"].items()}),
            report["sampled_out"],
            report["switched_off"],
            report["closed"],
        ]
