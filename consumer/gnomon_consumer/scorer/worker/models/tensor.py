"""The inputs and outputs of a model with named tensors, as the model declares them."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from gnomon_consumer.scorer.worker.models.base import Takes

_KINDS: Mapping[str, Takes] = {"f": "float", "i": "int", "u": "int", "b": "bool", "O": "string"}


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output; `dims` None if the model does not state it, `dtype` None for an unknown type.

    `maps` marks a sequence of maps from class to probability (ZipMap), `sequence` one of tensors, `declared` is the
    type in the model's own words.
    """

    name: str
    dtype: Any
    dims: tuple[int | None, ...]
    _: KW_ONLY
    maps: bool = False
    sequence: bool = False
    declared: str = ""

    @property
    def takes(self) -> Takes | None:
        """Return the kind of features that fit; None for a type that no feature has."""
        return None if self.dtype is None else _KINDS.get(np.dtype(self.dtype).kind)

    @property
    def width(self) -> int | None:
        """Return the number of columns if it has at least two dimensions and states it."""
        if len(self.dims) < 2:
            return None
        others = [dim for dim in self.dims[1:] if dim != 1]
        if len(others) > 1:
            return None
        return others[0] if others else 1

    def __str__(self) -> str:
        dims = ["any" if dim is None else str(dim) for dim in self.dims]
        if self.dims and self.dims[0] is None:
            dims[0] = "rows"
        kind = self.declared or ("unknown type" if self.dtype is None else np.dtype(self.dtype).name)
        return f"{kind} [{', '.join(dims)}]"
