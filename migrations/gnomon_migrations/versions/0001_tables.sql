-- The first schema. Frozen: later changes are new files.

create schema if not exists gnomon;

CREATE TABLE gnomon.partitioning (
    only_row BOOLEAN DEFAULT true NOT NULL,
    granularity TEXT DEFAULT 'month' NOT NULL,
    CONSTRAINT partitioning_pkey PRIMARY KEY (only_row),
    CONSTRAINT partitioning_single_check CHECK (only_row),
    CONSTRAINT partitioning_granularity_check CHECK (granularity in ('day', 'month'))
);

COMMENT ON TABLE gnomon.partitioning IS 'How `pairs` is cut by event time: one row for the whole database.';

CREATE TABLE gnomon.streams (
    stream_id INTEGER GENERATED ALWAYS AS IDENTITY,
    name TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    retention INTERVAL DEFAULT '400 days' NOT NULL,
    replay_from TIMESTAMP WITH TIME ZONE,
    replay_until TIMESTAMP WITH TIME ZONE,
    value_tolerance DOUBLE PRECISION DEFAULT 0 NOT NULL,
    label_kind TEXT DEFAULT 'explicit' NOT NULL,
    label_choice TEXT DEFAULT 'last' NOT NULL,
    label_grace INTERVAL DEFAULT '0' NOT NULL,
    horizons INTERVAL[] DEFAULT '{1 day,3 days,7 days}' NOT NULL,
    CONSTRAINT streams_pkey PRIMARY KEY (stream_id),
    CONSTRAINT streams_name_key UNIQUE (name),
    CONSTRAINT streams_label_kind_check CHECK (label_kind in ('explicit', 'absence_is_negative')),
    CONSTRAINT streams_label_choice_check CHECK (label_choice in ('first', 'last')),
    CONSTRAINT streams_replay_range_check CHECK ((replay_from is null) = (replay_until is null))
);

COMMENT ON TABLE gnomon.streams IS 'One row a stream: retention, the declared replay range, how labels are read.';

CREATE TABLE gnomon.view_versions (
    name TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    applied_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT view_versions_pkey PRIMARY KEY (name)
);

COMMENT ON TABLE gnomon.view_versions IS 'Which SQL of functions and views stands in the database.';

CREATE TABLE gnomon.deployments (
    deployment_id INTEGER GENERATED ALWAYS AS IDENTITY,
    stream_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    role TEXT,
    model_name TEXT,
    model_version TEXT,
    model_sha256 TEXT,
    settings JSONB DEFAULT '{}' NOT NULL,
    status TEXT DEFAULT 'active' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT deployments_pkey PRIMARY KEY (deployment_id),
    CONSTRAINT deployments_stream_id_key UNIQUE (stream_id, name),
    CONSTRAINT deployments_role_check CHECK (role in ('challenger', 'control')),
    CONSTRAINT deployments_stream_id_fkey FOREIGN KEY(stream_id) REFERENCES gnomon.streams (stream_id)
);

COMMENT ON TABLE gnomon.deployments IS 'One challenger or control at work on one stream; role and model come from its DeploymentStart.';

CREATE TABLE gnomon.feature_columns (
    stream_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    position INTEGER NOT NULL,
    avro_type TEXT NOT NULL,
    added_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT feature_columns_pkey PRIMARY KEY (stream_id, name, kind),
    CONSTRAINT feature_columns_stream_id_key UNIQUE (stream_id, kind, position),
    CONSTRAINT feature_columns_kind_check CHECK (kind in ('numeric', 'text')),
    CONSTRAINT feature_columns_position_check CHECK (position > 0),
    CONSTRAINT feature_columns_stream_id_fkey FOREIGN KEY(stream_id) REFERENCES gnomon.streams (stream_id)
);

COMMENT ON TABLE gnomon.feature_columns IS 'Where a feature lives in features_numeric or features_text (1-based). Append-only.';

