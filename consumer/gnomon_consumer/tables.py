"""The tables of schema `gnomon`, declared once; the migrations must arrive at exactly this (a test compares).

Times are `timestamptz`; offsets, counts and microseconds are `bigint`. A `live_…` or `shadow_…` group of
columns holds one answer: value, label, scores, items, or an error. `windows` and `cells` hold what the
scorer claims beside what the joiner counted for itself (`joined_…`).

Two predictions are *comparable* when both have a label, or neither has one and both have a finite value, or
neither has either and both have items; they *agree* when the labels, the values (within the stream's
`value_tolerance`) or the lists of items are equal. `rollups` counts by this rule.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Interval,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSONB, TIMESTAMP, UUID
from sqlalchemy.schema import SchemaItem

SCHEMA = "gnomon"

metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_name)s_key",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_name)s_idx",
    },
)

_TIME = TIMESTAMP(timezone=True)
_FLOATS = ARRAY(DOUBLE_PRECISION)
_TEXTS = ARRAY(Text)


def _need(name: str, kind: Any, *items: SchemaItem, default: str | None = None) -> Column[Any]:
    """A column that is never null."""
    server_default = None if default is None else text(default)
    return Column(name, kind, *items, nullable=False, server_default=server_default)


def _may(name: str, kind: Any) -> Column[Any]:
    """A column that may be null."""
    return Column(name, kind, nullable=True)


def _counts(*names: str) -> list[Column[Any]]:
    return [_need(name, BigInteger, default="0") for name in names]


def _sums(*names: str) -> list[Column[Any]]:
    return [_need(name, DOUBLE_PRECISION, default="0") for name in names]


def _deployment() -> Column[Any]:
    return _need("deployment_id", Integer, ForeignKey(f"{SCHEMA}.deployments.deployment_id"))


def _stream() -> Column[Any]:
    return _need("stream_id", Integer, ForeignKey(f"{SCHEMA}.streams.stream_id"))


partitioning = Table(
    "partitioning",
    metadata,
    Column("only_row", Boolean, primary_key=True, server_default=text("true")),
    _need("granularity", Text, default="'month'"),
    CheckConstraint("only_row", name="single"),
    CheckConstraint("granularity in ('day', 'month')", name="granularity"),
    comment="How `pairs` is cut by event time: one row for the whole database.",
)

streams = Table(
    "streams",
    metadata,
    Column("stream_id", Integer, Identity(always=True), primary_key=True),
    _need("name", Text),
    _need("created_at", _TIME, default="now()"),
    _need("retention", Interval, default="'400 days'"),
    _may("replay_from", _TIME),
    _may("replay_until", _TIME),
    _need("value_tolerance", DOUBLE_PRECISION, default="0"),
    _need("label_kind", Text, default="'explicit'"),
    _need("label_choice", Text, default="'last'"),
    _need("label_grace", Interval, default="'0'"),
    _need("horizons", ARRAY(Interval), default="'{1 day,3 days,7 days}'"),
    UniqueConstraint("name"),
    CheckConstraint("label_kind in ('explicit', 'absence_is_negative')", name="label_kind"),
    CheckConstraint("label_choice in ('first', 'last')", name="label_choice"),
    CheckConstraint("(replay_from is null) = (replay_until is null)", name="replay_range"),
    comment="One row a stream: retention, the declared replay range, how labels are read.",
)

deployments = Table(
    "deployments",
    metadata,
    Column("deployment_id", Integer, Identity(always=True), primary_key=True),
    _stream(),
    _need("name", Text),
    _may("role", Text),
    _may("model_name", Text),
    _may("model_version", Text),
    _may("model_sha256", Text),
    _need("settings", JSONB, default="'{}'"),
    _need("status", Text, default="'active'"),
    _need("created_at", _TIME, default="now()"),
    UniqueConstraint("stream_id", "name"),
    CheckConstraint("role in ('challenger', 'control')", name="role"),
    comment="One challenger or control at work on one stream; role and model come from its DeploymentStart.",
)

feature_columns = Table(
    "feature_columns",
    metadata,
    _stream(),
    _need("name", Text),
    _need("kind", Text),
    _need("position", Integer),
    _need("avro_type", Text),
    _need("added_at", _TIME, default="now()"),
    PrimaryKeyConstraint("stream_id", "name", "kind"),
    UniqueConstraint("stream_id", "kind", "position"),
    CheckConstraint("kind in ('numeric', 'text')", name="kind"),
    CheckConstraint("position > 0", name="position"),
    comment="Where a feature lives in features_numeric or features_text (1-based). Append-only.",
)


def _answer(side: str) -> list[Column[Any]]:
    return [
        _may(f"{side}_value", DOUBLE_PRECISION),
        _may(f"{side}_label", Text),
        _may(f"{side}_scores", _FLOATS),
        _may(f"{side}_items", _TEXTS),
        _may(f"{side}_error_kind", Text),
        _may(f"{side}_error_message", Text),
        _may(f"{side}_latency_us", BigInteger),
        _may(f"{side}_feature_version", Text),
        _may(f"{side}_cache_hits", Integer),
        _may(f"{side}_cache_misses", Integer),
    ]


pairs = Table(
    "pairs",
    metadata,
    _need("deployment_id", Integer),
    _need("event_time", _TIME),
    _need("source_partition", Integer),
    _need("source_offset", BigInteger),
    _need("request_id", Text),
    _may("cluster", Text),
    _need("stratum", Text, default="''"),
    _need("segments", JSONB, default="'{}'"),
    _need("features_numeric", _FLOATS, default="'{}'"),
    _need("features_text", _TEXTS, default="'{}'"),
    *_answer("live"),
    _need("live_model_name", Text),
    _need("live_model_version", Text),
    *_answer("shadow"),
    _need("shadow_batch_size", Integer),
    _may("shadow_queued_us", BigInteger),
    _need("scored_at", _TIME),
    _need("outcome", Text),
    _need("capture_probability", DOUBLE_PRECISION),
    _need("inclusion_probability", DOUBLE_PRECISION),
    Column(
        "weight",
        DOUBLE_PRECISION,
        Computed("1.0 / (capture_probability * inclusion_probability)", persisted=True),
        nullable=True,
    ),
    _need("rank", BigInteger),
    _need("window_id", UUID(as_uuid=True)),
    _need("producer_id", UUID(as_uuid=True)),
    _need("producer_sequence", BigInteger),
    _need("replayed", Boolean, default="false"),
    _need("joined_at", _TIME, default="now()"),
    PrimaryKeyConstraint("deployment_id", "event_time", "source_partition", "source_offset"),
    Index("pairs_event_time_brin", "event_time", postgresql_using="brin"),
    Index("pairs_joined_at_brin", "joined_at", postgresql_using="brin"),
    CheckConstraint("outcome in ('scored', 'failed', 'timed_out')", name="outcome"),
    comment="A live prediction and a shadow outcome for the same request; one row a (deployment, partition, offset).",
    postgresql_partition_by="RANGE (event_time)",
)

windows = Table(
    "windows",
    metadata,
    _deployment(),
    _need("source_partition", Integer),
    _need("start_offset", BigInteger),
    _need("end_offset", BigInteger),
    _need("window_id", UUID(as_uuid=True)),
    _need("tick_id", UUID(as_uuid=True)),
    _may("first_captured_at", _TIME),
    _may("last_captured_at", _TIME),
    _need("opened_at", _TIME),
    _need("sealed_at", _TIME),
    _need("close_reason", Text),
    _need("lag_s", DOUBLE_PRECISION),
    _need("seed", BigInteger),
    _need("policy", Text),
    _may("gap_reason", Text),
    _need("gap_lost", BigInteger, default="0"),
    _may("cpu_us", BigInteger),
    _may("peak_rss_bytes", BigInteger),
    _may("gpu_us", BigInteger),
    _may("gpu_peak_bytes", BigInteger),
    _need("seen", BigInteger),
    _need("joined_seen", BigInteger),
    _need("joined_missing", BigInteger, default="0"),
    _need("shadow_offset", BigInteger),
    _need("applied_at", _TIME, default="now()"),
    _may("limited_by", Text),
    PrimaryKeyConstraint("deployment_id", "source_partition", "start_offset"),
    CheckConstraint("end_offset >= start_offset", name="range"),
    comment="The ledger by window: [start_offset, end_offset) of one source partition. `seen` is the"
    " scorer's claim, `joined_seen` what the joiner read there, `joined_missing` the claimed"
    " captures it could no longer read (expired); `shadow_offset` is where the seal stands in the"
    " shadow topic; `limited_by` says why not all of it was sampled.",
)

cells = Table(
    "cells",
    metadata,
    _deployment(),
    _need("source_partition", Integer),
    _need("start_offset", BigInteger),
    _need("stratum", Text),
    _need("seen", BigInteger),
    _need("sampled", BigInteger),
    _need("draw_probability", DOUBLE_PRECISION),
    _may("threshold", BigInteger),
    _need("scored", BigInteger),
    _need("failed", BigInteger),
    _need("timed_out", BigInteger),
    _need("dead_lettered", BigInteger),
    *_counts(
        "joined_seen",
        "joined_scored",
        "joined_failed",
        "joined_timed_out",
        "joined_dead_lettered",
        "joined_orphaned",
        "erased",
        "expired",
    ),
    PrimaryKeyConstraint("deployment_id", "source_partition", "start_offset", "stratum"),
    comment="The ledger by (window, stratum). sampled_out = seen - sampled; paired = joined_scored +"
    " joined_failed + joined_timed_out; seen = sampled_out + paired + joined_dead_lettered +"
    " joined_orphaned. Erased and expired rows stay counted among the paired.",
)

join_progress = Table(
    "join_progress",
    metadata,
    _deployment(),
    _need("source_partition", Integer),
    _need("cluster_id", Text),
    _may("topic_id", Text),
    _need("start_offset", BigInteger),
    _need("model_name", Text),
    _need("model_version", Text),
    _need("model_sha256", Text),
    _need("seed", BigInteger),
    _need("policy", Text),
    _need("started_at", _TIME),
    _need("next_source_offset", BigInteger),
    _need("next_shadow_offset", BigInteger),
    _may("event_time_reached", _TIME),
    _need("caught_up", Boolean, default="false"),
    _need("defaulted", BigInteger, default="0"),
    _need("updated_at", _TIME, default="now()"),
    PrimaryKeyConstraint("deployment_id", "source_partition"),
    comment="How far each shadow partition is joined, and the identity it must keep. `caught_up`: nothing"
    " was left to join at `updated_at`; `defaulted`: pairs whose event time fell outside the"
    " permitted range.",
)

labels = Table(
    "labels",
    metadata,
    _stream(),
    _need("request_id", Text),
    _need("observed_at", _TIME),
    _may("value", DOUBLE_PRECISION),
    _may("label", Text),
    _may("relevance", _FLOATS),
    _may("items", _TEXTS),
    _may("occurred_at", _TIME),
    _need("source", Text, default="''"),
    _may("label_partition", Integer),
    _may("label_offset", BigInteger),
    _may("load_id", BigInteger),
    _need("stored_at", _TIME, default="now()"),
    PrimaryKeyConstraint("stream_id", "request_id", "observed_at"),
    Index("labels_stored_at_brin", "stored_at", postgresql_using="brin"),
    CheckConstraint("(label_offset is null) <> (load_id is null)", name="origin"),
    comment="Every version of a label as it arrived, from the topic (label_partition, label_offset) or a"
    " file (load_id).",
)

label_watermarks = Table(
    "label_watermarks",
    metadata,
    _stream(),
    _need("label_partition", Integer),
    _need("cluster_id", Text),
    _may("topic_id", Text),
    _need("next_offset", BigInteger),
    _may("observed_until", _TIME),
    _need("idle", Boolean, default="false"),
    *_counts("received", "stored", "duplicates", "rejected"),
    _need("updated_at", _TIME, default="now()"),
    PrimaryKeyConstraint("stream_id", "label_partition"),
    comment="How far each label partition is stored, the highest observed_at consumed there, and whether it is idle.",
)

label_loads = Table(
    "label_loads",
    metadata,
    Column("load_id", BigInteger, Identity(always=True), primary_key=True),
    _stream(),
    _need("file", Text),
    _need("sha256", Text),
    *_counts("received", "stored", "duplicates", "rejected"),
    _may("complete_until", _TIME),
    _need("loaded_at", _TIME, default="now()"),
    comment="One row a file of labels; complete_until: every label observed before it is now known.",
)

cohorts = Table(
    "cohorts",
    metadata,
    Column("cohort_id", BigInteger, Identity(always=True), primary_key=True),
    _deployment(),
    _need("horizon", Interval),
    _may("since", _TIME),
    _need("until", _TIME),
    _need("watermark", _TIME),
    _need("grace", Interval),
    _need("label_kind", Text),
    _need("label_choice", Text),
    _need("source_offsets", JSONB),
    _need("label_offsets", JSONB),
    _need("load_ids", ARRAY(BigInteger)),
    _need("sealed_at", _TIME, default="now()"),
    UniqueConstraint("deployment_id", "horizon", "until"),
    comment="Sealed slices [since, until) of event time, old enough for their horizon; the cohort at a"
    " time is the union of the slices up to it. A pair belongs if its offset is below"
    " source_offsets[partition] and it was not replayed after sealed_at; a label if its offset is"
    " below label_offsets[partition] or its load is among load_ids.",
)

cohort_estimates = Table(
    "cohort_estimates",
    metadata,
    _need("cohort_id", BigInteger, ForeignKey(f"{SCHEMA}.cohorts.cohort_id")),
    _need("metric", Text),
    _need("side", Text),
    _need("n", BigInteger),
    _may("n_effective", DOUBLE_PRECISION),
    _may("weight", DOUBLE_PRECISION),
    _may("clusters", BigInteger),
    _may("days", BigInteger),
    _may("estimate", DOUBLE_PRECISION),
    _may("se_row", DOUBLE_PRECISION),
    _may("se_cluster", DOUBLE_PRECISION),
    _may("se_day", DOUBLE_PRECISION),
    _may("standard_error", DOUBLE_PRECISION),
    _may("low", DOUBLE_PRECISION),
    _may("high", DOUBLE_PRECISION),
    _need("status", Text),
    _need("computed_at", _TIME, default="now()"),
    PrimaryKeyConstraint("cohort_id", "metric", "side"),
    comment="What `report quality` computed of a sealed cohort (the slice and all before it), by UTC days: a"
    " cohort does not change, so neither does this. `gnomon db maintain` fills it; erasing a request"
    " of the stream, or a new SQL version of the reports, empties it.",
)

rollups = Table(
    "rollups",
    metadata,
    _deployment(),
    _need("hour", _TIME),
    _need("stratum", Text),
    *_counts(
        "seen",
        "sampled",
        "scored",
        "failed",
        "timed_out",
        "dead_lettered",
        "orphaned",
        "live_failed",
        "comparable",
        "agreed",
    ),
    *_sums(
        "weight",
        "weight_squared",
        "failed_weight",
        "failed_weight_squared",
        "timed_out_weight",
        "timed_out_weight_squared",
        "live_failed_weight",
        "live_failed_weight_squared",
        "comparable_weight",
        "comparable_weight_squared",
        "agreed_weight",
        "agreed_weight_squared",
        "value_difference",
        "value_difference_absolute",
        "value_difference_squared",
        "value_difference_weight",
    ),
    PrimaryKeyConstraint("deployment_id", "hour", "stratum"),
    comment="Counts and weighted sums by hour of event time (dead letters and orphans: of the window) and"
    " stratum, written with the pairs they sum. x_weight = sum of w over x, x_weight_squared = sum"
    " of w squared; the value differences are weighted sums over the rows with two finite values,"
    " whose weight is value_difference_weight.",
)

producer_tallies = Table(
    "producer_tallies",
    metadata,
    _deployment(),
    _need("source_partition", Integer),
    _need("producer_id", UUID(as_uuid=True)),
    _need("received", BigInteger),
    _need("lowest_sequence", BigInteger),
    _need("highest_sequence", BigInteger),
    _need("repeated", BigInteger, default="0"),
    _need("first_captured_at", _TIME),
    _need("last_captured_at", _TIME),
    PrimaryKeyConstraint("deployment_id", "source_partition", "producer_id"),
    comment="What one partition received of one producer run; `repeated` counts sequence numbers that did"
    " not rise (keys spread a run over the partitions, so gaps show only in their sum).",
)

producer_reports = Table(
    "producer_reports",
    metadata,
    _stream(),
    _need("producer_id", UUID(as_uuid=True)),
    _need("service", Text),
    _need("host", Text),
    _need("pid", Integer),
    _need("started_at", _TIME),
    _need("reported_at", _TIME),
    _need("offered", BigInteger),
    _need("delivered", BigInteger),
    _need("dropped", JSONB, default="'{}'"),
    *_counts("sampled_out", "switched_off"),
    _need("closed", Boolean, default="false"),
    _need("stored_at", _TIME, default="now()"),
    PrimaryKeyConstraint("stream_id", "producer_id"),
    comment="The last heartbeat of each producer run.",
)

dead_letters = Table(
    "dead_letters",
    metadata,
    _deployment(),
    _need("source_partition", Integer),
    _need("source_offset", BigInteger),
    _may("request_id", Text),
    _need("stratum", Text, default="''"),
    _need("stage", Text),
    _need("reason", Text),
    _need("detail", Text),
    _may("size", BigInteger),
    _need("window_start", BigInteger),
    _need("inclusion_probability", DOUBLE_PRECISION),
    _need("rank", BigInteger),
    _need("recorded_at", _TIME, default="now()"),
    PrimaryKeyConstraint("deployment_id", "source_partition", "source_offset"),
    comment="A sampled capture that could not become a pair, by its coordinates; the bytes stay in Kafka.",
)

reference_profiles = Table(
    "reference_profiles",
    metadata,
    _stream(),
    _need("name", Text),
    _need("deployment", Text, default="''"),
    _need("feature", Text),
    _need("kind", Text),
    _need("n", BigInteger),
    _need("n_effective", DOUBLE_PRECISION),
    _need("null_share", DOUBLE_PRECISION),
    _need("nan_share", DOUBLE_PRECISION),
    _need("edges", _FLOATS, default="'{}'"),
    _need("categories", _TEXTS, default="'{}'"),
    _need("complete", Boolean, default="true"),
    _need("shares", _FLOATS),
    _need("points", _FLOATS, default="'{}'"),
    _need("masses", _FLOATS, default="'{}'"),
    _need("source", Text),
    _need("built_at", _TIME, default="now()"),
    PrimaryKeyConstraint("stream_id", "name", "deployment", "feature", "kind"),
    CheckConstraint("kind in ('numeric', 'text')", name="kind"),
    comment=(
        "Frozen profiles that drift is measured against, one row a feature (or an answer: @live.value, "
        "@live.label, @shadow.value, @shadow.label of a deployment). shares: of what is neither null nor NaN, "
        "by bin: numeric bins are cut at edges (the edge belongs to the bin above), text bins are categories "
        "and then the rest; complete: there was no rest. points and masses: the numeric distribution itself."
    ),
)

view_versions = Table(
    "view_versions",
    metadata,
    Column("name", Text, primary_key=True),
    _need("sha256", Text),
    _need("applied_at", _TIME, default="now()"),
    comment="Which SQL of functions and views stands in the database.",
)
