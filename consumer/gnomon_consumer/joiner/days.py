"""The table partitions that a batch of pairs needs, made beforehand: DDL has no place in the write's transaction."""

from collections import Counter
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import errors

from gnomon_consumer.joiner.ledger import moment
from gnomon_consumer.joiner.window import HOUR_US

DAY_US = 24 * HOUR_US


class Days:
    """The days of event time that are known to have a table partition."""

    def __init__(self, connection: psycopg.Connection[Any], stream_id: int) -> None:
        self._connection = connection
        self._stream_id = stream_id
        self._known: set[int] = set()

    def ensure(self, pairs: pa.RecordBatch) -> Counter[int]:
        """Make what is missing, each in a transaction of its own; count by source partition what gets none.

        Those rows go to the default partition.
        """
        times = pairs.column("event_time").to_pylist()
        days = {time // DAY_US: time for time in times}
        for day in sorted(days.keys() - self._known):
            if self._ensure(days[day]):
                self._known.add(day)
        if days.keys() <= self._known:
            return Counter()
        return Counter(
            partition
            for time, partition in zip(times, pairs.column("source_partition").to_pylist(), strict=True)
            if time // DAY_US not in self._known
        )

    def _ensure(self, time: int) -> bool:
        try:
            row = self._connection.execute(
                "select gnomon.ensure_partition(%s, %s)", [self._stream_id, moment(time)]
            ).fetchone()
        except errors.LockNotAvailable:
            # A long report holds the table: the default partition takes these rows, `db maintain` moves them later.
            return False
        return bool(row and row[0])