CREATE TABLE gnomon.pairs (
    deployment_id INTEGER NOT NULL,
    event_time TIMESTAMP WITH TIME ZONE NOT NULL,
    source_partition INTEGER NOT NULL,
    source_offset BIGINT NOT NULL,
    request_id TEXT NOT NULL,
    cluster TEXT,
    stratum TEXT DEFAULT '' NOT NULL,
    segments JSONB DEFAULT '{}' NOT NULL,
    features_numeric DOUBLE PRECISION[] DEFAULT '{}' NOT NULL,
    features_text TEXT[] DEFAULT '{}' NOT NULL,
    live_value DOUBLE PRECISION,
    live_label TEXT,
    live_scores DOUBLE PRECISION[],
    live_items TEXT[],
    live_error_kind TEXT,
    live_error_message TEXT,
    live_latency_us BIGINT,
    live_feature_version TEXT,
    live_cache_hits INTEGER,
    live_cache_misses INTEGER,
    live_model_name TEXT NOT NULL,
    live_model_version TEXT NOT NULL,
    shadow_value DOUBLE PRECISION,
    shadow_label TEXT,
    shadow_scores DOUBLE PRECISION[],
    shadow_items TEXT[],
    shadow_error_kind TEXT,
    shadow_error_message TEXT,
    shadow_latency_us BIGINT,
    shadow_feature_version TEXT,
    shadow_cache_hits INTEGER,
    shadow_cache_misses INTEGER,
    shadow_batch_size INTEGER NOT NULL,
    shadow_queued_us BIGINT,
    scored_at TIMESTAMP WITH TIME ZONE NOT NULL,
    outcome TEXT NOT NULL,
    capture_probability DOUBLE PRECISION NOT NULL,
    inclusion_probability DOUBLE PRECISION NOT NULL,
    weight DOUBLE PRECISION GENERATED ALWAYS AS (1.0 / (capture_probability * inclusion_probability)) STORED,
    rank BIGINT NOT NULL,
    window_id UUID NOT NULL,
    producer_id UUID NOT NULL,
    producer_sequence BIGINT NOT NULL,
    replayed BOOLEAN DEFAULT false NOT NULL,
    joined_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pairs_pkey PRIMARY KEY (deployment_id, event_time, source_partition, source_offset),
    CONSTRAINT pairs_outcome_check CHECK (outcome in ('scored', 'failed', 'timed_out'))
) PARTITION BY RANGE (event_time);

CREATE TABLE gnomon.pairs_default PARTITION OF gnomon.pairs DEFAULT;

CREATE INDEX pairs_event_time_brin ON gnomon.pairs USING brin (event_time);

CREATE INDEX pairs_joined_at_brin ON gnomon.pairs USING brin (joined_at);

COMMENT ON TABLE gnomon.pairs IS 'A live prediction and a shadow outcome for the same request; one row a (deployment, partition, offset).';

CREATE TABLE gnomon.label_loads (
    load_id BIGINT GENERATED ALWAYS AS IDENTITY,
    stream_id INTEGER NOT NULL,
    file TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    received BIGINT DEFAULT 0 NOT NULL,
    stored BIGINT DEFAULT 0 NOT NULL,
    duplicates BIGINT DEFAULT 0 NOT NULL,
    rejected BIGINT DEFAULT 0 NOT NULL,
    complete_until TIMESTAMP WITH TIME ZONE,
    loaded_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT label_loads_pkey PRIMARY KEY (load_id),
    CONSTRAINT label_loads_stream_id_fkey FOREIGN KEY(stream_id) REFERENCES gnomon.streams (stream_id)
);

COMMENT ON TABLE gnomon.label_loads IS 'One row a file of labels; complete_until: every label observed before it is now known.';

CREATE TABLE gnomon.label_watermarks (
    stream_id INTEGER NOT NULL,
    label_partition INTEGER NOT NULL,
    cluster_id TEXT NOT NULL,
    topic_id TEXT,
    next_offset BIGINT NOT NULL,
    observed_until TIMESTAMP WITH TIME ZONE,
    idle BOOLEAN DEFAULT false NOT NULL,
    received BIGINT DEFAULT 0 NOT NULL,
    stored BIGINT DEFAULT 0 NOT NULL,
    duplicates BIGINT DEFAULT 0 NOT NULL,
    rejected BIGINT DEFAULT 0 NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT label_watermarks_pkey PRIMARY KEY (stream_id, label_partition),
    CONSTRAINT label_watermarks_stream_id_fkey FOREIGN KEY(stream_id) REFERENCES gnomon.streams (stream_id)
);

