"""All versions of labels, and the cohorts sealed from them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Interval,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSONB

from gnomon_consumer.database.tables.columns import (
    FLOATS,
    SCHEMA,
    TEXTS,
    TIME,
    counts,
    deployment,
    may,
    metadata,
    need,
    stream,
)

labels = Table(
    "labels",
    metadata,
    stream(),
    need("request_id", Text),
    need("observed_at", TIME),
    may("value", DOUBLE_PRECISION),
    may("label", Text),
    may("relevance", FLOATS),
    may("items", TEXTS),
    may("occurred_at", TIME),
    need("source", Text, default="''"),
    may("label_partition", Integer),
    may("label_offset", BigInteger),
    may("load_id", BigInteger),
    need("stored_at", TIME, default="now()"),
    PrimaryKeyConstraint("stream_id", "request_id", "observed_at"),
    Index("labels_stored_at_brin", "stored_at", postgresql_using="brin"),
    CheckConstraint("(label_offset is null) <> (load_id is null)", name="origin"),
    comment="Every version of a label as it arrived, from the topic (label_partition, label_offset) or a"
    " file (load_id).",
)

label_watermarks = Table(
    "label_watermarks",
    metadata,
    stream(),
    need("label_partition", Integer),
    need("cluster_id", Text),
    may("topic_id", Text),
    need("next_offset", BigInteger),
    may("observed_until", TIME),
    need("idle", Boolean, default="false"),
    *counts("received", "stored", "duplicates", "rejected"),
    need("updated_at", TIME, default="now()"),
    PrimaryKeyConstraint("stream_id", "label_partition"),
    comment="How far each label partition is stored, the highest observed_at consumed there, and whether it is idle.",
)

label_loads = Table(
    "label_loads",
    metadata,
    Column("load_id", BigInteger, Identity(always=True), primary_key=True),
    stream(),
    need("file", Text),
    need("sha256", Text),
    *counts("received", "stored", "duplicates", "rejected"),
    may("complete_until", TIME),
    need("loaded_at", TIME, default="now()"),
    comment="One row a file of labels; complete_until: every label observed before it is now known.",
)

cohorts = Table(
    "cohorts",
    metadata,
    Column("cohort_id", BigInteger, Identity(always=True), primary_key=True),
    deployment(),
    need("horizon", Interval),
    may("since", TIME),
    need("until", TIME),
    need("watermark", TIME),
    need("grace", Interval),
    need("label_kind", Text),
    need("label_choice", Text),
    need("source_offsets", JSONB),
    need("label_offsets", JSONB),
    need("load_ids", ARRAY(BigInteger)),
    need("sealed_at", TIME, default="now()"),
    UniqueConstraint("deployment_id", "horizon", "until"),
    comment="Sealed slices [since, until) of event time, old enough for their horizon; the cohort at a"
    " time is the union of the slices up to it. A pair belongs if its offset is below"
    " source_offsets[partition] and it was not replayed after sealed_at; a label if its offset is"
    " below label_offsets[partition] or its load is among load_ids.",
)

cohort_estimates = Table(
    "cohort_estimates",
    metadata,
    need("cohort_id", BigInteger, ForeignKey(f"{SCHEMA}.cohorts.cohort_id")),
    need("metric", Text),
    need("side", Text),
    need("n", BigInteger),
    may("n_effective", DOUBLE_PRECISION),
    may("weight", DOUBLE_PRECISION),
    may("clusters", BigInteger),
    may("days", BigInteger),
    may("estimate", DOUBLE_PRECISION),
    may("se_row", DOUBLE_PRECISION),
    may("se_cluster", DOUBLE_PRECISION),
    may("se_day", DOUBLE_PRECISION),
    may("standard_error", DOUBLE_PRECISION),
    may("low", DOUBLE_PRECISION),
    may("high", DOUBLE_PRECISION),
    need("status", Text),
    need("computed_at", TIME, default="now()"),
    need("report", Text, default="'quality'"),
    may("se_period", DOUBLE_PRECISION),
    may("period_low", DOUBLE_PRECISION),
    may("period_high", DOUBLE_PRECISION),
    PrimaryKeyConstraint("cohort_id", "metric", "side"),
    comment="What `report quality` computed of a sealed cohort (the slice and all before it), by UTC days: a"
    " cohort does not change, so neither does this; of the newest, `report agreement` and `report errors` too, over"
    " all pairs captured before its end. `gnomon db maintain` fills it; erasing a request of the stream, or a new SQL"
    " version of the reports, empties it, as far as the pairs are still there to compute it again.",
)

cohort_latencies = Table(
    "cohort_latencies",
    metadata,
    need("cohort_id", BigInteger, ForeignKey(f"{SCHEMA}.cohorts.cohort_id")),
    need("measure", Text),
    need("quantile", DOUBLE_PRECISION),
    need("n", BigInteger),
    may("n_effective", DOUBLE_PRECISION),
    may("weight", DOUBLE_PRECISION),
    may("microseconds", DOUBLE_PRECISION),
    may("se_row", DOUBLE_PRECISION),
    may("se_cluster", DOUBLE_PRECISION),
    may("se_day", DOUBLE_PRECISION),
    may("standard_error", DOUBLE_PRECISION),
    may("low", DOUBLE_PRECISION),
    may("high", DOUBLE_PRECISION),
    need("computed_at", TIME, default="now()"),
    may("se_period", DOUBLE_PRECISION),
    may("period_low", DOUBLE_PRECISION),
    may("period_high", DOUBLE_PRECISION),
    PrimaryKeyConstraint("cohort_id", "measure", "quantile"),
    comment="What `report latency` computed of all pairs captured before the end of the newest sealed cohort, by UTC"
    " days; filled and emptied with cohort_estimates.",
)
