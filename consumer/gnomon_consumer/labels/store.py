"""Labels into PostgreSQL: every version kept, progress moved in the transaction that writes what it stands for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from gnomon_schemas.codec import Record
from gnomon_schemas.errors import ConfigurationError, GnomonError

Connection = psycopg.Connection[Any]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_US, LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
FUTURE_US = 3_600_000_000
"""A label observed further ahead than this moves no watermark: its clock is wrong."""

COLUMNS = (
    "stream_id", "request_id", "observed_at", "value", "label", "relevance", "items", "occurred_at", "source",
    "label_partition", "label_offset", "load_id",
)  # fmt: skip
_TYPES = (
    "int4", "text", "timestamptz", "float8", "text", "float8[]", "text[]", "timestamptz", "text", "int4", "int8",
    "int8",
)  # fmt: skip


class LabelsMovedError(GnomonError):
    """Another label consumer moved this partition's progress; what was about to be written is dropped."""


@dataclass(slots=True)
class LabelBatch:
    """What one partition of the labels topic held in [start, end): good labels with their offsets, and the rest."""

    start: int
    end: int
    labels: list[tuple[int, Record]] = field(default_factory=list)
    rejected: int = 0

    def observed_until(self, now_us: int) -> int | None:
        """The highest observed_at that a clock can be trusted for."""
        return max((r["observed_at"] for _, r in self.labels if r["observed_at"] <= now_us + FUTURE_US), default=None)


@dataclass(frozen=True, slots=True)
class Position:
    """Where a label partition stands and whose topic it is."""

    next_offset: int
    cluster_id: str
    topic_id: str | None


@dataclass(frozen=True, slots=True)
class Load:
    """What became of a file."""

    load_id: int
    received: int
    stored: int

    @property
    def duplicates(self) -> int:
        """Versions that were stored before."""
        return self.received - self.stored


def fault_of(record: Mapping[str, Any]) -> str | None:
    """Why a label cannot be stored, None if it can."""
    if not record["request_id"]:
        return "it has no request id"
    for name in ("request_id", "label", "source"):
        if "\0" in (record[name] or ""):
            return f"its {name} holds a NUL character"
    if any("\0" in item for item in record["items"] or ()):
        return "its items hold a NUL character"
    for name in ("observed_at", "occurred_at"):
        time = record[name]
        if time is not None and not FIRST_US <= time <= LAST_US:
            return f"its {name} lies outside the years 1 to 9999"
    if all(record[name] is None for name in ("value", "label", "relevance")):
        return "it has neither value nor label nor relevance"
    return None


