"""Arrays of NumPy by their elements. No module that the hook imports may import this one."""

from typing import Any, TypeAlias

import numpy as np

Integers: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Booleans: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]
Indices: TypeAlias = Integers
"""Indices of rows."""
