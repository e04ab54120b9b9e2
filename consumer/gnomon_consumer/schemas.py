"""The name of `feature_schemas` in 0.1.0's first sources, for scripts that were written then."""

from gnomon_consumer.feature_schemas import compare

__all__ = ["compare"]
