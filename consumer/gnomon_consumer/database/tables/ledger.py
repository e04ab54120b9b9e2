"""The ledger of captures: windows and cells, progress, producers, dead letters."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION, JSONB, UUID

from gnomon_consumer.database.tables.columns import TIME, counts, deployment, may, metadata, need, stream, sums

windows = Table(
    "windows",
    metadata,
    deployment(),
    need("source_partition", Integer),
    need("start_offset", BigInteger),
    need("end_offset", BigInteger),
    need("window_id", UUID(as_uuid=True)),
    need("tick_id", UUID(as_uuid=True)),
    may("first_captured_at", TIME),
    may("last_captured_at", TIME),
    need("opened_at", TIME),
    need("sealed_at", TIME),
    need("close_reason", Text),
    need("lag_s", DOUBLE_PRECISION),
    need("seed", BigInteger),
    need("policy", Text),
    may("gap_reason", Text),
    need("gap_lost", BigInteger, default="0"),
    may("cpu_us", BigInteger),
    may("peak_rss_bytes", BigInteger),
    may("gpu_us", BigInteger),
    may("gpu_peak_bytes", BigInteger),
    need("seen", BigInteger),
    need("joined_seen", BigInteger),
    need("joined_missing", BigInteger, default="0"),
    need("shadow_offset", BigInteger),
    need("applied_at", TIME, default="now()"),
    may("limited_by", Text),
    need("probe_approximate", Boolean, default="false"),
    PrimaryKeyConstraint("deployment_id", "source_partition", "start_offset"),
    Index("windows_probe_approximate", "deployment_id", postgresql_where=text("probe_approximate")),
    CheckConstraint("end_offset >= start_offset", name="range"),
    comment="The ledger by window: [start_offset, end_offset) of one source partition. `seen` is the"
    " scorer's claim, `joined_seen` what the joiner read there, `joined_missing` the claimed"
    " captures it could no longer read (expired); `shadow_offset` is where the seal stands in the"
    " shadow topic; `limited_by` says why not all of it was sampled; `probe_approximate`: an earlier"
    " version chose its latency probe, whose weights are approximate.",
)

cells = Table(
    "cells",
    metadata,
    deployment(),
    need("source_partition", Integer),
    need("start_offset", BigInteger),
    need("stratum", Text),
    need("seen", BigInteger),
    need("sampled", BigInteger),
    need("draw_probability", DOUBLE_PRECISION),
    may("threshold", BigInteger),
    need("scored", BigInteger),
    need("failed", BigInteger),
    need("timed_out", BigInteger),
    need("dead_lettered", BigInteger),
    *counts(
        "joined_seen",
        "joined_scored",
        "joined_failed",
        "joined_timed_out",
        "joined_dead_lettered",
        "joined_orphaned",
        "erased",
        "expired",
    ),
    may("probed", BigInteger),
    may("probe_probability", DOUBLE_PRECISION),
    PrimaryKeyConstraint("deployment_id", "source_partition", "start_offset", "stratum"),
    comment="The ledger by (window, stratum). sampled_out = seen - sampled; paired = joined_scored +"
    " joined_failed + joined_timed_out; seen = sampled_out + paired + joined_dead_lettered +"
    " joined_orphaned. Erased and expired rows stay counted among the paired. `probed` rows were chosen"
    " for the latency probe, each capture with `probe_probability`.",
)

join_progress = Table(
    "join_progress",
    metadata,
    deployment(),
    need("source_partition", Integer),
    need("cluster_id", Text),
    may("topic_id", Text),
    need("start_offset", BigInteger),
    need("model_name", Text),
    need("model_version", Text),
    need("model_sha256", Text),
    need("seed", BigInteger),
    need("policy", Text),
    need("started_at", TIME),
    need("next_source_offset", BigInteger),
    need("next_shadow_offset", BigInteger),
    may("event_time_reached", TIME),
    need("caught_up", Boolean, default="false"),
    need("defaulted", BigInteger, default="0"),
    need("updated_at", TIME, default="now()"),
    PrimaryKeyConstraint("deployment_id", "source_partition"),
    comment="How far each shadow partition is joined, and the identity it must keep. `caught_up`: nothing"
    " was left to join at `updated_at`; `defaulted`: pairs whose event time fell outside the"
    " permitted range.",
)

rollups = Table(
    "rollups",
    metadata,
    deployment(),
    need("hour", TIME),
    need("stratum", Text),
    *counts(
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
        "both_failed",
        "valued",
    ),
    *sums(
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
        "both_failed_weight",
        "both_failed_weight_squared",
        "squared_weight_value_difference",
        "squared_weight_value_difference_absolute",
        "squared_weight_value_difference_squared",
        "squared_weight_value_difference_weight",
    ),
    PrimaryKeyConstraint("deployment_id", "hour", "stratum"),
    comment="Counts and weighted sums by hour of event time (dead letters and orphans: of the window) and"
    " stratum, written with the pairs they sum. x_weight = sum of w over x, x_weight_squared = sum"
    " of w squared; the value differences are weighted sums over the `valued` rows, those with two finite values,"
    " whose weight is value_difference_weight, and squared_weight_… the same with w squared in place of w.",
)

rollup_labels = Table(
    "rollup_labels",
    metadata,
    deployment(),
    need("hour", TIME),
    need("live_label", Text),
    need("shadow_label", Text),
    *counts("pairs"),
    *sums("weight", "weight_squared"),
    PrimaryKeyConstraint("deployment_id", "hour", "live_label", "shadow_label"),
    comment="Live decision against shadow decision by hour of event time, over comparable pairs, written with them:"
    " how many, sum of w, sum of w squared.",
)

producer_tallies = Table(
    "producer_tallies",
    metadata,
    deployment(),
    need("source_partition", Integer),
    need("producer_id", UUID(as_uuid=True)),
    need("received", BigInteger),
    need("lowest_sequence", BigInteger),
    need("highest_sequence", BigInteger),
    need("repeated", BigInteger, default="0"),
    need("first_captured_at", TIME),
    need("last_captured_at", TIME),
    PrimaryKeyConstraint("deployment_id", "source_partition", "producer_id"),
    comment="What one partition received of one producer run; `repeated` counts sequence numbers that did"
    " not rise (keys spread a run over the partitions, so gaps show only in their sum).",
)

producer_reports = Table(
    "producer_reports",
    metadata,
    stream(),
    need("producer_id", UUID(as_uuid=True)),
    need("service", Text),
    need("host", Text),
    need("pid", Integer),
    need("started_at", TIME),
    need("reported_at", TIME),
    need("offered", BigInteger),
    need("delivered", BigInteger),
    need("dropped", JSONB, default="'{}'"),
    *counts("sampled_out", "switched_off"),
    need("closed", Boolean, default="false"),
    need("stored_at", TIME, default="now()"),
    PrimaryKeyConstraint("stream_id", "producer_id"),
    comment="The last heartbeat of each producer run.",
)

dead_letters = Table(
    "dead_letters",
    metadata,
    deployment(),
    need("source_partition", Integer),
    need("source_offset", BigInteger),
    may("request_id", Text),
    need("stratum", Text, default="''"),
    need("stage", Text),
    need("reason", Text),
    need("detail", Text),
    may("size", BigInteger),
    need("window_start", BigInteger),
    need("inclusion_probability", DOUBLE_PRECISION),
    need("rank", BigInteger),
    need("recorded_at", TIME, default="now()"),
    PrimaryKeyConstraint("deployment_id", "source_partition", "source_offset"),
    comment="A sampled capture that could not become a pair, by its coordinates; the bytes stay in Kafka.",
)
