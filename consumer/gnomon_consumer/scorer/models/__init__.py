"""The former name of `scorer.worker.models`, for scripts that import it."""

from gnomon_consumer.scorer.worker.models import ModelSpec, describe, load

__all__ = ["ModelSpec", "describe", "load"]
