-- The ledger's own rows, by window and by cell; `at` places a window in time.
create view report_v1.windows as
select w.*, d.stream, d.deployment, d.role, coalesce(w.first_captured_at, w.opened_at) as at
from gnomon.windows w
join report_v1.deployments d using (deployment_id);

create view report_v1.cells as select k.* from gnomon.cells k;

create view report_v1.rollups as
select r.*, d.stream, d.deployment, d.role from gnomon.rollups r join report_v1.deployments d using (deployment_id);

comment on view report_v1.rollups is 'Counts and weighted sums by hour of event time and stratum.';

create view report_v1.rollup_labels as
select r.*, d.stream, d.deployment, d.role from gnomon.rollup_labels r join report_v1.deployments d using (deployment_id);

comment on view report_v1.rollup_labels is 'Live decision against shadow decision by hour of event time.';

-- Every run of a live service beside what was received of it. unclean: its last heartbeat did not say `closed`, so what
-- it still held is unknown.
create view report_v1.producer_runs as
select d.stream, d.deployment, d.role, p.deployment_id, p.producer_id, p.service, p.host, p.pid, p.started_at,
       p.reported_at, p.offered, p.delivered,
       (select sum(x.n::bigint) from jsonb_each_text(p.dropped) x(reason, n))::bigint as dropped, p.dropped as reasons,
       p.switched_off, p.received, p.repeated, p.missing, p.tail, p.first_captured_at, p.last_captured_at, p.closed
from gnomon.producers p
join report_v1.deployments d using (deployment_id);
