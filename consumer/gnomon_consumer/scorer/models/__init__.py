"""The name of `scorer.worker.models` in 0.1.0, for scripts that import it."""

from gnomon_consumer.scorer.worker.models import ModelSpec, describe, load

__all__ = ["ModelSpec", "describe", "load"]
