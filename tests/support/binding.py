"""Features as the hook binds them to a schema."""

from typing import Any

from gnomon_producer.binding import FeatureBinder
from gnomon_schemas.features import FeatureSchema


def bound(schema: FeatureSchema, given: Any, **settings: Any) -> dict[str, Any]:
    """Return the fields of the record by name; `settings` are passed to the binder."""
    binder = FeatureBinder(schema, **{"listed_only": False, "encoder_checks": True, **settings})
    return dict(zip(binder.names, binder.bind(given), strict=True))
