"""The former name of `feature_schemas`, for scripts that import it."""

from gnomon_consumer.feature_schemas import compare

__all__ = ["compare"]