COMMENT ON TABLE gnomon.label_watermarks IS 'How far each label partition is stored, the highest observed_at consumed there, and whether it is idle.';

CREATE TABLE gnomon.labels (
    stream_id INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    observed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    value DOUBLE PRECISION,
    label TEXT,
    relevance DOUBLE PRECISION[],
    items TEXT[],
    occurred_at TIMESTAMP WITH TIME ZONE,
    source TEXT DEFAULT '' NOT NULL,
    label_partition INTEGER,
    label_offset BIGINT,
    load_id BIGINT,
    stored_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT labels_pkey PRIMARY KEY (stream_id, request_id, observed_at),
    CONSTRAINT labels_origin_check CHECK ((label_offset is null) <> (load_id is null)),
    CONSTRAINT labels_stream_id_fkey FOREIGN KEY(stream_id) REFERENCES gnomon.streams (stream_id)
);

CREATE INDEX labels_stored_at_brin ON gnomon.labels USING brin (stored_at);

COMMENT ON TABLE gnomon.labels IS 'Every version of a label as it arrived, from the topic (label_partition, label_offset) or a file (load_id).';

CREATE TABLE gnomon.producer_reports (
    stream_id INTEGER NOT NULL,
    producer_id UUID NOT NULL,
    service TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    reported_at TIMESTAMP WITH TIME ZONE NOT NULL,
    offered BIGINT NOT NULL,
    delivered BIGINT NOT NULL,
    dropped JSONB DEFAULT '{}' NOT NULL,
    sampled_out BIGINT DEFAULT 0 NOT NULL,
    switched_off BIGINT DEFAULT 0 NOT NULL,
    closed BOOLEAN DEFAULT false NOT NULL,
    stored_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT producer_reports_pkey PRIMARY KEY (stream_id, producer_id),
    CONSTRAINT producer_reports_stream_id_fkey FOREIGN KEY(stream_id) REFERENCES gnomon.streams (stream_id)
);

COMMENT ON TABLE gnomon.producer_reports IS 'The last heartbeat of each producer run.';

CREATE TABLE gnomon.cells (
    deployment_id INTEGER NOT NULL,
    source_partition INTEGER NOT NULL,
    start_offset BIGINT NOT NULL,
    stratum TEXT NOT NULL,
    seen BIGINT NOT NULL,
    sampled BIGINT NOT NULL,
    draw_probability DOUBLE PRECISION NOT NULL,
    threshold BIGINT,
    scored BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    timed_out BIGINT NOT NULL,
    dead_lettered BIGINT NOT NULL,
    joined_seen BIGINT DEFAULT 0 NOT NULL,
    joined_scored BIGINT DEFAULT 0 NOT NULL,
    joined_failed BIGINT DEFAULT 0 NOT NULL,
    joined_timed_out BIGINT DEFAULT 0 NOT NULL,
    joined_dead_lettered BIGINT DEFAULT 0 NOT NULL,
    joined_orphaned BIGINT DEFAULT 0 NOT NULL,
    erased BIGINT DEFAULT 0 NOT NULL,
    expired BIGINT DEFAULT 0 NOT NULL,
    CONSTRAINT cells_pkey PRIMARY KEY (deployment_id, source_partition, start_offset, stratum),
    CONSTRAINT cells_deployment_id_fkey FOREIGN KEY(deployment_id) REFERENCES gnomon.deployments (deployment_id)
);

COMMENT ON TABLE gnomon.cells IS 'The ledger by (window, stratum). sampled_out = seen - sampled; paired = joined_scored + joined_failed + joined_timed_out; seen = sampled_out + paired + joined_dead_lettered + joined_orphaned. Erased and expired rows stay counted among the paired.';

CREATE TABLE gnomon.cohorts (
    cohort_id BIGINT GENERATED ALWAYS AS IDENTITY,
    deployment_id INTEGER NOT NULL,
    horizon INTERVAL NOT NULL,
    since TIMESTAMP WITH TIME ZONE,
    until TIMESTAMP WITH TIME ZONE NOT NULL,
    watermark TIMESTAMP WITH TIME ZONE NOT NULL,
    grace INTERVAL NOT NULL,
    label_kind TEXT NOT NULL,
    label_choice TEXT NOT NULL,
    source_offsets JSONB NOT NULL,
    label_offsets JSONB NOT NULL,
    load_ids BIGINT[] NOT NULL,
    sealed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT cohorts_pkey PRIMARY KEY (cohort_id),
    CONSTRAINT cohorts_deployment_id_key UNIQUE (deployment_id, horizon, until),
    CONSTRAINT cohorts_deployment_id_fkey FOREIGN KEY(deployment_id) REFERENCES gnomon.deployments (deployment_id)
);

