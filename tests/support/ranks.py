"""The rank of one request id, as the scorer computes it for many."""

from collections.abc import Callable

from gnomon_consumer.scorer.sampling.ranks import ranker_of_many


def ranker(seed: int) -> Callable[[bytes], int]:
    """Return the rank function of a seed: bytes of a request id -> 0 … 2**63 - 1."""
    ranks = ranker_of_many(seed)
    return lambda request_id: int(ranks([request_id])[0])
