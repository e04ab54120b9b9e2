-- Quality of sealed cohorts, computed once. Frozen: later changes are new files.

CREATE TABLE gnomon.cohort_estimates (
    cohort_id BIGINT NOT NULL,
    metric TEXT NOT NULL,
    side TEXT NOT NULL,
    n BIGINT NOT NULL,
    n_effective DOUBLE PRECISION,
    weight DOUBLE PRECISION,
    clusters BIGINT,
    days BIGINT,
    estimate DOUBLE PRECISION,
    se_row DOUBLE PRECISION,
    se_cluster DOUBLE PRECISION,
    se_day DOUBLE PRECISION,
    standard_error DOUBLE PRECISION,
    low DOUBLE PRECISION,
    high DOUBLE PRECISION,
    status TEXT NOT NULL,
    computed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT cohort_estimates_pkey PRIMARY KEY (cohort_id, metric, side),
    CONSTRAINT cohort_estimates_cohort_id_fkey FOREIGN KEY(cohort_id) REFERENCES gnomon.cohorts (cohort_id)
);

COMMENT ON TABLE gnomon.cohort_estimates IS 'What `report quality` computed of a sealed cohort (the slice and all before it), by UTC days: a cohort does not change, so neither does this. `gnomon db maintain` fills it; erasing a request of the stream, or a new SQL version of the reports, empties it.';
