"""Plans, verdicts, promotions and the outbox of their events."""

from sqlalchemy import (
    UUID,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    text,
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

promotion_intents = Table(
    "promotion_intents",
    metadata,
    Column("promotion_id", BigInteger, primary_key=True, autoincrement=False),
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
    may("outcome", Text),
    may("resolved_at", TIME),
    CheckConstraint("outcome in ('done', 'undone')", name="outcome"),
    CheckConstraint("(outcome is null) = (resolved_at is null)", name="resolved"),
    Index("promotion_intents_open", "stream_id", unique=True, postgresql_where=text("outcome is null")),
    comment="What a promotion or rollback is about to do, committed before it acts, under the number that it will have."
    " outcome: done (it stands in promotions), undone (the switch is where it was), null: it is under way, or was cut"
    " off; at most one such row a stream.",
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
