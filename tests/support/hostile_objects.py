"""Objects that do harm when they are looked at."""

from typing import Any


# Where an ignored argument type has no reason beside it, it is the test: a caller that no type checker has held back.
class Hostile:
    """Raises whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("hostile")

    def _raise(self, *_: object) -> Any:
        raise RuntimeError("hostile")

    __getitem__ = __iter__ = __len__ = __contains__ = __repr__ = __str__ = __bool__ = _raise
    __eq__ = __hash__ = __float__ = __int__ = __index__ = __format__ = __call__ = _raise
