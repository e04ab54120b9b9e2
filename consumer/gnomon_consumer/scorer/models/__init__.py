"""The name of `scorer.worker.models` in 0.1.0's first sources, for scripts that were written then."""

from gnomon_consumer.scorer.worker.models import ModelSpec, describe, load

__all__ = ["ModelSpec", "describe", "load"]
