"""The progress display of the demo, on standard error: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Mapping
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

PLAIN_SECONDS = 5.0


class View(Protocol):
    """A progress display. A step happens once; a counter grows to a total."""

    def step(self, text: str) -> None:
        """Show that a step begins."""
        ...

    def count(self, counters: Mapping[str, tuple[int, int]]) -> None:
        """Show the counters: name -> (now, total)."""
        ...

    def close(self) -> None:
        """End the display."""
        ...


def view_for(console: Console) -> View:
    """Return bars for a terminal, plain lines for any other output."""
    return Bars(console) if console.is_terminal else Lines(console)


class Bars:
    """Finished steps with a tick, above bars."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._bars: dict[str, TaskID] = {}
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description:<28}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[count]}", justify="right"),
            TimeElapsedColumn(),
            console=console,
            transient=False,
            expand=True,
        )
        self._step: TaskID | None = None
        self._progress.start()

    def step(self, text: str) -> None:
        """Tick the previous step and show this one."""
        self._finish_step()
        self._step = self._progress.add_task(text, total=None, count="")

    def count(self, counters: Mapping[str, tuple[int, int]]) -> None:
        """Update the bars."""
        self._finish_step()
        for name, (now, total) in counters.items():
            if name not in self._bars:
                self._bars[name] = self._progress.add_task(name, total=total, count="")
            self._progress.update(self._bars[name], completed=now, total=total, count=f"{now:,} of {total:,}")

    def close(self) -> None:
        """Stop the updates and leave the bars on the screen."""
        self._finish_step()
        self._progress.stop()

    def _finish_step(self) -> None:
        if self._step is not None:
            self._progress.update(self._step, total=1, completed=1)
            self._step = None


class Lines:
    """One line per step, and one line every `PLAIN_SECONDS` for the counters."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._shown = -PLAIN_SECONDS

    def step(self, text: str) -> None:
        """Print the step."""
        self._print(text)

    def count(self, counters: Mapping[str, tuple[int, int]]) -> None:
        """Print the counters every `PLAIN_SECONDS`, and when all have reached their total."""
        full = all(now >= total for now, total in counters.values())
        if full or time.monotonic() - self._shown >= PLAIN_SECONDS:
            self._shown = time.monotonic()
            self._print(", ".join(f"{name} {now:,} of {total:,}" for name, (now, total) in counters.items()))

    def close(self) -> None:
        """Do nothing: every line is already printed."""

    def _print(self, text: str) -> None:
        self._console.print(f"{time.monotonic() - self._started:6.1f} s  {text}", highlight=False, soft_wrap=True)
