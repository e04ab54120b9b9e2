"""The table partitions for a batch of pairs, created before the write: its transaction should contain no DDL."""

from collections import Counter
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from psycopg import errors

from gnomon_consumer.database.queries import queries_of
from gnomon_consumer.joiner.merge.shadow_records import numbers
from gnomon_consumer.times import HOUR_US, moment

DAY_US = 24 * HOUR_US
SQL = queries_of(__package__)


class DayPartitions:
    """The days of event time with a known table partition."""

    def __init__(self, connection: psycopg.Connection[Any], stream_id: int) -> None:
        self._connection = connection
        self._stream_id = stream_id
        self._known: set[int] = set()

    def ensure(self, pairs: pa.RecordBatch) -> Counter[int]:
        """Create missing partitions, each in its own transaction; count, by source partition, the rows without one.

        Those rows go to the default partition.
        """
        times = numbers(pairs, "event_time")
        days = times // DAY_US
        for day, first in zip(*(found.tolist() for found in np.unique(days, return_index=True)), strict=True):
            if day not in self._known and self._ensure(int(times[first])):
                self._known.add(day)
        outside = ~np.isin(days, list(self._known))
        return Counter(numbers(pairs, "source_partition")[outside].tolist())

    def _ensure(self, time: int) -> bool:
        try:
            row = self._connection.execute(SQL["ensure_partition"], [self._stream_id, moment(time)]).fetchone()
        except errors.LockNotAvailable:
            # A long report holds the table: the default partition takes these rows, `db maintain` moves them later.
            return False
        return bool(row and row[0])
