"""Plans, verdicts, promotions and the outbox of their events."""

from sqlalchemy import (
    UUID,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Integer,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB

from gnomon_consumer.database.tables.columns import SCHEMA, TIME, deployment, may, metadata, need, stream

plans = Table(
    "plans",
    metadata,
    Column("plan_id", BigInteger, Identity(always=True), primary_key=True),
    deployment(),
    need("sha256", Text),
    need("process", Text),
    need("plan", JSONB),
    may("evidence_from", TIME),
    need("recorded_at", TIME, default="now()"),
    comment="Every plan of a deployment's verdict, the newest of which holds. process: SHA-256 of all but the way back;"
    " another one starts a new process. evidence_from: what had been joined when it was recorded does not count; null:"
    " nothing had.",
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("verdict_id", BigInteger, Identity(always=True), primary_key=True),
    deployment(),
    need("plan_id", BigInteger, ForeignKey(f"{SCHEMA}.plans.plan_id")),
    may("cohort_id", BigInteger),
    need("as_of", TIME),
    need("decision", Text),
    need("sentence", Text),
    need("days", Integer),
    need("look", Integer),
    need("verdict", JSONB),
    need("evidence", JSONB),
    need("evidence_sha256", Text),
    need("decided_by", Text),
    need("decided_at", TIME, default="now()"),
    CheckConstraint("decision in ('PROMOTE', 'ROLLBACK', 'HOLD', 'REJECT', 'INSUFFICIENT_DATA')", name="decision"),
    comment="Append-only: what was decided, with the evidence from which anyone can decide it again.",
)

promotions = Table(
    "promotions",
    metadata,
    Column("promotion_id", BigInteger, Identity(always=True), primary_key=True),
    stream(),
    deployment(),
    Column("verdict_id", BigInteger, ForeignKey(f"{SCHEMA}.verdicts.verdict_id"), nullable=True),
    Column("undoes", BigInteger, ForeignKey(f"{SCHEMA}.promotions.promotion_id"), nullable=True),
    may("override", Text),
    need("way_back", JSONB),
    need("former", JSONB),
    need("promoted", JSONB),
    need("decided_by", Text),
    need("decided_at", TIME, default="now()"),
    UniqueConstraint("undoes"),
    comment="Append-only: promotions and their rollbacks (undoes), with the model before and after and how it was"
    " done.",
)

events = Table(
    "events",
    metadata,
    Column("event_id", UUID, primary_key=True),
    deployment(),
    need("kind", Text),
    need("data", JSONB),
    need("created_at", TIME, default="now()"),
    may("delivered_at", TIME),
    need("attempts", Integer, default="0"),
    may("problem", Text),
    comment="The outbox of CloudEvents: written with what they tell of, delivered at least once.",
)
