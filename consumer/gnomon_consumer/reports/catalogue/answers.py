"""The reports on the answers of both sides, their errors and their latency."""

from gnomon_consumer.reports.catalogue.shape import (
    BOTH_QUESTIONS,
    DAYS_LIKE_THESE,
    HORIZON,
    LOCAL,
    PAIRS,
    PERIOD,
    READ,
    READ_ALL,
    WHO,
    Column,
    Report,
    ValueLayout,
)

EXACT = {
    "exact": "yes: always read the pairs; no: use the hourly sums where they exist; default: by the number of pairs."
}
BY = "Third line: what the interval accounts for. cohort: the clusters of the newest stored cohort."
FAILS = tuple(
    Column(f"{side} fails", f"error.{side}.estimate", "share", precision=(f"error.{side}.low", f"error.{side}.high"))
    for side in ("live", "shadow")
)
AGREEMENT = Column("agreement", "agreement.pair.estimate", "share", ("agreement.pair.low", "agreement.pair.high"))
EQUAL = Column("equal", "agreement.pair.estimate", "share", precision=("agreement.pair.low", "agreement.pair.high"))
MEANS = (
    Column("shadow - live", "value.difference.estimate", "number", ("value.difference.low", "value.difference.high")),
    *(
        Column(side, f"value.{side}.estimate", "number", precision=(f"value.{side}.low", f"value.{side}.high"))
        for side in ("live", "shadow")
    ),
)

BOTH = ("live_value", "shadow_value")

TIMES = ("hour", "weekday")

