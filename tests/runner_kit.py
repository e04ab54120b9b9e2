"""The test kit of the models under its earlier name, for small scripts outside of the repository."""

from tests.support.model_runners import load, outcomes

__all__ = ["load", "outcomes"]
