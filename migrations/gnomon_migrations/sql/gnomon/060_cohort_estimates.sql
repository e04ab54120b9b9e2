-- Compute and keep the quality of the newest sealed cohort of every deployment and horizon that is not kept yet; returns
-- how many. The lock keeps sealing, replay and erasure out while a cohort is read; each is computed from one snapshot.
create or replace function gnomon.keep_cohort_estimates() returns integer
    language plpgsql set search_path = pg_catalog, pg_temp as
$$
declare
    newest record;
    kept integer := 0;
begin
    for newest in
        select distinct on (c.deployment_id, c.horizon) c.cohort_id, c.horizon, d.stream_id, s.name as stream,
               d.name as deployment
        from gnomon.cohorts c
        join gnomon.deployments d using (deployment_id)
        join gnomon.streams s using (stream_id)
        order by c.deployment_id, c.horizon, c.until desc
    loop
        perform gnomon.lock_cohorts(newest.stream_id);
        continue when exists (select from gnomon.cohort_estimates e where e.cohort_id = newest.cohort_id);
        insert into gnomon.cohort_estimates (cohort_id, metric, side, n, n_effective, weight, clusters, days, estimate,
                                             se_row, se_cluster, se_day, standard_error, low, high, status)
        select newest.cohort_id, q.metric, q.side, q.n, q.n_effective, q.weight, q.clusters, q.days, q.estimate,
               q.se_row, q.se_cluster, q.se_day, q.standard_error, q.low, q.high, q.status
        from report_v1.scored(newest.stream, newest.deployment, null, null, null, newest.horizon, 'all', 'UTC') q
        where not exists (select from gnomon.cohorts c join gnomon.cohorts o using (deployment_id, horizon)
                          where o.cohort_id = newest.cohort_id and c.until > o.until);
        if found then
            kept := kept + 1;
        end if;
    end loop;
    return kept;
end
$$;

-- Forget what was kept of a stream's cohorts, because something of them was erased. Takes the lock of whoever keeps it.
create or replace function gnomon.forget_cohort_estimates(stream integer) returns void
    language sql set search_path = pg_catalog, pg_temp as
$$
    select gnomon.lock_cohorts(stream);
    delete from gnomon.cohort_estimates e using gnomon.cohorts c, gnomon.deployments d
    where c.cohort_id = e.cohort_id and d.deployment_id = c.deployment_id
      and d.stream_id = forget_cohort_estimates.stream
$$;