class LabelStore:
    """Writes the labels and heartbeats of one stream."""

    def __init__(self, connection: Connection, stream: str) -> None:
        self._connection = connection
        connection.autocommit = True
        with connection.transaction():
            connection.execute("insert into gnomon.streams (name) values (%s) on conflict do nothing", [stream])
            row = connection.execute("select stream_id from gnomon.streams where name = %s", [stream]).fetchone()
        assert row is not None
        self.stream_id: int = row[0]
        connection.execute("create temp table incoming_labels (like gnomon.labels) on commit delete rows")
        connection.execute("alter table incoming_labels alter stored_at drop not null")

    def positions(self, partitions: Sequence[int]) -> dict[int, Position]:
        """What is stored already, by partition."""
        rows = self._connection.execute(
            "select label_partition, next_offset, cluster_id, topic_id from gnomon.label_watermarks"
            " where stream_id = %s and label_partition = any(%s)",
            [self.stream_id, list(partitions)],
        )
        return {row[0]: Position(*row[1:]) for row in rows}

    def begin(self, partition: int, offset: int, cluster_id: str, topic_id: str | None) -> None:
        """Remember where a partition begins and whose it is; raise ConfigurationError when that differs."""
        self._connection.execute(
            "insert into gnomon.label_watermarks (stream_id, label_partition, cluster_id, topic_id, next_offset)"
            " values (%s, %s, %s, %s, %s) on conflict do nothing",
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
        """Store what some partitions held, in one transaction; return how many labels were new.

        Raises LabelsMovedError when another consumer was here, and psycopg's errors for a database that is away.
        """
        stored = 0
        with self._connection.transaction():
            for partition, batch in sorted(batches.items()):
                new = self._insert(
                    (self._row(record, partition, offset, None) for offset, record in batch.labels),
                )
                self._move(partition, batch, new, now_us)
                stored += new
        return stored

    def load(
        self, labels: Iterable[Record], file: str, sha256: str, rejected: int, complete_until: datetime | None
    ) -> Load:
        """Store the labels of a file in one transaction, with the row that stands for the load."""
        with self._connection.transaction():
            row = self._connection.execute(
                "insert into gnomon.label_loads (stream_id, file, sha256, complete_until) values (%s, %s, %s, %s)"
                " returning load_id",
                [self.stream_id, file, sha256, complete_until],
            ).fetchone()
            assert row is not None
            load_id: int = row[0]
            stored = self._insert(self._row(record, None, None, load_id) for record in labels)
            received = self._received
            self._connection.execute(
                "update gnomon.label_loads set received = %s, stored = %s, duplicates = %s, rejected = %s"
                " where load_id = %s",
                [received + rejected, stored, received - stored, rejected, load_id],
            )
        return Load(load_id, received, stored)

    def set_idle(self, partitions: Mapping[int, bool]) -> None:
        """Say which partitions have had nothing for a while, and which are at work again."""
        for partition, idle in sorted(partitions.items()):
            self._connection.execute(
                "update gnomon.label_watermarks set idle = %s, updated_at = now()"
                " where stream_id = %s and label_partition = %s and idle <> %s",
                [idle, self.stream_id, partition, idle],
            )

    def seal_cohorts(self) -> int:
        """Seal every slice of event time that has come of age; return how many."""
        row = self._connection.execute("select gnomon.seal_cohorts(%s)", [self.stream_id]).fetchone()
        return int(row[0]) if row else 0

    def report_producers(self, reports: Iterable[Record]) -> None:
        """Keep the last heartbeat of each producer run."""
        newest: dict[str, Record] = {}
        for report in reports:
            known = newest.get(report["producer_id"])
            if known is None or report["reported_at"] >= known["reported_at"]:
                newest[report["producer_id"]] = report
        with self._connection.transaction():
            self._connection.cursor().executemany(
                _REPORT, [self._report(report) for _, report in sorted(newest.items())]
            )

    def _insert(self, rows: Iterable[tuple[Any, ...]]) -> int:
        self._received = 0
        with self._connection.cursor() as cursor:
            with cursor.copy(f"copy incoming_labels ({', '.join(COLUMNS)}) from stdin (format binary)") as copy:
                copy.set_types(_TYPES)
                for row in rows:
                    copy.write_row(row)
                    self._received += 1
            cursor.execute(
                f"insert into gnomon.labels ({', '.join(COLUMNS)}) select {', '.join(COLUMNS)} from incoming_labels"  # noqa: S608  # constants
                " order by request_id, observed_at, label_partition, label_offset on conflict do nothing"
            )
            stored = cursor.rowcount
            cursor.execute("delete from incoming_labels")
        return stored

    def _row(self, record: Record, partition: int | None, offset: int | None, load_id: int | None) -> tuple[Any, ...]:
        return (
            self.stream_id,
            record["request_id"],
            moment(record["observed_at"]),
            record["value"],
            record["label"],
            record["relevance"],
            record["items"],
            None if record["occurred_at"] is None else moment(record["occurred_at"]),
            record["source"] or "",
            partition,
            offset,
            load_id,
        )

    def _move(self, partition: int, batch: LabelBatch, stored: int, now_us: int) -> None:
        until = batch.observed_until(now_us)
        moved = self._connection.execute(
            "update gnomon.label_watermarks set next_offset = %s, observed_until = greatest(observed_until, %s),"
            " idle = false, received = received + %s, stored = stored + %s, duplicates = duplicates + %s,"
            " rejected = rejected + %s, updated_at = now()"
            " where stream_id = %s and label_partition = %s and next_offset = %s",
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
            *(report[name].replace("\0", "\ufffd") for name in ("service", "host")),
            report["pid"],
            moment(report["started_at"]),
            moment(report["reported_at"]),
            report["offered"],
            report["delivered"],
            Jsonb(report["dropped"]),
            report["sampled_out"],
            report["switched_off"],
            report["closed"],
        ]


_REPORTED = (
    "service", "host", "pid", "started_at", "reported_at", "offered", "delivered", "dropped", "sampled_out",
    "switched_off", "closed",
)  # fmt: skip
_REPORT = f"""
insert into gnomon.producer_reports as r (stream_id, producer_id, {", ".join(_REPORTED)})
values ({", ".join(["%s"] * (2 + len(_REPORTED)))})
on conflict (stream_id, producer_id) do update
set {", ".join(f"{name} = excluded.{name}" for name in _REPORTED)}, stored_at = now()
where r.reported_at <= excluded.reported_at
"""  # noqa: S608  # constants


def moment(micros: int) -> datetime:
    """Microseconds since the Unix epoch as a datetime in UTC."""
    return EPOCH + timedelta(microseconds=micros)
