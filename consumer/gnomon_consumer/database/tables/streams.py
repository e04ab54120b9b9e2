"""Streams, their deployments and features, and the partitioning of pairs."""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Identity,
    Integer,
    Interval,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSONB

from gnomon_consumer.database.tables.columns import TIME, may, metadata, need, stream

partitioning = Table(
    "partitioning",
    metadata,
    Column("only_row", Boolean, primary_key=True, server_default=text("true")),
    need("granularity", Text, default="'month'"),
    CheckConstraint("only_row", name="single"),
    CheckConstraint("granularity in ('day', 'month')", name="granularity"),
    comment="How `pairs` is cut by event time: one row for the whole database.",
)

streams = Table(
    "streams",
    metadata,
    Column("stream_id", Integer, Identity(always=True), primary_key=True),
    need("name", Text),
    need("created_at", TIME, default="now()"),
    need("retention", Interval, default="'400 days'"),
    may("replay_from", TIME),
    may("replay_until", TIME),
    need("value_tolerance", DOUBLE_PRECISION, default="0"),
    need("label_kind", Text, default="'explicit'"),
    need("label_choice", Text, default="'last'"),
    need("label_grace", Interval, default="'0'"),
    need("horizons", ARRAY(Interval), default="'{1 day,3 days,7 days}'"),
    need("relative_tolerance", DOUBLE_PRECISION, default="0.00001"),
    may("task", Text),
    may("positive_class", Text),
    may("negative_class", Text),
    may("classes", ARRAY(Text)),
    need("time_zone", Text, default="'UTC'"),
    UniqueConstraint("name"),
    CheckConstraint("label_kind in ('explicit', 'absence_is_negative')", name="label_kind"),
    CheckConstraint("label_choice in ('first', 'last')", name="label_choice"),
    CheckConstraint("(replay_from is null) = (replay_until is null)", name="replay_range"),
    CheckConstraint("task in ('binary', 'multiclass', 'regression', 'ranking')", name="task"),
    CheckConstraint(
        "(positive_class is null) = (negative_class is null)"
        " and positive_class is distinct from coalesce(negative_class, '')",
        name="two_classes",
    ),
    CheckConstraint("value_tolerance >= 0 and relative_tolerance >= 0 and relative_tolerance < 1", name="tolerance"),
    comment="One row a stream: retention, the declared replay range, its task and classes, when two values agree, how"
    " labels are read.",
)

deployments = Table(
    "deployments",
    metadata,
    Column("deployment_id", Integer, Identity(always=True), primary_key=True),
    stream(),
    need("name", Text),
    may("role", Text),
    may("model_name", Text),
    may("model_version", Text),
    may("model_sha256", Text),
    need("settings", JSONB, default="'{}'"),
    need("status", Text, default="'active'"),
    need("created_at", TIME, default="now()"),
    UniqueConstraint("stream_id", "name"),
    CheckConstraint("role in ('challenger', 'control')", name="role"),
    comment="One challenger or control at work on one stream; role and model come from its DeploymentStart.",
)

feature_columns = Table(
    "feature_columns",
    metadata,
    stream(),
    need("name", Text),
    need("kind", Text),
    need("position", Integer),
    need("avro_type", Text),
    need("added_at", TIME, default="now()"),
    PrimaryKeyConstraint("stream_id", "name", "kind"),
    UniqueConstraint("stream_id", "kind", "position"),
    CheckConstraint("kind in ('numeric', 'text')", name="kind"),
    CheckConstraint("position > 0", name="position"),
    comment="Where a feature lives in features_numeric or features_text (1-based). Append-only.",
)
