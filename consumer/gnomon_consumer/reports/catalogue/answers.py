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
DRAWN = {"drawn": "yes: read about 100,000 of a deployment's pairs at most; default: all of them."}
BY = "The third line says what the interval accounts for (cohort: the clusters of the newest stored cohort)."
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
        name="agreement",
        summary="How often live and shadow agree",
        function="agreement",
        arguments=(*LOCAL, "exact", "drawn"),
        columns=(
            *WHO,
            Column("n", "n", "count"),
            Column("n eff.", "n_effective", "count"),
            Column("agreement", "agreement", "share", ("low", "high"), below="interval_by"),
            Column("kappa", "kappa", "number", ("kappa_low", "kappa_high")),
            Column("shadow - live", "mean_difference", "number", ("mean_difference_low", "mean_difference_high")),
        ),
        note=f"Weighted to all live traffic. {BOTH_QUESTIONS} {BY}",
        extra={**EXACT, **DRAWN},
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
        name="matches",
        summary="How often live and shadow match by your own rule",
        function="matches",
        arguments=(*LOCAL, "compare", "tolerance", "k", "expression"),
        columns=(
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
        note="not compared: a side failed or lacks what the rule reads. ≠: differs, but the rule ignores it.",
        extra={
            "compare": "label, absolute, relative, top-k or sql; default label.",
            "tolerance": "absolute: the largest difference; relative: the largest share of the larger value.",
            "k": "top-k: how many of the best items must be the same, in any order.",
            "expression": "sql: a condition over the columns of report_v1.pairs, such as 'live_value > shadow_value'.",
        },
    ),
    Report(
        name="confusion",
        summary="Live decision against shadow decision",
        function="confusion",
        arguments=(*PAIRS, "exact"),
        columns=(
            *WHO,
            Column("live", "live_label"),
            Column("shadow", "shadow_label"),
            Column("n", "n", "count"),
            Column("weight", "weight", "count"),
            Column("share", "share", "share"),
            Column("status", "status"),
        ),
        note="",
        extra=EXACT,
    ),
    Report(
        name="latency",
        summary="Latency quantiles of both sides, one request at a time",
        function="latency",
        arguments=(*LOCAL, "exact"),
        columns=(
            *WHO,
            Column("measure", "measure", below="0.5.kept_until"),
            Column("n", "0.5.n", "count"),
            Column("p50", "0.5.microseconds", "µs", ("0.5.low", "0.5.high")),
            Column("p95", "0.95.microseconds", "µs", ("0.95.low", "0.95.high")),
            Column("p99", "0.99.microseconds", "µs", ("0.99.low", "0.99.high")),
        ),
        note="Compare the shadow latency of a challenger with that of the control. live_all: all pairs, or about"
        " 100,000 of a deployment that has more (the intervals account for this); other rows: the latency probe. A time"
        f" below a measure: its numbers were stored, for the pairs captured before. {BOTH_QUESTIONS}",
        extra={
            "exact": "yes: read all pairs; no: use the stored results of a cohort if there are any; default: these for"
            " more than a million pairs, otherwise about 100,000 of a deployment."
        },
        pivot=(("stream", "deployment", "role", "measure"), ("quantile",)),
    ),
    Report(
        name="errors",
        summary="Error rates of both sides and their four cells",
        function="errors",
        arguments=(*LOCAL, "exact", "drawn"),
        columns=(
            *WHO,
            Column("pairs", "error.live.n", "count"),
            *(
                Column(title, f"{source}.rate", "share", (f"{source}.low", f"{source}.high"))
                for title, source in (
                    ("live fails", "error.live"),
                    ("shadow fails", "error.shadow"),
                    ("shadow - live", "error.difference"),
                    ("shadow timed out", "timed_out.pair"),
                    ("only live fails", "only_live_failed.pair"),
                    ("only shadow fails", "only_shadow_failed.pair"),
                    ("both fail", "both_failed.pair"),
                    ("both answer", "both_answered.pair"),
                )
            ),
            Column("interval by", "error.live.interval_by"),
        ),
        note=f"{BOTH_QUESTIONS} interval by: what the intervals account for (cohort: the clusters of the newest stored"
        " cohort).",
        extra={**EXACT, **DRAWN},
        pivot=(("stream", "deployment", "role"), ("metric", "side")),
        upright=True,
    ),
    Report(
        name="error_kinds",
        summary="Errors by kind",
        function="error_kinds",
        arguments=PAIRS,
        columns=(
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
        name="predictions",
        summary="What both sides answer: range, rate, class shares",
        function="predictions",
        arguments=PAIRS,
        columns=(
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
        note="an hour: weighted to all live traffic. The interval of a class counts rows only, not clusters or days.",
    ),
    Report(
        name="contrast",
        summary="A challenger against the control or another challenger",
        function="contrast",
        arguments=(*PAIRS, "against", "horizon", "time_zone"),
        columns=(
            *WHO,
            Column("against", "against"),
            Column("metric", "metric"),
            Column("n", "n", "count"),
            Column("first", "first", "number"),
            Column("second", "second", "number"),
            Column("difference", "difference", "number", ("low", "high")),
            Column("status", "status"),
        ),
        note=f"difference: first minus second, on the requests that both scored. {DAYS_LIKE_THESE}",
        extra={"against": "The other deployment; default: the control.", "horizon": HORIZON},
    ),
    Report(
        name="segments",
        summary="Agreement by segment",
        function="segments",
        arguments=(*PERIOD, "key", "time_zone", "exact"),
        columns=(
            *WHO,
            Column("segment", "key"),
            Column("", "value"),
            Column("n", "agreement.pair.n", "count"),
            AGREEMENT,
            *FAILS,
        ),
        note=f"{DAYS_LIKE_THESE} {READ}",
        extra={"key": "Only this segment key; default: every key.", **READ_ALL},
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
        name="heterogeneity",
        summary="Whether the values of a segment differ by more than noise",
        function="heterogeneity",
        arguments=(*PERIOD, "key", "horizon", "time_zone", "exact"),
        columns=(
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
        note="Q: Cochran's Q; p: probability that noise alone gives at least this Q (χ²), rough with few days or"
        " clusters. If a deployment has more than 50,000 pairs, about 50,000 of them are read; the standard errors"
        " account for this.",
        extra={
            "key": "Only this segment key; default: every key.",
            "horizon": HORIZON,
            "exact": "yes: read all pairs; default: about 50,000 of a deployment.",
        },
    ),
    Report(
        name="time_of_day",
        summary="Agreement by local hour or weekday",
        function="time_of_day",
        arguments=(*PAIRS, "slice", "time_zone", "exact"),
        columns=(
            *WHO,
            Column("when", "value"),
            Column("n", "agreement.pair.n", "count"),
            AGREEMENT,
            *FAILS,
            *MEANS[1:],
        ),
        note=f"{DAYS_LIKE_THESE} {READ}",
        extra={"slice": "hour or weekday; default hour.", **READ_ALL},
        slices=TIMES,
        pivot=(("stream", "deployment", "role", "value", "compares"), ("metric", "side")),
        of_values=ValueLayout(
            "Mean difference by local hour or weekday",
            (*WHO, Column("when", "value"), Column("n", "agreement.pair.n", "count"), *MEANS, EQUAL),
        ),
    ),
    Report(
        name="disagreements",
        summary="The requests on which live and shadow differ most",
        function="disagreements",
        arguments=(*PAIRS, "top"),
        columns=(
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
        note="control: the control's answer to the same request. --format json also has segments and features.",
        extra={"top": "Number of requests per deployment; default 20."},
    ),
)
