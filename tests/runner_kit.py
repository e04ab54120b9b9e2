"""The former name of the models' test kit, for small scripts outside of the repository."""

from tests.support.model_runners import load, outcomes

__all__ = ["load", "outcomes"]
