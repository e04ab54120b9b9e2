-- Sums that the rollups lacked, decisions by hour, and what else is kept of sealed cohorts. Frozen: later changes are new
-- files. What stands in `pairs` is added up once; of pairs that expired before, these sums stay 0.

ALTER TABLE gnomon.rollups
    ADD COLUMN both_failed BIGINT DEFAULT 0 NOT NULL,
    ADD COLUMN valued BIGINT DEFAULT 0 NOT NULL,
    ADD COLUMN both_failed_weight DOUBLE PRECISION DEFAULT 0 NOT NULL,
    ADD COLUMN both_failed_weight_squared DOUBLE PRECISION DEFAULT 0 NOT NULL,
    ADD COLUMN squared_weight_value_difference DOUBLE PRECISION DEFAULT 0 NOT NULL,
    ADD COLUMN squared_weight_value_difference_absolute DOUBLE PRECISION DEFAULT 0 NOT NULL,
    ADD COLUMN squared_weight_value_difference_squared DOUBLE PRECISION DEFAULT 0 NOT NULL,
    ADD COLUMN squared_weight_value_difference_weight DOUBLE PRECISION DEFAULT 0 NOT NULL;

COMMENT ON TABLE gnomon.rollups IS 'Counts and weighted sums by hour of event time (dead letters and orphans: of the window) and stratum, written with the pairs they sum. x_weight = sum of w over x, x_weight_squared = sum of w squared; the value differences are weighted sums over the `valued` rows, those with two finite values, whose weight is value_difference_weight, and squared_weight_… the same with w squared in place of w.';

CREATE TABLE gnomon.rollup_labels (
    deployment_id INTEGER NOT NULL,
    hour TIMESTAMP WITH TIME ZONE NOT NULL,
    live_label TEXT NOT NULL,
    shadow_label TEXT NOT NULL,
    pairs BIGINT DEFAULT 0 NOT NULL,
    weight DOUBLE PRECISION DEFAULT 0 NOT NULL,
    weight_squared DOUBLE PRECISION DEFAULT 0 NOT NULL,
    CONSTRAINT rollup_labels_pkey PRIMARY KEY (deployment_id, hour, live_label, shadow_label),
    CONSTRAINT rollup_labels_deployment_id_fkey FOREIGN KEY(deployment_id) REFERENCES gnomon.deployments (deployment_id)
);

COMMENT ON TABLE gnomon.rollup_labels IS 'Live decision against shadow decision by hour of event time, over comparable pairs, written with them: how many, sum of w, sum of w squared.';

UPDATE gnomon.rollups r
SET both_failed = s.both_failed, valued = s.valued, both_failed_weight = s.both_failed_weight,
    both_failed_weight_squared = s.both_failed_weight_squared, squared_weight_value_difference = s.d,
    squared_weight_value_difference_absolute = s.absolute, squared_weight_value_difference_squared = s.squared,
    squared_weight_value_difference_weight = s.w2
FROM (
    SELECT p.deployment_id, date_trunc('hour', p.event_time, 'UTC') AS hour, p.stratum,
           count(*) FILTER (WHERE k.failed) AS both_failed, count(*) FILTER (WHERE k.finite) AS valued,
           coalesce(sum(p.weight) FILTER (WHERE k.failed), 0) AS both_failed_weight,
           coalesce(sum(p.weight ^ 2) FILTER (WHERE k.failed), 0) AS both_failed_weight_squared,
           coalesce(sum(p.weight ^ 2 * (p.shadow_value - p.live_value)) FILTER (WHERE k.finite), 0) AS d,
           coalesce(sum(p.weight ^ 2 * abs(p.shadow_value - p.live_value)) FILTER (WHERE k.finite), 0) AS absolute,
           coalesce(sum(p.weight ^ 2 * (p.shadow_value - p.live_value) ^ 2) FILTER (WHERE k.finite), 0) AS squared,
           coalesce(sum(p.weight ^ 2) FILTER (WHERE k.finite), 0) AS w2
    FROM gnomon.pairs p
    CROSS JOIN LATERAL (
        SELECT p.live_error_kind IS NOT NULL AND p.outcome <> 'scored' AS failed,
               coalesce(p.live_error_kind IS NULL AND p.outcome = 'scored' AND p.live_value > '-infinity'
                        AND p.live_value < 'infinity' AND p.shadow_value > '-infinity'
                        AND p.shadow_value < 'infinity', false) AS finite) k
    GROUP BY 1, 2, 3
) s
WHERE r.deployment_id = s.deployment_id AND r.hour = s.hour AND r.stratum = s.stratum;

INSERT INTO gnomon.rollup_labels (deployment_id, hour, live_label, shadow_label, pairs, weight, weight_squared)
SELECT p.deployment_id, date_trunc('hour', p.event_time, 'UTC'), p.live_label, p.shadow_label, count(*), sum(p.weight),
       sum(p.weight ^ 2)
FROM gnomon.pairs p
WHERE p.live_error_kind IS NULL AND p.outcome = 'scored' AND p.live_label IS NOT NULL AND p.shadow_label IS NOT NULL
GROUP BY 1, 2, 3, 4;

ALTER TABLE gnomon.cohort_estimates ADD COLUMN report TEXT DEFAULT 'quality' NOT NULL;

COMMENT ON TABLE gnomon.cohort_estimates IS 'What `report quality` computed of a sealed cohort (the slice and all before it), by UTC days: a cohort does not change, so neither does this; of the newest, `report agreement` and `report errors` too, over all pairs captured before its end. `gnomon db maintain` fills it; erasing a request of the stream, or a new SQL version of the reports, empties it, as far as the pairs are still there to compute it again.';

CREATE TABLE gnomon.cohort_latencies (
    cohort_id BIGINT NOT NULL,
    measure TEXT NOT NULL,
    quantile DOUBLE PRECISION NOT NULL,
    n BIGINT NOT NULL,
    n_effective DOUBLE PRECISION,
    weight DOUBLE PRECISION,
    microseconds DOUBLE PRECISION,
    se_row DOUBLE PRECISION,
    se_cluster DOUBLE PRECISION,
    se_day DOUBLE PRECISION,
    standard_error DOUBLE PRECISION,
    low DOUBLE PRECISION,
    high DOUBLE PRECISION,
    computed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT cohort_latencies_pkey PRIMARY KEY (cohort_id, measure, quantile),
    CONSTRAINT cohort_latencies_cohort_id_fkey FOREIGN KEY(cohort_id) REFERENCES gnomon.cohorts (cohort_id)
);

COMMENT ON TABLE gnomon.cohort_latencies IS 'What `report latency` computed of all pairs captured before the end of the newest sealed cohort, by UTC days; filled and emptied with cohort_estimates.';
