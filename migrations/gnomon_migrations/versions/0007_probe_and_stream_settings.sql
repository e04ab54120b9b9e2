-- The latency probe's own probability, and what a stream declares. Frozen: later changes are new files.

ALTER TABLE gnomon.pairs ADD COLUMN probe_probability DOUBLE PRECISION;

ALTER TABLE gnomon.cells
    ADD COLUMN probed BIGINT,
    ADD COLUMN probe_probability DOUBLE PRECISION;

ALTER TABLE gnomon.windows ADD COLUMN probe_approximate BOOLEAN DEFAULT false NOT NULL;

CREATE INDEX windows_probe_approximate ON gnomon.windows (deployment_id) WHERE probe_approximate;

-- Until now the probe was the lowest ranks over all cells of a window. Its rows keep what the reports took them for, the
-- share of the window's pairs that were scored one at a time, and their windows say that this is approximate.
UPDATE gnomon.windows SET probe_approximate = true WHERE seen > 0;

UPDATE gnomon.pairs p
SET probe_probability = p.inclusion_probability * w.single / w.pairs
FROM (
    SELECT deployment_id, window_id, count(*)::float8 AS pairs,
           count(*) FILTER (WHERE shadow_batch_size = 1 AND shadow_latency_us IS NOT NULL AND outcome = 'scored') AS single
    FROM gnomon.pairs GROUP BY 1, 2
) w
WHERE p.deployment_id = w.deployment_id AND p.window_id = w.window_id AND p.shadow_batch_size = 1
  AND p.shadow_latency_us IS NOT NULL AND p.outcome = 'scored';

COMMENT ON TABLE gnomon.windows IS 'The ledger by window: [start_offset, end_offset) of one source partition. `seen` is the scorer''s claim, `joined_seen` what the joiner read there, `joined_missing` the claimed captures it could no longer read (expired); `shadow_offset` is where the seal stands in the shadow topic; `limited_by` says why not all of it was sampled; `probe_approximate`: an earlier version chose its latency probe, whose weights are approximate.';

COMMENT ON TABLE gnomon.cells IS 'The ledger by (window, stratum). sampled_out = seen - sampled; paired = joined_scored + joined_failed + joined_timed_out; seen = sampled_out + paired + joined_dead_lettered + joined_orphaned. Erased and expired rows stay counted among the paired. `probed` rows were chosen for the latency probe, each capture with `probe_probability`.';

ALTER TABLE gnomon.streams
    ADD COLUMN relative_tolerance DOUBLE PRECISION DEFAULT 0.00001 NOT NULL,
    ADD COLUMN task TEXT,
    ADD COLUMN positive_class TEXT,
    ADD COLUMN negative_class TEXT,
    ADD COLUMN classes TEXT[],
    ADD COLUMN time_zone TEXT DEFAULT 'UTC' NOT NULL,
    ADD CONSTRAINT streams_task_check CHECK (task in ('binary', 'multiclass', 'regression', 'ranking')),
    ADD CONSTRAINT streams_two_classes_check CHECK ((positive_class is null) = (negative_class is null) and positive_class is distinct from coalesce(negative_class, '')),
    ADD CONSTRAINT streams_tolerance_check CHECK (value_tolerance >= 0 and relative_tolerance >= 0 and relative_tolerance < 1);

COMMENT ON TABLE gnomon.streams IS 'One row a stream: retention, the declared replay range, its task and classes, when two values agree, how labels are read.';
