"""The table of pairs."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION, JSONB, UUID

from gnomon_consumer.database.tables.columns import (
    FLOATS,
    TEXTS,
    TIME,
    may,
    metadata,
    need,
)


def _answer(side: str) -> list[Column[Any]]:
    return [
        may(f"{side}_value", DOUBLE_PRECISION),
        may(f"{side}_label", Text),
        may(f"{side}_scores", FLOATS),
        may(f"{side}_items", TEXTS),
        may(f"{side}_error_kind", Text),
        may(f"{side}_error_message", Text),
        may(f"{side}_latency_us", BigInteger),
        may(f"{side}_feature_version", Text),
        may(f"{side}_cache_hits", Integer),
        may(f"{side}_cache_misses", Integer),
    ]


pairs = Table(
    "pairs",
    metadata,
    need("deployment_id", Integer),
    need("event_time", TIME),
    need("source_partition", Integer),
    need("source_offset", BigInteger),
    need("request_id", Text),
    may("cluster", Text),
    need("stratum", Text, default="''"),
    need("segments", JSONB, default="'{}'"),
    need("features_numeric", FLOATS, default="'{}'"),
    need("features_text", TEXTS, default="'{}'"),
    *_answer("live"),
    need("live_model_name", Text),
    need("live_model_version", Text),
    *_answer("shadow"),
    need("shadow_batch_size", Integer),
    may("shadow_queued_us", BigInteger),
    need("scored_at", TIME),
    need("outcome", Text),
    need("capture_probability", DOUBLE_PRECISION),
    need("inclusion_probability", DOUBLE_PRECISION),
    Column(
        "weight",
        DOUBLE_PRECISION,
        Computed("1.0 / (capture_probability * inclusion_probability)", persisted=True),
        nullable=True,
    ),
    need("rank", BigInteger),
    need("window_id", UUID(as_uuid=True)),
    need("producer_id", UUID(as_uuid=True)),
    need("producer_sequence", BigInteger),
    need("replayed", Boolean, default="false"),
    need("joined_at", TIME, default="now()"),
    may("probe_probability", DOUBLE_PRECISION),
    PrimaryKeyConstraint("deployment_id", "event_time", "source_partition", "source_offset"),
    Index("pairs_event_time_brin", "event_time", postgresql_using="brin"),
    Index("pairs_joined_at_brin", "joined_at", postgresql_using="brin"),
    CheckConstraint("outcome in ('scored', 'failed', 'timed_out')", name="outcome"),
    comment="A live prediction and a shadow outcome for the same request; one row a (deployment, partition, offset).",
    postgresql_partition_by="RANGE (event_time)",
)
