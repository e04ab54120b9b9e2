"""Python's cyclic garbage collector in processes that hold captures by the hundred thousand."""

import gc

_THRESHOLDS = (200_000, 20, 100)


def collect_rarely() -> None:
    """Keep what exists out of every collection, and look for cycles once in many captures.

    Captures wait in plain tuples, without cycles, and are freed by their reference counts; walking all of them again
    for each thousand that is new costs more than sampling them. For processes of our own, before their loop begins.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
