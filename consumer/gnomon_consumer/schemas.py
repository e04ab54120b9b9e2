"""The name of `feature_schemas` in 0.1.0, for scripts that import it."""

from gnomon_consumer.feature_schemas import compare

__all__ = ["compare"]
