"""Virtual time, and the processes in it. Random draws choose the next process, so a seed is a whole history.

Each process runs the product's own code in a greenlet. It yields wherever it calls a server: there it may be frozen, or
killed as by `kill -9` (none of its code runs any more, and its clients send nothing).
"""

import contextlib
import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from greenlet import getcurrent, greenlet

START_S = 1_700_000_000.0
"""The wall clock at the beginning of a simulation, seconds since the Unix epoch."""


class Killed(BaseException):
    """The process was killed; like KeyboardInterrupt, it is not an error."""


class ViolationError(AssertionError):
    """An invariant is violated."""


@dataclass(eq=False)
class Process:
    """One process: frozen until a time, or dead. The kernel calls `closes` when it is killed."""

    name: str
    frozen_until: float = 0.0
    dead: bool = False
    closes: list[Callable[[], None]] = field(default_factory=list)


_Turn = tuple[float, int, Process | None, Any]
"""The time, the order among events of the same time, the process, and the action."""


class World:
    """The scheduler and the clock."""

    def __init__(self, seed: int, idle: float = 1.0) -> None:
        self.dice = random.Random(seed)
        self.idle = idle  # the factor by which an idle process waits longer than it asked
        self.now = 0.0
        self.steps = 0
        self.process: Process | None = None
        self.log: list[str] = []
        self.counts: dict[str, int] = {}
        self.on_change: Callable[[], None] = lambda: None  # what a broker's next tick must see has changed
        self.calm = False  # from here on nothing hangs forever: everything must be joined within the recovery time
        self._turns: list[_Turn] = []
        self._number = 0
        self._hub = getcurrent()

    # The interface for processes.

    def clock(self) -> float:
        """Return monotonic time in seconds."""
        return self.now

    def now_us(self) -> int:
        """Return the wall clock, in microseconds since the Unix epoch."""
        return round((START_S + self.now) * 1e6)

    def sleep(self, seconds: float) -> None:
        """Let the others run for so long; raise Killed if this process was killed meanwhile."""
        process = self.process
        assert process is not None
        if not process.dead:
            self._add(self.now + seconds, process, getcurrent())
            self._hub.switch()
            self.process = process
        if process.dead:
            raise Killed

    def pause(self) -> None:
        """Yield for a random moment, as a request to a server does."""
        self.sleep(self.dice.uniform(0.0002, 0.004))

    # The interface for the driver.

    def spawn(self, process: Process, main: Callable[[], None]) -> None:
        """Start to run `main` in a process."""

        def mortal() -> None:
            with contextlib.suppress(Killed):
                main()

        self._add(self.now, process, greenlet(mortal, parent=self._hub))

    def later(self, seconds: float, event: Callable[[], None]) -> None:
        """Schedule an event outside of any process."""
        self.at(self.now + seconds, event)

    def at(self, time: float, event: Callable[[], None]) -> None:
        """Schedule an event at a time."""
        self._add(time, None, event)

    def end(self) -> None:
        """Unwind every process at its current position."""
        for _, _, process, turn in self._turns:
            if process is not None and not turn.dead:
                process.dead = True
                _end(turn)

    def kill(self, process: Process) -> None:
        """End a process at its current position."""
        process.dead = True
        for close in process.closes:
            close()
        self.on_change()

    def freeze(self, process: Process, until: float) -> None:
        """Stop a process until a time; its client sends no heartbeat meanwhile."""
        process.frozen_until = until
        self.on_change()

    def run(self, until: float) -> None:
        """Run until a time."""
        while self._turns and self._turns[0][0] <= until:
            due, _, process, turn = heapq.heappop(self._turns)
            self.now = max(self.now, due)
            self.process = process
            self.steps += 1
            if process is None:
                turn()
            elif process.dead:
                _end(turn)
            elif process.frozen_until > self.now:
                self._add(process.frozen_until, process, turn)
            else:
                turn.switch()
        self.process = None
        self.now = until

    def chance(self, probability: float) -> bool:
        """Return whether an event of this probability happens."""
        return self.dice.random() < probability

    def note(self, text: str) -> None:
        """Write a line of this history; only a failing seed shows it."""
        self.log.append(f"{self.now:9.3f} {text}")

    def count(self, fault: str) -> None:
        """Count a fault that happened."""
        self.counts[fault] = self.counts.get(fault, 0) + 1
        self.note(fault)

    def _add(self, due: float, process: Process | None, run: Any) -> None:
        self._number += 1
        heapq.heappush(self._turns, (due, self._number, process, run))


def _end(turn: greenlet) -> None:
    with contextlib.suppress(Killed):  # a process that never began
        turn.throw(Killed)


class Thread:
    """Replaces `threading.Thread`, in virtual time."""

    def __init__(self, world: World, target: Callable[[], None]) -> None:
        self._world = world
        self._target = target
        self._running = True
        self._waits = 0.002

    def start(self) -> None:
        """Let it run concurrently with its creator."""
        process = self._world.process
        assert process is not None
        self._world.spawn(process, self._run)

    def _run(self) -> None:
        self._target()
        self._running = False

    def is_alive(self) -> bool:
        """Return whether it still runs."""
        return self._running

    def join(self, timeout: float) -> None:
        """Wait for it, longer than asked if it takes long, because a loop around this call asks again at once."""
        self._waits = min(2 * self._waits, 0.5)
        self._world.sleep(max(timeout, self._waits))