COMMENT ON TABLE gnomon.cohorts IS 'Sealed slices [since, until) of event time, old enough for their horizon; the cohort at a time is the union of the slices up to it. A pair belongs if its offset is below source_offsets[partition] and it was not replayed after sealed_at; a label if its offset is below label_offsets[partition] or its load is among load_ids.';

CREATE TABLE gnomon.dead_letters (
    deployment_id INTEGER NOT NULL,
    source_partition INTEGER NOT NULL,
    source_offset BIGINT NOT NULL,
    request_id TEXT,
    stratum TEXT DEFAULT '' NOT NULL,
    stage TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    size BIGINT,
    window_start BIGINT NOT NULL,
    inclusion_probability DOUBLE PRECISION NOT NULL,
    rank BIGINT NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT dead_letters_pkey PRIMARY KEY (deployment_id, source_partition, source_offset),
    CONSTRAINT dead_letters_deployment_id_fkey FOREIGN KEY(deployment_id) REFERENCES gnomon.deployments (deployment_id)
);

COMMENT ON TABLE gnomon.dead_letters IS 'A sampled capture that could not become a pair, by its coordinates; the bytes stay in Kafka.';

CREATE TABLE gnomon.join_progress (
    deployment_id INTEGER NOT NULL,
    source_partition INTEGER NOT NULL,
    cluster_id TEXT NOT NULL,
    topic_id TEXT,
    start_offset BIGINT NOT NULL,
    model_name TEXT NOT NULL,
    model_version TEXT NOT NULL,
    model_sha256 TEXT NOT NULL,
    seed BIGINT NOT NULL,
    policy TEXT NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    next_source_offset BIGINT NOT NULL,
    next_shadow_offset BIGINT NOT NULL,
    event_time_reached TIMESTAMP WITH TIME ZONE,
    caught_up BOOLEAN DEFAULT false NOT NULL,
    defaulted BIGINT DEFAULT 0 NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT join_progress_pkey PRIMARY KEY (deployment_id, source_partition),
    CONSTRAINT join_progress_deployment_id_fkey FOREIGN KEY(deployment_id) REFERENCES gnomon.deployments (deployment_id)
);

COMMENT ON TABLE gnomon.join_progress IS 'How far each shadow partition is joined, and the identity it must keep. `caught_up`: nothing was left to join at `updated_at`; `defaulted`: pairs whose event time fell outside the permitted range.';

CREATE TABLE gnomon.producer_tallies (
    deployment_id INTEGER NOT NULL,
    source_partition INTEGER NOT NULL,
    producer_id UUID NOT NULL,
    received BIGINT NOT NULL,
    lowest_sequence BIGINT NOT NULL,
    highest_sequence BIGINT NOT NULL,
    repeated BIGINT DEFAULT 0 NOT NULL,
    first_captured_at TIMESTAMP WITH TIME ZONE NOT NULL,
    last_captured_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT producer_tallies_pkey PRIMARY KEY (deployment_id, source_partition, producer_id),
    CONSTRAINT producer_tallies_deployment_id_fkey FOREIGN KEY(deployment_id) REFERENCES gnomon.deployments (deployment_id)
);

COMMENT ON TABLE gnomon.producer_tallies IS 'What one partition received of one producer run; `repeated` counts sequence numbers that did not rise (keys spread a run over the partitions, so gaps show only in their sum).';

