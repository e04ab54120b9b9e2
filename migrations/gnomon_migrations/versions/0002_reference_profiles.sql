-- Frozen profiles of features and answers. Frozen: later changes are new files.

CREATE TABLE gnomon.reference_profiles (
    stream_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    deployment TEXT DEFAULT '' NOT NULL,
    feature TEXT NOT NULL,
    kind TEXT NOT NULL,
    n BIGINT NOT NULL,
    n_effective DOUBLE PRECISION NOT NULL,
    null_share DOUBLE PRECISION NOT NULL,
    nan_share DOUBLE PRECISION NOT NULL,
    edges DOUBLE PRECISION[] DEFAULT '{}' NOT NULL,
    categories TEXT[] DEFAULT '{}' NOT NULL,
    complete BOOLEAN DEFAULT true NOT NULL,
    shares DOUBLE PRECISION[] NOT NULL,
    points DOUBLE PRECISION[] DEFAULT '{}' NOT NULL,
    masses DOUBLE PRECISION[] DEFAULT '{}' NOT NULL,
    source TEXT NOT NULL,
    built_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT reference_profiles_pkey PRIMARY KEY (stream_id, name, deployment, feature, kind),
    CONSTRAINT reference_profiles_kind_check CHECK (kind in ('numeric', 'text')),
    CONSTRAINT reference_profiles_stream_id_fkey FOREIGN KEY(stream_id) REFERENCES gnomon.streams (stream_id)
);

COMMENT ON TABLE gnomon.reference_profiles IS 'Frozen profiles that drift is measured against, one row a feature (or an answer: @live.value, @live.label, @shadow.value, @shadow.label of a deployment). shares: of what is neither null nor NaN, by bin: numeric bins are cut at edges (the edge belongs to the bin above), text bins are categories and then the rest; complete: there was no rest. points and masses: the numeric distribution itself.';
