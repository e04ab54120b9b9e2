"""Results that the reports store."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    PrimaryKeyConstraint,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION

from gnomon_consumer.database.tables.columns import FLOATS, TEXTS, TIME, metadata, need, stream

reference_profiles = Table(
    "reference_profiles",
    metadata,
    stream(),
    need("name", Text),
    need("deployment", Text, default="''"),
    need("feature", Text),
    need("kind", Text),
    need("n", BigInteger),
    need("n_effective", DOUBLE_PRECISION),
    need("null_share", DOUBLE_PRECISION),
    need("nan_share", DOUBLE_PRECISION),
    need("edges", FLOATS, default="'{}'"),
    need("categories", TEXTS, default="'{}'"),
    need("complete", Boolean, default="true"),
    need("shares", FLOATS),
    need("points", FLOATS, default="'{}'"),
    need("masses", FLOATS, default="'{}'"),
    need("source", Text),
    need("built_at", TIME, default="now()"),
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
    need("sha256", Text),
    need("applied_at", TIME, default="now()"),
    comment="Which SQL of functions and views stands in the database.",
)
