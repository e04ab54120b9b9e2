"""Which reports there are, which SQL function answers each, and how its columns read on a terminal."""

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
    kind: str = "text"  # text, count, share, number, µs, bytes, time, yes
    interval: tuple[str, str] | None = None


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


WHO = (Column("deployment", "deployment"), Column("role", "role"))

_ALL = (
    Report(
        "agreement",
        "How often live and shadow answer alike",
        "agreement",
        LOCAL,
        (
            *WHO,
            Column("n", "n", "count"),
            Column("n eff.", "n_effective", "count"),
            Column("agreement", "agreement", "share", ("low", "high")),
            Column("kappa", "kappa", "number", ("kappa_low", "kappa_high")),
            Column("value diff.", "mean_difference", "number"),
            Column("status", "status"),
        ),
        "Weighted to all live traffic. Interval: 95%, clusters and days together. value diff.: shadow less live.",
    ),
    Report(
        "confusion",
        "Live decision against shadow decision",
        "confusion",
        PAIRS,
        (
            *WHO,
            Column("live", "live_label"),
            Column("shadow", "shadow_label"),
            Column("n", "n", "count"),
            Column("weight", "weight", "count"),
            Column("share", "share", "share"),
            Column("status", "status"),
        ),
    ),
    Report(
        "latency",
        "Quantiles of both sides, scored one request at a time",
        "latency",
        LOCAL,
        (
            *WHO,
            Column("measure", "measure"),
            Column("quantile", "quantile", "number"),
            Column("n", "n", "count"),
            Column("latency", "microseconds", "µs", ("low", "high")),
            Column("status", "status"),
        ),
        "Compare a challenger's shadow with the control's shadow. live_all: every pair, not only the probe.",
    ),
    Report(
        "errors",
        "Error rates of both sides and their four cells",
        "errors",
        LOCAL,
        (
            *WHO,
            Column("metric", "metric"),
            Column("side", "side"),
            Column("n", "n", "count"),
            Column("rate", "rate", "share", ("low", "high")),
            Column("status", "status"),
        ),
    ),
    Report(
        "error_kinds",
        "What the errors were",
        "error_kinds",
        PAIRS,
        (
            *WHO,
            Column("side", "side"),
            Column("kind", "kind"),
            Column("n", "n", "count"),
            Column("share", "share", "share"),
            Column("example", "example"),
            Column("status", "status"),
        ),
    ),
    Report(
        "coverage",
        "What was seen, sampled and scored",
        "coverage",
        (*PERIOD, "slice", "time_zone"),
        (
            *WHO,
            Column("slice", "value"),
            Column("seen", "seen", "count"),
            Column("sampled", "sampled", "count"),
            Column("scored", "scored", "count"),
            Column("sampling", "sampling_fraction", "share"),
            Column("coverage", "coverage", "share"),
            Column("status", "status"),
        ),
        "coverage: 1 less what was dead-lettered, orphaned or lost, which sampling and failed answers do not lower.",
        {"slice": "all, stratum, hour, weekday, day or segment:KEY; default all."},
    ),
    Report(
        "ledger",
        "Every captured request in exactly one bucket",
        "ledger",
        PERIOD,
        (
            *WHO,
            Column("seen", "seen", "count"),
            Column("sampled out", "sampled_out", "count"),
            Column("scored", "scored", "count"),
            Column("failed", "failed", "count"),
            Column("timed out", "timed_out", "count"),
            Column("dead", "dead_lettered", "count"),
            Column("orphans", "orphaned", "count"),
            Column("gaps", "gaps", "count"),
            Column("closes", "balanced", "yes"),
            Column("status", "status"),
        ),
        "seen = sampled out + scored + failed + timed out + dead + orphans.",
    ),
)

REPORTS: dict[str, Report] = {report.name: report for report in _ALL}
