"""The manifest of evidence: the origin of a verdict's numbers."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Any

from psycopg.rows import DictRow

from gnomon_consumer.database.connections import Connection
from gnomon_consumer.verdict.database import SQL, rows
from gnomon_consumer.verdict.plans import StoredPlan
from gnomon_migrations.revision import newest_revision
from gnomon_schemas.schema import RECORDS, record_schema


def manifest(
    connection: Connection,
    deployment: DictRow,
    plans: Sequence[StoredPlan],
    horizon: timedelta | None,
    as_of: datetime | None,
) -> dict[str, Any]:
    """Return the origin of the evidence: offsets, loads, model, seeds, plans, schemas, versions."""
    known = {"id": deployment["deployment_id"], "as_of": as_of}
    cohorts = rows(connection, SQL["cohort_of_evidence"], {**known, "horizon": horizon})
    starts = rows(connection, SQL["partitions"], known)
    features = rows(connection, SQL["features"], known)
    views = rows(connection, SQL["view_versions"], {})
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
