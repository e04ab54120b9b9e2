"""Ranks of captures: a keyed hash of the request id, uniform and the same on every machine. Pure."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

Ranks = Callable[[Sequence[bytes]], NDArray[np.int64]]


def ranker_of_many(seed: int) -> Ranks:
    """Return the rank function of a seed: bytes of many request ids -> 0 … 2**63 - 1 each."""
    seeds = itertools.repeat(seed % 2**64)

    def ranks(request_ids: Sequence[bytes]) -> NDArray[np.int64]:
        digests = np.fromiter(map(xxh3_64_intdigest, request_ids, seeds), np.uint64, len(request_ids))
        return (digests >> np.uint64(1)).astype(np.int64)

    return ranks
