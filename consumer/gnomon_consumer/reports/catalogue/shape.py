"""What a report is: the SQL function that answers it, what it can be asked, how its columns read on a terminal."""

from dataclasses import dataclass, field

# What a function of report_v1 may be asked, beside the stream and the deployment.
PERIOD = ("since", "until")
PAIRS = ("since", "until", "segment")
LOCAL = (*PAIRS, "time_zone")


@dataclass(frozen=True)
class Column:
    """One column on a terminal: `source` of the row, how to write it, and the columns of its interval, if any."""

    title: str
    source: str
    kind: str = "text"  # text, name, count, share, number, figure, short, µs, bytes, span, yes
    interval: tuple[str, str] | None = None
    below: str | None = None  # a text of the row that stands under the number


@dataclass(frozen=True)
class Report:
    """One report: its function, the arguments it knows, its columns on a terminal, what to read out of it."""

    name: str
    summary: str
    function: str
    arguments: tuple[str, ...]
    columns: tuple[Column, ...]
    note: str = ""
    extra: dict[str, str] = field(default_factory=dict)  # argument -> its option's help
    # Terminal only. pivot: (columns that name a row, columns whose values become its cells' prefix: `live.estimate`).
    pivot: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    upright: bool = False  # one column a deployment, the columns above as lines
    section: tuple[str, ...] = ()  # columns that, like the deployment, head a table of their own


WHO = (Column("deployment", "deployment", "name"),)


def sides(kind: str, low: str = "low", high: str = "high", source: str = "estimate") -> tuple[Column, ...]:
    """Live, shadow and their difference, the difference with its interval."""
    return (
        Column("live", f"live.{source}", kind),
        Column("shadow", f"shadow.{source}", kind),
        Column("difference", f"difference.{source}", kind, (f"difference.{low}", f"difference.{high}")),
    )


HORIZON = "How late a label may come, such as '3 days'; it must be one of the stream's horizons."
SLICE = "all, stratum, hour, weekday, day or segment:KEY; default all."
BINS = "How many bins; default 10."
