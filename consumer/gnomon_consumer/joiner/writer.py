"""Windows into the database in a thread: one batch is written while the next ones are read, joined and assembled.

Whatever else asks the database calls `wait` or `settle` first, so that the connection has one user at a time.
"""

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from gnomon_consumer.joiner.assemble import Assembled
from gnomon_consumer.joiner.partition import Partition
from gnomon_consumer.joiner.sink import Sink
from gnomon_consumer.joiner.window import JoinedWindow
from gnomon_schemas.columnar import ColumnarReader


class Work:
    """The complete windows of some partitions, assembled. They stay `ready` there until they are in the database."""

    def __init__(self, states: Iterable[Partition]) -> None:
        self.shares = [(state, windows) for state in states if (windows := state.hand_out())]
        self.windows = [window for _, windows in self.shares for window in windows]
        self.assembled: Assembled | None = None

    def written(self) -> None:
        """Let the partitions forget them."""
        for state, windows in self.shares:
            state.written(len(windows))

    def given_back(self) -> None:
        """Let the partitions hand them out again."""
        for state, windows in self.shares:
            state.take_back(len(windows))


class Writer:
    """Writes through `sink`, one batch under way and at most one assembled behind it, in the order of their windows."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._thread = ThreadPoolExecutor(1, "gnomon-join-write")
        self._under_way: tuple[Work, Future[int]] | None = None
        self._next: Work | None = None

    @property
    def ended(self) -> bool:
        """Whether what was under way is done, or has failed, and waits to be settled."""
        return self._under_way is not None and self._under_way[1].done()

    @property
    def full(self) -> bool:
        """Whether a batch waits already for the one under way."""
        return self._next is not None

    @property
    def can_start(self) -> bool:
        """Whether a batch waits and none is under way."""
        return self._next is not None and self._under_way is None

    def assemble(self, states: Iterable[Partition], reader: ColumnarReader) -> None:
        """Make the next batch of what is complete; not while the writer is `full`."""
        work = Work(states)
        self._next = work
        work.assembled = self._sink.assemble(work.windows, reader, self.wait)

    def start(self) -> None:
        """Begin to write the next batch; nothing happens where it cannot start yet."""
        work = self._next
        if self.can_start and work is not None and work.assembled is not None:
            self._next = None
            self._under_way = work, self._thread.submit(self._sink.write, work.windows, work.assembled)

    def settle(self) -> tuple[list[JoinedWindow], int] | None:
        """Wait for what is under way; return its windows and how many pairs they gave, or raise what `Sink.write` did.

        After an error nothing waits any more: its windows, and those of the next batch, are handed out again.
        """
        if self._under_way is None:
            return None
        work, future = self._under_way
        try:
            pairs = future.result()
        except BaseException:
            self.drop()
            raise
        self._under_way = None
        work.written()
        return work.windows, pairs

    def wait(self) -> None:
        """Wait until nothing is under way; how it ended is for `settle`."""
        if self._under_way is not None:
            wait([self._under_way[1]])

    def recall(self) -> None:
        """Hand out again what waits; what is under way ends first."""
        self.wait()
        if self._next is not None:
            self._next.given_back()
            self._next = None

    def drop(self) -> None:
        """Hand everything out again, once nothing is under way; how that ended is forgotten."""
        self.recall()
        if self._under_way is not None:
            self._under_way[0].given_back()
            self._under_way = None

    def close(self) -> None:
        """Wait for what is under way; nothing can be started any more."""
        self._thread.shutdown()
