"""The description of a report: its SQL function, its arguments, its columns on a terminal."""

from dataclasses import KW_ONLY, dataclass, field

# The arguments of a function of report_v1, in addition to the stream and the deployment.
PERIOD = ("since", "until")
PAIRS = ("since", "until", "segment")
LOCAL = (*PAIRS, "time_zone")
READ = "If a deployment has more than 100,000 pairs, about 100,000 of them are read; the intervals account for this."
READ_ALL = {"exact": "yes: read all pairs; default: about 100,000 of a deployment."}
SLICES = ("all", "stratum", "hour", "weekday", "day", "live_version")


@dataclass(frozen=True)
class Column:
    """One column on a terminal: `source` of the row, how to write it, and the columns of its interval, if any."""

    title: str
    source: str
    kind: str = "text"  # text, name, count, share, number, figure, short, µs, bytes, span, yes
    interval: tuple[str, str] | None = None
    _: KW_ONLY
    below: str | None = None  # a text of the row that is shown under the number
    otherwise: tuple[str, ...] = ()  # shown when `source` is null: the first of these columns that is not null
    precision: tuple[str, str] | None = None  # two numbers whose distance decides the decimals; they are not shown


@dataclass(frozen=True)
class ValueLayout:
    """The layout on a terminal if every answer is a number (`compares` is "values")."""

    summary: str
    columns: tuple[Column, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """One report: its function, its arguments, its columns on a terminal, and a note on how to read it."""

    name: str
    summary: str
    function: str
    arguments: tuple[str, ...]
    columns: tuple[Column, ...]
    note: str = ""
    extra: dict[str, str] = field(default_factory=dict)  # argument -> its option's help
    slices: tuple[str, ...] = SLICES  # the values of the argument `slice`, if the report has it; or segment:KEY
    # Terminal only. pivot: (columns that name a row, columns whose values become its cells' prefix: `live.estimate`).
    pivot: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    upright: bool = False  # one column a deployment, the columns above as lines
    section: tuple[str, ...] = ()  # columns that, like the deployment, have a separate table for each value
    of_values: ValueLayout | None = None


WHO = (Column("deployment", "deployment", "name"),)


def sides(kind: str, low: str = "low", high: str = "high", source: str = "estimate") -> tuple[Column, ...]:
    """Return the columns of live, shadow and their difference; the difference has an interval."""
    return (
        Column("live", f"live.{source}", kind, precision=(f"live.{low}", f"live.{high}")),
        Column("shadow", f"shadow.{source}", kind, precision=(f"shadow.{low}", f"shadow.{high}")),
        Column("difference", f"difference.{source}", kind, (f"difference.{low}", f"difference.{high}")),
    )


# The guarantee of an interval; statistics.md explains it under "What an interval promises".
DAYS_LIKE_THESE = "Intervals: 95%, for days like these."
BOTH_QUESTIONS = f"{DAYS_LIKE_THESE} period_low and period_high (JSON, CSV, SQL): for what happened in this period."
HORIZON = "How late a label may arrive, such as '3 days'; one of the stream's horizons."
SLICE = f"{', '.join(SLICES)} or segment:KEY; default all."
BINS = "Number of bins; default 10."
