"""The reports on features: against a reference, against the shadow's features, against features recomputed offline."""

from gnomon_consumer.reports.catalogue.shape import DAYS_LIKE_THESE, LOCAL, PAIRS, WHO, Column, Report

DRAWN = "If a deployment has more than 30,000 pairs, about 30,000 of them are read, chosen by a hash of the request id."
EXACT = {"exact": "yes: read all pairs; default: about 30,000 of a deployment."}

FEATURES = (
    Report(
        name="drift",
        summary="Features and answers against a frozen reference",
        function="drift",
        arguments=(*LOCAL, "reference", "exact"),
        columns=(
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
        note="chance: the PSI that 1 period in 20 exceeds without any drift. W1: Wasserstein, in the feature's unit."
        f" {DRAWN}",
        extra={"reference": "Name of the reference; default: the newest.", **EXACT},
    ),
    Report(
        name="feature_health",
        summary="Missing, invalid and out-of-range features",
        function="feature_health",
        arguments=(*PAIRS, "reference", "exact"),
        columns=(
            *WHO,
            Column("feature", "feature"),
            Column("missing", "missing", "share"),
            Column("invalid", "invalid", "share"),
            Column("outside", "out_of_range", "share"),
            Column("lowest", "lowest", "figure"),
            Column("highest", "highest", "figure"),
            Column("status", "status"),
        ),
        note="outside: beyond the reference's minimum or maximum, or a category that is not in the reference."
        f" {DRAWN} Rare values, such as extremes, may be missed; --exact yes reads all pairs.",
        extra={"reference": "Name of the reference; default: the newest.", **EXACT},
    ),
    Report(
        name="feature_state",
        summary="Feature dictionaries and caches, live against shadow",
        function="feature_state",
        arguments=PAIRS,
        columns=(
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
)


# Not in the list above, since it needs a file in addition to the database.
SKEW = Report(
    name="skew",
    summary="Features recomputed offline against those that the live service sent",
    function="skew",
    arguments=(*PAIRS, "features", "tolerance", "time_zone"),
    columns=(
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
    note=f"mismatch: share of all live traffic. {DAYS_LIKE_THESE} size: mean |file - live| of the numbers that differ;"
    " file - live: the same with its sign."
    " live, file: of the request that differs most.",
)