CREATE TABLE gnomon.rollups (
    deployment_id INTEGER NOT NULL,
    hour TIMESTAMP WITH TIME ZONE NOT NULL,
    stratum TEXT NOT NULL,
    seen BIGINT DEFAULT 0 NOT NULL,
    sampled BIGINT DEFAULT 0 NOT NULL,
    scored BIGINT DEFAULT 0 NOT NULL,
    failed BIGINT DEFAULT 0 NOT NULL,
    timed_out BIGINT DEFAULT 0 NOT NULL,
    dead_lettered BIGINT DEFAULT 0 NOT NULL,
    orphaned BIGINT DEFAULT 0 NOT NULL,
    live_failed BIGINT DEFAULT 0 NOT NULL,
    comparable BIGINT DEFAULT 0 NOT NULL,
    agreed BIGINT DEFAULT 0 NOT NULL,
    weight DOUBLE PRECISION DEFAULT 0 NOT NULL,
    weight_squared DOUBLE PRECISION DEFAULT 0 NOT NULL,
    failed_weight DOUBLE PRECISION DEFAULT 0 NOT NULL,
    failed_weight_squared DOUBLE PRECISION DEFAULT 0 NOT NULL,
    timed_out_weight DOUBLE PRECISION DEFAULT 0 NOT NULL,
    timed_out_weight_squared DOUBLE PRECISION DEFAULT 0 NOT NULL,
    live_failed_weight DOUBLE PRECISION DEFAULT 0 NOT NULL,
    live_failed_weight_squared DOUBLE PRECISION DEFAULT 0 NOT NULL,
    comparable_weight DOUBLE PRECISION DEFAULT 0 NOT NULL,
    comparable_weight_squared DOUBLE PRECISION DEFAULT 0 NOT NULL,
    agreed_weight DOUBLE PRECISION DEFAULT 0 NOT NULL,
    agreed_weight_squared DOUBLE PRECISION DEFAULT 0 NOT NULL,
    value_difference DOUBLE PRECISION DEFAULT 0 NOT NULL,
    value_difference_absolute DOUBLE PRECISION DEFAULT 0 NOT NULL,
    value_difference_squared DOUBLE PRECISION DEFAULT 0 NOT NULL,
    value_difference_weight DOUBLE PRECISION DEFAULT 0 NOT NULL,
    CONSTRAINT rollups_pkey PRIMARY KEY (deployment_id, hour, stratum),
    CONSTRAINT rollups_deployment_id_fkey FOREIGN KEY(deployment_id) REFERENCES gnomon.deployments (deployment_id)
);

COMMENT ON TABLE gnomon.rollups IS 'Counts and weighted sums by hour of event time (dead letters and orphans: of the window) and stratum, written with the pairs they sum. x_weight = sum of w over x, x_weight_squared = sum of w squared; the value differences are weighted sums over the rows with two finite values, whose weight is value_difference_weight.';

CREATE TABLE gnomon.windows (
    deployment_id INTEGER NOT NULL,
    source_partition INTEGER NOT NULL,
    start_offset BIGINT NOT NULL,
    end_offset BIGINT NOT NULL,
    window_id UUID NOT NULL,
    tick_id UUID NOT NULL,
    first_captured_at TIMESTAMP WITH TIME ZONE,
    last_captured_at TIMESTAMP WITH TIME ZONE,
    opened_at TIMESTAMP WITH TIME ZONE NOT NULL,
    sealed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    close_reason TEXT NOT NULL,
    lag_s DOUBLE PRECISION NOT NULL,
    seed BIGINT NOT NULL,
    policy TEXT NOT NULL,
    gap_reason TEXT,
    gap_lost BIGINT DEFAULT 0 NOT NULL,
    cpu_us BIGINT,
    peak_rss_bytes BIGINT,
    gpu_us BIGINT,
    gpu_peak_bytes BIGINT,
    seen BIGINT NOT NULL,
    joined_seen BIGINT NOT NULL,
    joined_missing BIGINT DEFAULT 0 NOT NULL,
    shadow_offset BIGINT NOT NULL,
    applied_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT windows_pkey PRIMARY KEY (deployment_id, source_partition, start_offset),
    CONSTRAINT windows_range_check CHECK (end_offset >= start_offset),
    CONSTRAINT windows_deployment_id_fkey FOREIGN KEY(deployment_id) REFERENCES gnomon.deployments (deployment_id)
);

COMMENT ON TABLE gnomon.windows IS 'The ledger by window: [start_offset, end_offset) of one source partition. `seen` is the scorer''s claim, `joined_seen` what the joiner read there, `joined_missing` the claimed captures it could no longer read (expired); `shadow_offset` is where the seal stands in the shadow topic.';

INSERT INTO gnomon.partitioning DEFAULT VALUES;
