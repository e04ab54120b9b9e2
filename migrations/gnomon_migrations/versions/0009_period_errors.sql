-- The error of the period in what is kept of cohorts; rollups by the rules of comparing. Frozen: later changes are new files.

ALTER TABLE gnomon.cohort_estimates
    ADD COLUMN se_period DOUBLE PRECISION,
    ADD COLUMN period_low DOUBLE PRECISION,
    ADD COLUMN period_high DOUBLE PRECISION;

ALTER TABLE gnomon.cohort_latencies
    ADD COLUMN se_period DOUBLE PRECISION,
    ADD COLUMN period_low DOUBLE PRECISION,
    ADD COLUMN period_high DOUBLE PRECISION;

-- Values agree within a share of the larger one since relative_tolerance came, and two decisions beside a value that is
-- not finite are not comparable. Hours that hold such a pair, all of whose pairs are still there and none of which is a
-- list, are counted anew.
CREATE TEMPORARY TABLE counted_anew ON COMMIT DROP AS
WITH compared AS (
    SELECT p.deployment_id, date_trunc('hour', p.event_time, 'UTC') AS hour, p.stratum, p.weight,
           p.live_items IS NOT NULL OR p.shadow_items IS NOT NULL AS list, a.answered, o.odd,
           a.answered AND CASE WHEN p.live_label IS NOT NULL OR p.shadow_label IS NOT NULL
                               THEN p.live_label IS NOT NULL AND p.shadow_label IS NOT NULL AND NOT o.odd
                               ELSE p.live_value IS NOT NULL AND p.shadow_value IS NOT NULL AND NOT o.odd END AS comparable,
           CASE WHEN p.live_label IS NOT NULL THEN p.live_label = p.shadow_label
                WHEN NOT o.odd THEN abs(p.live_value - p.shadow_value)
                     <= greatest(s.value_tolerance, s.relative_tolerance * greatest(abs(p.live_value), abs(p.shadow_value)))
                END AS same,
           p.live_label IS NULL AND p.shadow_label IS NULL AND NOT o.odd
               AND abs(p.live_value - p.shadow_value) > s.value_tolerance
               AND abs(p.live_value - p.shadow_value)
                   <= s.relative_tolerance * greatest(abs(p.live_value), abs(p.shadow_value)) AS near
    FROM gnomon.pairs p
    JOIN gnomon.deployments d USING (deployment_id)
    JOIN gnomon.streams s USING (stream_id)
    CROSS JOIN LATERAL (SELECT p.live_error_kind IS NULL AND p.outcome = 'scored' AS answered) a
    CROSS JOIN LATERAL (
        SELECT coalesce(p.live_value IN ('NaN', 'infinity', '-infinity'), false)
               OR coalesce(p.shadow_value IN ('NaN', 'infinity', '-infinity'), false) AS odd) o
)
SELECT deployment_id, hour, stratum, count(*) AS pairs,
       count(*) FILTER (WHERE comparable) AS comparable,
       coalesce(sum(weight) FILTER (WHERE comparable), 0) AS comparable_weight,
       coalesce(sum(weight ^ 2) FILTER (WHERE comparable), 0) AS comparable_weight_squared,
       count(*) FILTER (WHERE comparable AND same) AS agreed,
       coalesce(sum(weight) FILTER (WHERE comparable AND same), 0) AS agreed_weight,
       coalesce(sum(weight ^ 2) FILTER (WHERE comparable AND same), 0) AS agreed_weight_squared
FROM compared
GROUP BY 1, 2, 3
HAVING bool_or(answered AND (odd OR near)) AND NOT bool_or(list);

UPDATE gnomon.rollups r
SET comparable = c.comparable, comparable_weight = c.comparable_weight,
    comparable_weight_squared = c.comparable_weight_squared, agreed = c.agreed, agreed_weight = c.agreed_weight,
    agreed_weight_squared = c.agreed_weight_squared
FROM counted_anew c
WHERE c.deployment_id = r.deployment_id AND c.hour = r.hour AND c.stratum = r.stratum
  AND c.pairs = r.scored + r.failed + r.timed_out;

-- Decisions beside a value that is not finite leave the table of decisions by hour.
UPDATE gnomon.rollup_labels r
SET pairs = r.pairs - o.pairs, weight = r.weight - o.weight, weight_squared = r.weight_squared - o.weight_squared
FROM (
    SELECT p.deployment_id, date_trunc('hour', p.event_time, 'UTC') AS hour, p.live_label, p.shadow_label,
           count(*) AS pairs, sum(p.weight) AS weight, sum(p.weight ^ 2) AS weight_squared
    FROM gnomon.pairs p
    WHERE p.live_error_kind IS NULL AND p.outcome = 'scored' AND p.live_label IS NOT NULL AND p.shadow_label IS NOT NULL
      AND (p.live_value IN ('NaN', 'infinity', '-infinity') OR p.shadow_value IN ('NaN', 'infinity', '-infinity'))
    GROUP BY 1, 2, 3, 4
) o
WHERE r.deployment_id = o.deployment_id AND r.hour = o.hour AND r.live_label = o.live_label
  AND r.shadow_label = o.shadow_label;

DELETE FROM gnomon.rollup_labels WHERE pairs <= 0;
