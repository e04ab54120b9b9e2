-- What a promotion is about to do, written before it acts. Frozen: later changes are new files.

CREATE TABLE gnomon.promotion_intents (
    promotion_id BIGINT NOT NULL,
    stream_id INTEGER NOT NULL,
    deployment_id INTEGER NOT NULL,
    verdict_id BIGINT,
    undoes BIGINT,
    override TEXT,
    way_back JSONB NOT NULL,
    former JSONB NOT NULL,
    promoted JSONB NOT NULL,
    decided_by TEXT NOT NULL,
    decided_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    outcome TEXT,
    resolved_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT promotion_intents_pkey PRIMARY KEY (promotion_id),
    CONSTRAINT promotion_intents_outcome_check CHECK (outcome in ('done', 'undone')),
    CONSTRAINT promotion_intents_resolved_check CHECK ((outcome is null) = (resolved_at is null)),
    CONSTRAINT promotion_intents_stream_id_fkey FOREIGN KEY(stream_id) REFERENCES gnomon.streams (stream_id),
    CONSTRAINT promotion_intents_deployment_id_fkey FOREIGN KEY(deployment_id) REFERENCES gnomon.deployments (deployment_id),
    CONSTRAINT promotion_intents_verdict_id_fkey FOREIGN KEY(verdict_id) REFERENCES gnomon.verdicts (verdict_id),
    CONSTRAINT promotion_intents_undoes_fkey FOREIGN KEY(undoes) REFERENCES gnomon.promotions (promotion_id)
);

CREATE UNIQUE INDEX promotion_intents_open ON gnomon.promotion_intents (stream_id) WHERE (outcome is null);

COMMENT ON TABLE gnomon.promotion_intents IS 'What a promotion or rollback is about to do, committed before it acts, under the number that it will have. outcome: done (it stands in promotions), undone (the switch is where it was), null: it is under way, or was cut off; at most one such row a stream.';
