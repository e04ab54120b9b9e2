"""The manifest of evidence: the origin of a verdict's numbers."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Any

from gnomon_consumer.verdict.database import Connection, Row, rows
from gnomon_consumer.verdict.plans import StoredPlan
from gnomon_migrations.revision import newest_revision
from gnomon_schemas.schema import RECORDS, record_schema


def manifest(
    connection: Connection,
    deployment: Row,
    plans: Sequence[StoredPlan],
    horizon: timedelta | None,
    as_of: datetime | None,
) -> dict[str, Any]:
    """Return the origin of the evidence: offsets, loads, model, seeds, plans, schemas, versions."""
    cohorts = rows(
        connection,
        "select cohort_id, until, source_offsets, label_offsets, load_ids from gnomon.cohorts"
        " where deployment_id = %(id)s and horizon = %(horizon)s::interval"
        " and sealed_at <= coalesce(%(as_of)s::timestamptz, 'infinity')"
        " order by until desc limit 1",
        {"id": deployment["deployment_id"], "horizon": horizon, "as_of": as_of},
    )
    starts = rows(
        connection,
        "select source_partition, start_offset, topic_id, seed, policy from gnomon.join_progress"
        " where deployment_id = %(id)s order by 1",
        {"id": deployment["deployment_id"]},
    )
    features = rows(
        connection,
        "select f.name, f.avro_type from gnomon.feature_columns f join gnomon.deployments d using (stream_id)"
        " where d.deployment_id = %(id)s and f.added_at <= coalesce(%(as_of)s::timestamptz, 'infinity') order by 1",
        {"id": deployment["deployment_id"], "as_of": as_of},
    )
    views = rows(connection, "select name, sha256 from gnomon.view_versions order by 1", {})
    return {
        "model": {key: deployment[key] for key in ("model_name", "model_version", "model_sha256")},
        "plans": [{"sha256": p.sha256, "recorded_at": p.recorded_at.isoformat()} for p in plans],
        "partitions": [{**row} for row in starts],
        "features": {row["name"]: row["avro_type"] for row in features},
        "schemas": {name: str(record_schema(name).fingerprint) for name in RECORDS if name != "LivePrediction"},
        "cohort": {**cohorts[0], "until": cohorts[0]["until"].isoformat()} if cohorts else None,
        "sql": {row["name"]: row["sha256"] for row in views},
        "tables": newest_revision(),
        "software": version("gnomon"),
    }
