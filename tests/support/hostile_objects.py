"""Objects that do harm when they are read."""

from typing import Any


# An ignored argument type without a reason is the test itself: a call that a type checker would refuse.
class Hostile:
    """Raises for any operation."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("hostile")

    def _raise(self, *_: object) -> Any:
        raise RuntimeError("hostile")

    __getitem__ = __iter__ = __len__ = __contains__ = __repr__ = __str__ = __bool__ = _raise
    __eq__ = __hash__ = __float__ = __int__ = __index__ = __format__ = __call__ = _raise
