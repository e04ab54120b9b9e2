-- The ledger's own rows, by window and by cell; `at` is the time of a window.
create view gnomon_estimators.windows as
select w.*, d.stream, d.deployment, d.role, coalesce(w.first_captured_at, w.opened_at) as at
from gnomon.windows w
join gnomon_estimators.deployments d using (deployment_id);

create view gnomon_estimators.cells as select k.* from gnomon.cells k;

-- A cell (window, stratum) as one number, which is cheaper to sort than the two columns.
create function gnomon_estimators.cell_key(window_id uuid, stratum text) returns bigint
    language sql immutable parallel safe as
$$
    select uuid_hash_extended(window_id, 0) # hashtextextended(stratum, 0)
$$;

-- The number of sampled rows of each cell of some deployments, how many of them are in the latency probe, and the
-- probability that its partition was drawn (less than 1 only if the budget of a tick was below two rows a partition).
create function gnomon_estimators.cell_sizes(deployment_ids integer[])
    returns table (deployment_id integer, cell bigint, sampled bigint, draw float8, probed bigint)
    language sql stable parallel safe rows 10000 as -- planner note 9
$$
    select w.deployment_id, gnomon_estimators.cell_key(w.window_id, k.stratum), k.sampled, k.draw_probability, k.probed
    from gnomon_estimators.windows w
    join gnomon_estimators.cells k using (deployment_id, source_partition, start_offset)
    where w.deployment_id = any (cell_sizes.deployment_ids)
$$;

create view gnomon_estimators.rollups as
select r.*, d.stream, d.deployment, d.role from gnomon.rollups r join gnomon_estimators.deployments d using (deployment_id);

create view gnomon_estimators.rollup_labels as
select r.*, d.stream, d.deployment, d.role from gnomon.rollup_labels r join gnomon_estimators.deployments d using (deployment_id);

-- Every run of a live service, with what was received from it. unclean: its last heartbeat was not `closed`, so its
-- unsent captures are unknown.
create view gnomon_estimators.producer_runs as
select d.stream, d.deployment, d.role, p.deployment_id, p.producer_id, p.service, p.host, p.pid, p.started_at,
       p.reported_at, p.offered, p.delivered,
       (select sum(x.n::bigint) from jsonb_each_text(p.dropped) x(reason, n))::bigint as dropped, p.dropped as reasons,
       p.switched_off, p.received, p.repeated, p.missing, p.tail, p.first_captured_at, p.last_captured_at, p.closed
from gnomon.producers p
join gnomon_estimators.deployments d using (deployment_id);
