"""The tables of schema `gnomon`, declared once; the migrations must produce exactly these (a test compares).

Times are `timestamptz`; offsets, counts and microseconds are `bigint`. A `live_…` or `shadow_…` group of columns holds
one answer: value, label, scores, items, or an error. `windows` and `cells` hold the scorer's claims and the joiner's
own counts (`joined_…`).

Two predictions are *comparable* when both have a label, or neither has one and both have a finite value, or
neither has either and both have items; they *agree* when the labels, the values (within the stream's
`value_tolerance`) or the lists of items are equal. `rollups` counts by this rule.
"""

from gnomon_consumer.database.tables import labels, ledger, reporting, streams, verdicts
from gnomon_consumer.database.tables.columns import SCHEMA, metadata
from gnomon_consumer.database.tables.pairs import pairs

__all__ = ["SCHEMA", "labels", "ledger", "metadata", "pairs", "reporting", "streams", "verdicts"]
