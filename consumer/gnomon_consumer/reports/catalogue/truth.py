"""Both sides against the truth, and how much of it has come."""

from gnomon_consumer.reports.catalogue.shape import BINS, HORIZON, PAIRS, PERIOD, SLICE, WHO, Column, Report, sides

TRUTH = (
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
            *sides("number"),
            Column("se row", "difference.se_row", "error"),
            Column("cluster", "difference.se_cluster", "error"),
            Column("day", "difference.se_day", "error"),
        ),
        "difference: shadow less live on the same requests; its standard error by row (naive), cluster, day.",
        {"horizon": HORIZON, "slice": SLICE},
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
        {"horizon": HORIZON, "bins": BINS},
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
        {"horizon": HORIZON, "bins": BINS},
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
        {"horizon": HORIZON},
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
        {"horizon": HORIZON},
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
)
