-- The public views of plans, verdicts and promotions.

create view report_v1.plans as
select d.stream, d.deployment, p.plan_id, p.deployment_id, p.sha256, p.process, p.plan, p.evidence_from, p.recorded_at
from gnomon.plans p join report_v1.deployments d using (deployment_id);

comment on view report_v1.plans is 'The plans of every deployment''s verdict; the newest is valid.';

create view report_v1.verdicts as
select d.stream, d.deployment, v.verdict_id, v.deployment_id, v.plan_id, v.cohort_id, v.as_of, v.decision, v.sentence,
       v.days, v.look, v.verdict, v.evidence, v.evidence_sha256, v.decided_by, v.decided_at
from gnomon.verdicts v join report_v1.deployments d using (deployment_id);

comment on view report_v1.verdicts is 'Every verdict with its evidence; append-only.';

create view report_v1.promotions as
select d.stream, d.deployment, p.promotion_id, p.stream_id, p.deployment_id, p.verdict_id, p.undoes, p.override,
       p.way_back, p.former, p.promoted, p.decided_by, p.decided_at
from gnomon.promotions p join report_v1.deployments d using (deployment_id);

comment on view report_v1.promotions is 'Promotions and their rollbacks; append-only.';
