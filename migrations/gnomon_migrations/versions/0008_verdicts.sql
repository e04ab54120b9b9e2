-- Plans, verdicts, promotions and the outbox of their events. Frozen: later changes are new files.

CREATE TABLE gnomon.plans (
    plan_id BIGINT GENERATED ALWAYS AS IDENTITY,
    deployment_id INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    process TEXT NOT NULL,
    plan JSONB NOT NULL,
    evidence_from TIMESTAMP WITH TIME ZONE,
    recorded_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT plans_pkey PRIMARY KEY (plan_id),
    CONSTRAINT plans_deployment_id_fkey FOREIGN KEY(deployment_id) REFERENCES gnomon.deployments (deployment_id)
);

COMMENT ON TABLE gnomon.plans IS 'Every plan of a deployment''s verdict, the newest of which holds. process: SHA-256 of all but the way back; another one starts a new process. evidence_from: what had been joined when it was recorded does not count; null: nothing had.';

CREATE TABLE gnomon.verdicts (
    verdict_id BIGINT GENERATED ALWAYS AS IDENTITY,
    deployment_id INTEGER NOT NULL,
    plan_id BIGINT NOT NULL,
    cohort_id BIGINT,
    as_of TIMESTAMP WITH TIME ZONE NOT NULL,
    decision TEXT NOT NULL,
    sentence TEXT NOT NULL,
    days INTEGER NOT NULL,
    look INTEGER NOT NULL,
    verdict JSONB NOT NULL,
    evidence JSONB NOT NULL,
    evidence_sha256 TEXT NOT NULL,
    decided_by TEXT NOT NULL,
    decided_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT verdicts_pkey PRIMARY KEY (verdict_id),
    CONSTRAINT verdicts_decision_check CHECK (decision in ('PROMOTE', 'ROLLBACK', 'HOLD', 'REJECT', 'INSUFFICIENT_DATA')),
    CONSTRAINT verdicts_deployment_id_fkey FOREIGN KEY(deployment_id) REFERENCES gnomon.deployments (deployment_id),
    CONSTRAINT verdicts_plan_id_fkey FOREIGN KEY(plan_id) REFERENCES gnomon.plans (plan_id)
);

COMMENT ON TABLE gnomon.verdicts IS 'Append-only: what was decided, with the evidence from which anyone can decide it again.';

CREATE TABLE gnomon.promotions (
    promotion_id BIGINT GENERATED ALWAYS AS IDENTITY,
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
    CONSTRAINT promotions_pkey PRIMARY KEY (promotion_id),
    CONSTRAINT promotions_stream_id_fkey FOREIGN KEY(stream_id) REFERENCES gnomon.streams (stream_id),
    CONSTRAINT promotions_deployment_id_fkey FOREIGN KEY(deployment_id) REFERENCES gnomon.deployments (deployment_id),
    CONSTRAINT promotions_verdict_id_fkey FOREIGN KEY(verdict_id) REFERENCES gnomon.verdicts (verdict_id),
    CONSTRAINT promotions_undoes_fkey FOREIGN KEY(undoes) REFERENCES gnomon.promotions (promotion_id),
    CONSTRAINT promotions_undoes_key UNIQUE (undoes)
);

COMMENT ON TABLE gnomon.promotions IS 'Append-only: promotions and their rollbacks (undoes), with the model before and after and how it was done.';

CREATE TABLE gnomon.events (
    event_id UUID NOT NULL,
    deployment_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    data JSONB NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    delivered_at TIMESTAMP WITH TIME ZONE,
    attempts INTEGER DEFAULT 0 NOT NULL,
    problem TEXT,
    CONSTRAINT events_pkey PRIMARY KEY (event_id),
    CONSTRAINT events_deployment_id_fkey FOREIGN KEY(deployment_id) REFERENCES gnomon.deployments (deployment_id)
);

COMMENT ON TABLE gnomon.events IS 'The outbox of CloudEvents: written with what they tell of, delivered at least once.';

CREATE FUNCTION gnomon.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS
$$
begin
    raise exception '% is append-only', tg_table_name;
end
$$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON gnomon.verdicts FOR EACH ROW EXECUTE FUNCTION gnomon.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON gnomon.promotions FOR EACH ROW EXECUTE FUNCTION gnomon.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON gnomon.plans FOR EACH ROW EXECUTE FUNCTION gnomon.refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON gnomon.verdicts EXECUTE FUNCTION gnomon.refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON gnomon.promotions EXECUTE FUNCTION gnomon.refuse_change();
