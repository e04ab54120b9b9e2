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


def _sides(kind: str, low: str = "low", high: str = "high", source: str = "estimate") -> tuple[Column, ...]:
    """Live, shadow and their difference, the difference with its interval."""
    return (
        Column("live", f"live.{source}", kind),
        Column("shadow", f"shadow.{source}", kind),
        Column("difference", f"difference.{source}", kind, (f"difference.{low}", f"difference.{high}")),
    )


_HORIZON = "How late a label may come, such as '3 days'; it must be one of the stream's horizons."
_SLICE = "all, stratum, hour, weekday, day or segment:KEY; default all."
_BINS = "How many bins; default 10."

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
            Column("shadow - live", "mean_difference", "number"),
        ),
        "Weighted to all live traffic; intervals 95%, by cluster and day together.",
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
            Column("n", "0.5.n", "count"),
            Column("p50", "0.5.microseconds", "µs", ("0.5.low", "0.5.high")),
            Column("p95", "0.95.microseconds", "µs", ("0.95.low", "0.95.high")),
            Column("p99", "0.99.microseconds", "µs", ("0.99.low", "0.99.high")),
        ),
        "Compare a challenger's shadow with the control's. live_all: every pair, the rest: the probe.",
        pivot=(("stream", "deployment", "role", "measure"), ("quantile",)),
    ),
    Report(
        "errors",
        "Error rates of both sides and their four cells",
        "errors",
        LOCAL,
        (
            *WHO,
            Column("pairs", "error.live.n", "count"),
            *(
                Column(title, f"{source}.rate", "share", (f"{source}.low", f"{source}.high"))
                for title, source in (
                    ("live fails", "error.live"),
                    ("shadow fails", "error.shadow"),
                    ("shadow - live", "error.difference"),
                    ("of it timed out", "timed_out.pair"),
                    ("only live fails", "only_live_failed.pair"),
                    ("only shadow fails", "only_shadow_failed.pair"),
                    ("both fail", "both_failed.pair"),
                    ("both answer", "both_answered.pair"),
                )
            ),
        ),
        pivot=(("stream", "deployment", "role"), ("metric", "side")),
        upright=True,
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
        "coverage: 1 less what was dead-lettered, orphaned or lost; sampling does not lower it.",
        {"slice": f"limit (why windows did not sample all that they saw), {_SLICE}"},
    ),
    Report(
        "ledger",
        "Every captured request in exactly one bucket",
        "ledger",
        PERIOD,
        (
            *WHO,
            Column("seen", "seen", "count"),
            Column("= sampled out", "sampled_out", "count"),
            Column("+ scored", "scored", "count"),
            Column("+ failed", "failed", "count"),
            Column("+ timed out", "timed_out", "count"),
            Column("+ dead letters", "dead_lettered", "count"),
            Column("+ orphans", "orphaned", "count"),
            Column("unaccounted", "unaccounted", "count"),
            Column("miscounted", "miscounted", "count"),
            Column("gaps", "gaps", "count"),
            Column("lost in gaps", "lost", "count"),
            Column("closes", "balanced", "yes"),
        ),
        upright=True,
    ),
    Report(
        "predictions",
        "What both sides answer: range, rate, class shares",
        "predictions",
        PAIRS,
        (
            *WHO,
            Column("side", "side"),
            Column("class", "label"),
            Column("n", "n", "count"),
            Column("share", "share", "share", ("share_low", "share_high")),
            Column("lowest", "lowest", "number"),
            Column("mean", "mean", "number"),
            Column("highest", "highest", "number"),
            Column("NaN/inf", "not_finite", "count"),
            Column("an hour", "per_hour", "count"),
            Column("status", "status"),
        ),
        "an hour: weighted to all live traffic. A class's interval knows rows only.",
    ),
    Report(
        "quality",
        "Both sides against the truth, by horizon",
        "quality",
        (*PAIRS, "horizon", "slice", "time_zone"),
        (
            *WHO,
            Column("horizon", "horizon", "span"),
            Column("slice", "value"),
            Column("metric", "metric"),
            Column("n", "n", "count"),
            *_sides("number"),
            Column("se row", "difference.se_row", "error"),
            Column("cluster", "difference.se_cluster", "error"),
            Column("day", "difference.se_day", "error"),
        ),
        "difference: shadow less live on the same requests; its standard error by row (naive), cluster, day.",
        {"horizon": _HORIZON, "slice": _SLICE},
        pivot=(("stream", "deployment", "role", "horizon", "value", "metric", "n"), ("side",)),
        section=("horizon",),
    ),
    Report(
        "calibration",
        "Probabilities beside what happened",
        "calibration",
        (*PAIRS, "horizon", "bins"),
        (
            *WHO,
            Column("bin", "bin", "count"),
            *(
                Column(title, f"{side}.{source}", "number", interval)
                for side in ("live", "shadow")
                for title, source, interval in (
                    (side, "confidence", None),
                    ("observed", "observed", (f"{side}.low", f"{side}.high")),
                )
            ),
        ),
        "Bins of equal weight.",
        {"horizon": _HORIZON, "bins": _BINS},
        pivot=(("stream", "deployment", "role", "bin"), ("side",)),
    ),
    Report(
        "calibration_error",
        "Expected calibration error of both sides",
        "calibration_error",
        (*PAIRS, "horizon", "bins"),
        (
            *WHO,
            Column("horizon", "horizon", "span"),
            Column("side", "side"),
            Column("n", "n", "count"),
            Column("ECE", "estimate", "number", ("low", "high")),
            Column("se", "standard_error", "number"),
            Column("status", "status"),
        ),
        "Biased upward: noise has no sign in it.",
        {"horizon": _HORIZON, "bins": _BINS},
    ),
    Report(
        "segments",
        "For whom the answers differ",
        "segments",
        (*PERIOD, "key", "time_zone"),
        (
            *WHO,
            Column("segment", "key"),
            Column("", "value"),
            Column("n", "agreement.pair.n", "count"),
            Column("agreement", "agreement.pair.estimate", "share", ("agreement.pair.low", "agreement.pair.high")),
            Column("live fails", "error.live.estimate", "share"),
            Column("shadow fails", "error.shadow.estimate", "share"),
        ),
        "",
        {"key": "Only this segment key; default: every key."},
        pivot=(("stream", "deployment", "role", "key", "value"), ("metric", "side")),
    ),
    Report(
        "time_of_day",
        "By local hour or weekday",
        "time_of_day",
        (*PAIRS, "slice", "time_zone"),
        (
            *WHO,
            Column("when", "value"),
            Column("n", "agreement.pair.n", "count"),
            Column("agreement", "agreement.pair.estimate", "share", ("agreement.pair.low", "agreement.pair.high")),
            Column("live fails", "error.live.estimate", "share"),
            Column("shadow fails", "error.shadow.estimate", "share"),
            Column("live", "value.live.estimate", "number"),
            Column("shadow", "value.shadow.estimate", "number"),
        ),
        "",
        {"slice": "hour or weekday; default hour."},
        pivot=(("stream", "deployment", "role", "value"), ("metric", "side")),
    ),
    Report(
        "disagreements",
        "The requests on which live and shadow differ most",
        "disagreements",
        (*PAIRS, "top"),
        (
            *WHO,
            Column("time, request", "event_time", below="request_id"),
            Column("difference", "difference", "short"),
            Column("live", "live_value", "number", below="live_label"),
            Column("shadow", "shadow_value", "number", below="shadow_label"),
            Column("control", "control_value", "number", below="control_label"),
            Column("truth", "truth_label"),
            Column("status", "status"),
        ),
        "With --format json: segments and features too. control: what the control said to the same request.",
        {"top": "How many of each deployment; default 20."},
    ),
    Report(
        "labels",
        "How much of the traffic the truth has come for",
        "labels",
        (*PAIRS, "horizon"),
        (
            *WHO,
            Column("horizon, until", "horizon", "span", below="cohort_until"),
            Column("sealed", "sealed", "yes"),
            Column("n", "n", "count"),
            Column("labelled", "labelled", "share"),
            Column("late", "late", "share"),
            Column("missing", "missing", "share"),
            Column("pending", "pending", "count"),
            Column("status", "status"),
        ),
        "pending: too young for the horizon, in no share.",
        {"horizon": _HORIZON},
    ),
    Report(
        "label_cells",
        "Label coverage by live and shadow decision",
        "label_cells",
        (*PAIRS, "horizon"),
        (
            *WHO,
            Column("live", "live_label"),
            Column("shadow", "shadow_label"),
            Column("n", "n", "count"),
            Column("weight", "weight", "count"),
            Column("labelled", "labelled", "share"),
            Column("status", "status"),
        ),
        "",
        {"horizon": _HORIZON},
    ),
    Report(
        "label_delay",
        "How long labels take (Kaplan-Meier)",
        "label_delay",
        (*PERIOD, "step"),
        (
            *WHO,
            Column("delay", "delay", "span"),
            Column("at risk", "at_risk", "count"),
            Column("arrived", "arrived", "count"),
            Column("share", "share_arrived", "share"),
            Column("status", "status"),
        ),
        "",
        {"step": "Delays are rounded up to this; default '1 hour'."},
    ),
    Report(
        "feature_state",
        "Feature dictionaries and caches, live against shadow",
        "feature_state",
        PAIRS,
        (
            *WHO,
            Column("live version", "live_version"),
            Column("shadow version", "shadow_version"),
            Column("n", "n", "count"),
            Column("share", "share", "share"),
            Column("live hits", "live_hit_ratio", "share"),
            Column("shadow hits", "shadow_hit_ratio", "share"),
            Column("agreement", "agreement", "share"),
            Column("status", "status"),
        ),
    ),
    Report(
        "producers",
        "Every run of a live service",
        "producers",
        (),
        (
            *WHO,
            Column("service, started", "service", below="started_at"),
            Column("offered", "offered", "count"),
            Column("dropped", "dropped", "count"),
            Column("received", "received", "count"),
            Column("missing", "missing", "count"),
            Column("tail", "tail", "count"),
        ),
        "missing: sequence numbers that never came; tail: offered after the last one that did.",
    ),
    Report(
        "resources",
        "What scoring costs",
        "resources",
        PERIOD,
        (
            *WHO,
            Column("rows", "n", "count"),
            Column("CPU a row", "cpu_us_per_row", "µs"),
            Column("peak memory", "peak_rss_bytes", "bytes"),
            Column("service time a row", "service_us_mean", "µs"),
            Column("queued", "queued_us_mean", "µs"),
            Column("rows a batch", "batch_size_mean", "count"),
            Column("mean lag, s", "lag_s_mean", "short"),
            Column("worst lag, s", "lag_s_max", "short"),
        ),
        upright=True,
    ),
    Report(
        "timeline",
        "The run of things, from the rollups",
        "timeline",
        (*PERIOD, "unit", "time_zone"),
        (
            *WHO,
            Column("at", "at"),
            Column("seen", "seen", "count"),
            Column("sampling", "sampling_fraction", "share"),
            Column("agreement", "agreement", "share", ("agreement_low", "agreement_high")),
            Column("errors", "error_rate", "share"),
            Column("live errors", "live_error_rate", "share"),
            Column("status", "status"),
        ),
        "Fast at any size; its intervals know rows and days, not clusters.",
        {"unit": "hour, day, week, month or all; default day."},
    ),
    Report(
        "drift",
        "Features and answers against a frozen reference",
        "drift",
        (*PAIRS, "reference"),
        (
            *WHO,
            Column("feature", "feature"),
            Column("PSI", "psi", "short"),
            Column("chance", "psi_threshold", "short"),
            Column("KS", "ks", "short"),
            Column("W1", "wasserstein", "short"),
            Column("null", "null_share", "share"),
            Column("unseen", "unseen_share", "share"),
            Column("status", "status"),
        ),
        "chance: the PSI that 1 period in 20 exceeds without any drift (χ²). W1: Wasserstein, in the feature's unit.",
        {"reference": "Name of the reference; default: the newest."},
    ),
    Report(
        "feature_health",
        "Whether features arrive as they should",
        "feature_health",
        (*PAIRS, "reference"),
        (
            *WHO,
            Column("feature", "feature"),
            Column("missing", "missing", "share"),
            Column("invalid", "invalid", "share"),
            Column("outside", "out_of_range", "share"),
            Column("lowest", "lowest", "figure"),
            Column("highest", "highest", "figure"),
            Column("status", "status"),
        ),
        "outside: beyond the reference's extremes, or a category that it does not know.",
        {"reference": "Name of the reference; default: the newest."},
    ),
)

REPORTS: dict[str, Report] = {report.name: report for report in _ALL}

# Not among REPORTS, since it needs a file beside the database.
SKEW = Report(
    "skew",
    "Features recomputed offline beside those that the live service sent",
    "skew",
    (*PAIRS, "features", "tolerance", "time_zone"),
    (
        *WHO,
        Column("feature, request", "feature", below="example"),
        Column("pairs", "n", "count"),
        Column("mismatch", "mismatch", "share", ("low", "high")),
        Column("size", "size", "short", ("size_low", "size_high")),
        Column("file - live", "shift", "short", ("shift_low", "shift_high")),
        Column("largest", "largest", "short"),
        Column("live", "example_live"),
        Column("file", "example_file"),
        Column("status", "status"),
    ),
    "mismatch: share of all live traffic. size: mean |file - live| where numbers differ; file - live: with its sign."
    " live, file: of the request that differs most.",
)
