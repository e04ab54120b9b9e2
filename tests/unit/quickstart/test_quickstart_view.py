"""The demo's progress display: bars if they can be drawn, else plain lines."""

import io

from rich.console import Console

from gnomon_consumer.quickstart.demo.view import Bars, Lines, view_for


def test_a_terminal_gets_bars_with_ticked_steps() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    view = view_for(console)
    assert isinstance(view, Bars)
    view.step("first")
    view.step("second")
    view.count({"captured": (1500, 3000)})
    view.count({"captured": (3000, 3000)})
    view.close()
    assert isinstance(console.file, io.StringIO)
    last = [line for line in console.file.getvalue().splitlines() if "✓" in line][-3:]
    assert [line.split("✓")[1].split()[0] for line in last] == ["first", "second", "captured"]
    assert "3,000 of 3,000" in last[2]


def test_elsewhere_a_line_now_and_then_and_the_last_one() -> None:
    console = Console(file=io.StringIO(), force_terminal=False, width=40)
    view = view_for(console)
    assert isinstance(view, Lines)
    view.step("first")
    for done in range(0, 2000, 10):
        view.count({"captured": (done, 2000), "labels": (done, 2000)})
    view.count({"captured": (2000, 2000), "labels": (2000, 2000)})
    view.close()
    assert isinstance(console.file, io.StringIO)
    lines = [line.split(" s  ")[1] for line in console.file.getvalue().splitlines()]
    assert lines[0] == "first"
    assert lines[1] == "captured 0 of 2,000, labels 0 of 2,000"
    assert lines[-1] == "captured 2,000 of 2,000, labels 2,000 of 2,000"
    assert len(lines) < 10