ANSWERS = (
    Report(
        "agreement",
        "How often live and shadow agree",
        "agreement",
        (*LOCAL, "exact"),
        (
            *WHO,
            Column("n", "n", "count"),
            Column("n eff.", "n_effective", "count"),
            Column("agreement", "agreement", "share", ("low", "high"), below="interval_by"),
            Column("kappa", "kappa", "number", ("kappa_low", "kappa_high")),
            Column("shadow - live", "mean_difference", "number", ("mean_difference_low", "mean_difference_high")),
        ),
        f"Weighted to all live traffic. {BOTH_QUESTIONS} {BY}",
        EXACT,
        of_values=ValueLayout(
            "How far the shadow's values are from the live values",
            (
                *WHO,
                Column("n", "n", "count"),
                Column("n eff.", "n_effective", "count"),
                Column(
                    "shadow - live",
                    "mean_difference",
                    "number",
                    ("mean_difference_low", "mean_difference_high"),
                    below="interval_by",
                ),
                Column(
                    "mean distance",
                    "mean_absolute_difference",
                    "number",
                    ("mean_absolute_difference_low", "mean_absolute_difference_high"),
                ),
                Column("equal", "agreement", "share", ("low", "high")),
            ),
        ),
    ),
    Report(
        "matches",
        "How often live and shadow match by your own rule",
        "matches",
        (*LOCAL, "compare", "tolerance", "k", "expression"),
        (
            *WHO,
            Column("rule", "compare"),
            Column("n", "n", "count"),
            Column("matches", "matches", "share", ("low", "high")),
            Column("not compared", "not_compared", "count"),
            Column("label ≠", "ignored_label", "count"),
            Column("value ≠", "ignored_value", "count"),
            Column("ranking ≠", "ignored_ranking", "count"),
            Column("status", "status"),
        ),
        "not compared: a side failed or lacks what the rule reads. ≠: differs, but the rule ignores it.",
        {
            "compare": "label, absolute, relative, top-k or sql; default label.",
            "tolerance": "absolute: the largest difference; relative: the largest share of the larger value.",
            "k": "top-k: how many of the best items must be the same, in any order.",
            "expression": "sql: a condition over the columns of report_v1.pairs, such as 'live_value > shadow_value'.",
        },
    ),
    Report(
        "confusion",
        "Live decision against shadow decision",
        "confusion",
        (*PAIRS, "exact"),
        (
            *WHO,
            Column("live", "live_label"),
            Column("shadow", "shadow_label"),
            Column("n", "n", "count"),
            Column("weight", "weight", "count"),
            Column("share", "share", "share"),
            Column("status", "status"),
        ),
        "",
        EXACT,
    ),
    Report(
        "latency",
        "Latency quantiles of both sides, one request at a time",
        "latency",
        (*LOCAL, "exact"),
        (
            *WHO,
            Column("measure", "measure", below="0.5.kept_until"),
            Column("n", "0.5.n", "count"),
            Column("p50", "0.5.microseconds", "µs", ("0.5.low", "0.5.high")),
            Column("p95", "0.95.microseconds", "µs", ("0.95.low", "0.95.high")),
            Column("p99", "0.99.microseconds", "µs", ("0.99.low", "0.99.high")),
        ),
        "Compare the shadow latency of a challenger with that of the control. live_all: all pairs; other rows: the"
        f" latency probe. A time below: stored numbers of the pairs captured before it. {BOTH_QUESTIONS}",
        EXACT,
        pivot=(("stream", "deployment", "role", "measure"), ("quantile",)),
    ),
    Report(
        "errors",
        "Error rates of both sides and their four cells",
        "errors",
        (*LOCAL, "exact"),
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
            Column("interval by", "error.live.interval_by"),
        ),
        f"{BOTH_QUESTIONS} interval by: what they account for. cohort: the clusters of the newest stored cohort.",
        EXACT,
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
        "an hour: weighted to all live traffic. The interval of a class counts rows only, not clusters or days.",
    ),
    Report(
        "contrast",
        "A challenger against the control or another challenger",
        "contrast",
        (*PAIRS, "against", "horizon", "time_zone"),
        (
            *WHO,
            Column("against", "against"),
            Column("metric", "metric"),
            Column("n", "n", "count"),
            Column("first", "first", "number"),
            Column("second", "second", "number"),
            Column("difference", "difference", "number", ("low", "high")),
            Column("status", "status"),
        ),
        f"difference: first minus second, on the requests that both scored. {DAYS_LIKE_THESE}",
        {"against": "The other deployment; default: the control.", "horizon": HORIZON},
    ),
    Report(
        "segments",
        "Agreement by segment",
        "segments",
        (*PERIOD, "key", "time_zone", "exact"),
        (
            *WHO,
            Column("segment", "key"),
            Column("", "value"),
            Column("n", "agreement.pair.n", "count"),
            AGREEMENT,
            *FAILS,
        ),
        f"{DAYS_LIKE_THESE} {READ}",
        {"key": "Only this segment key; default: every key.", **READ_ALL},
        pivot=(("stream", "deployment", "role", "key", "value", "compares"), ("metric", "side")),
        of_values=ValueLayout(
            "Mean difference by segment",
            (
                *WHO,
                Column("segment", "key"),
                Column("", "value"),
                Column("n", "agreement.pair.n", "count"),
                *MEANS,
                EQUAL,
            ),
        ),
    ),
    Report(
        "heterogeneity",
        "Whether the values of a segment differ by more than noise",
        "heterogeneity",
        (*PERIOD, "key", "horizon", "time_zone", "exact"),
        (
            *WHO,
            Column("key", "key"),
            Column("metric", "metric"),
            Column("values", "values", "count"),
            Column("lowest", "lowest", "number", below="lowest_value"),
            Column("highest", "highest", "number", below="highest_value"),
            Column("Q", "q", "short"),
            Column("p", "p", "short"),
            Column("status", "status"),
        ),
        "Q: Cochran's Q; p: probability that noise alone gives at least this Q (χ²), rough with few days or clusters."
        " Of a deployment with more than 50,000 pairs about 50,000 are read; the standard errors account for it.",
        {
            "key": "Only this segment key; default: every key.",
            "horizon": HORIZON,
            "exact": "yes: read all pairs; default: about 50,000 of a deployment.",
        },
    ),
    Report(
        "time_of_day",
        "Agreement by local hour or weekday",
        "time_of_day",
        (*PAIRS, "slice", "time_zone", "exact"),
        (
            *WHO,
            Column("when", "value"),
            Column("n", "agreement.pair.n", "count"),
            AGREEMENT,
            *FAILS,
            *MEANS[1:],
        ),
        f"{DAYS_LIKE_THESE} {READ}",
        {"slice": "hour or weekday; default hour.", **READ_ALL},
        slices=TIMES,
        pivot=(("stream", "deployment", "role", "value", "compares"), ("metric", "side")),
        of_values=ValueLayout(
            "Mean difference by local hour or weekday",
            (*WHO, Column("when", "value"), Column("n", "agreement.pair.n", "count"), *MEANS, EQUAL),
        ),
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
            *(
                Column(
                    who,
                    f"{who}_value",
                    "number",
                    below=f"{who}_label",
                    otherwise=(f"{who}_label", f"{who}_list"),
                    precision=BOTH,
                )
                for who in ("live", "shadow", "control")
            ),
            Column("truth", "truth_label", "number", otherwise=("truth_value", "truth_list"), precision=BOTH),
            Column("status", "status"),
        ),
        "control: the control's answer to the same request. --format json also has segments and features.",
        {"top": "Number of requests per deployment; default 20."},
    ),
)
