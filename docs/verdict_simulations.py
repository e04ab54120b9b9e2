"""Write docs/verdict-simulations.md and its picture: `python -m docs.verdict_simulations`, five minutes on one core.

The figures are those of one seed; tests/property/verdict/test_verdict_simulations.py checks their limits.
"""

import sys
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure
from tests.support.verdict_simulation import DAILY, DAYS, WEEKLY, Setting, draw, naive, ours

HERE = Path(__file__).parent
RUNS = 4000
SETTINGS: dict[str, Setting] = {
    "independent days, ratio 0": Setting(0),
    "independent days, ratio 1": Setting(1),
    "independent days, ratio 4": Setting(4),
    "independent days, ratio 20": Setting(20),
    "independent days, ratio 100": Setting(100),
    "30 lasting clusters, ratio 1": Setting(1, groups=30),
    "weekday pattern, ratio 20": Setting(20, weekday=2),
    "correlation 0.3, ratio 1": Setting(1, 0.3),
    "correlation 0.3, ratio 20": Setting(20, 0.3),
    "correlation 0.6, ratio 1": Setting(1, 0.6),
    "correlation 0.6, ratio 20": Setting(20, 0.6),
    "correlation 0.8, ratio 1": Setting(1, 0.8),
    "correlation 0.8, ratio 20": Setting(20, 0.8),
    "rare very bad days, ratio 20": Setting(20, exponential=True),
}
HEAD = """# How often the verdict promotes falsely: simulations

Written by `python -m docs.verdict_simulations`; [the verdict](verdict.md) explains the columns. Each line:
{runs} runs of {days} days of a challenger that is exactly as bad as the margin allows, so every PROMOTE is
false; the target is 5%.
*Naive* is a one-sided z test on the requests that is read every day. *Ratio* is the variance of the shocks that all
requests of a day share over the variance of a day's mean by its requests alone.

| days | naive, every day | ours, every day | ours, whole weeks (the default) | ours, `blocks = "week"` |
|---|---|---|---|---|
"""
TAIL = """
![Share of the runs that have promoted falsely by each day](images/verdict-looks.svg)

Results:

* A test that is read every day promotes falsely in a third to nine tenths of the runs, whatever its nominal level.
* With independent days the default stays below its limit of 5%, whatever the ratio.
* Days that depend on each other exceed the limit from a correlation of about 0.6 on. If you know of such a
  dependence (a price list by the month, a slow campaign), write `blocks = "week"` into the plan.
* Rare very bad days exceed it too, before the first of them: no method can account for a kind of day that has not
  happened yet. The evidence contains the skewness of the days.
"""


def main() -> None:
    """Simulate every setting, write the table and the picture."""
    lines, curves = [], {}
    for name, setting in SETTINGS.items():
        runs = draw(setting, RUNS // 4 if setting.groups else RUNS, 2013)
        often = naive(runs)
        found = [
            often[-1],
            ours(runs, DAILY)[-1],
            (weekly := ours(runs, WEEKLY))[-1],
            ours(runs, WEEKLY, weeks=True)[-1],
        ]
        curves[name] = (often, weekly)
        lines.append(f"| {name} | " + " | ".join(f"{share:.1%}" for share in found) + " |\n")
        sys.stdout.write(lines[-1])
    page = HEAD.format(runs=f"{RUNS:,} (with clusters {RUNS // 4:,})", days=DAYS) + "".join(lines) + TAIL
    (HERE / "verdict-simulations.md").write_text(page, encoding="utf-8")
    draw_picture(curves)


def draw_picture(curves: dict) -> None:  # type: ignore[type-arg]
    """Draw the share of the runs that have promoted by each day."""
    shown = {"independent days, ratio 4": "#0072b2", "correlation 0.6, ratio 20": "#e69f00"}
    with rc_context({"svg.hashsalt": "gnomon", "svg.fonttype": "none"}):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
        for name, colour in shown.items():
            often, weekly = curves[name]
            axes.plot(range(1, DAYS + 1), often, "--", color=colour, label=f"naive: {name}")
            axes.step(WEEKLY, weekly, where="post", color=colour, label=f"ours: {name}")
        axes.axhline(0.05, color="#777777", linewidth=0.8)
        axes.text(DAYS, 0.055, "the promised 5%", ha="right", va="bottom", color="#777777")
        axes.set(xlabel="day", ylabel="promoted falsely by then", ylim=(0, 1), xlim=(0, DAYS))
        axes.spines[["top", "right"]].set_visible(False)
        axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        axes.legend(frameon=False)
        figure.savefig(HERE / "images" / "verdict-looks.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
