"""Load during a test: work that is repeated in a separate thread."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def load(work: Callable[[], object], pause: float) -> Iterator[None]:
    """Repeat `work`, `pause` seconds apart, until the block ends."""
    done = threading.Event()

    def again() -> None:
        while not done.wait(pause):
            work()

    thread = threading.Thread(target=again)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
