-- Compute and store the quality of the newest sealed cohort of every deployment and horizon that is not stored yet,
-- and, for a deployment's newest cohort, agreement, errors and latency of all pairs before its end; returns the number
-- of cohorts. The lock excludes sealing, replay and erasure while a cohort is read; each is computed from one snapshot.
create or replace function gnomon.keep_cohort_estimates() returns integer
    language plpgsql set search_path = pg_catalog, pg_temp as
$$
declare
    newest record;
    kept integer := 0;
begin
    for newest in
        select distinct on (c.deployment_id, c.horizon) c.cohort_id, c.deployment_id, c.horizon, c.until, d.stream_id,
               s.name as stream, d.name as deployment
        from gnomon.cohorts c
        join gnomon.deployments d using (deployment_id)
        join gnomon.streams s using (stream_id)
        order by c.deployment_id, c.horizon, c.until desc
    loop
        perform gnomon.lock_cohorts(newest.stream_id);
        continue when exists (select from gnomon.cohort_estimates e where e.cohort_id = newest.cohort_id);
        insert into gnomon.cohort_estimates (cohort_id, report, metric, side, n, n_effective, weight, clusters, days,
                                             estimate, se_row, se_cluster, se_day, standard_error, low, high, status,
                                             se_period, period_low, period_high)
        select newest.cohort_id, 'quality', q.metric, q.side, q.n, q.n_effective, q.weight, q.clusters, q.days,
               q.estimate, q.se_row, q.se_cluster, q.se_day, q.standard_error, q.low, q.high, q.status,
               q.se_period, q.period_low, q.period_high
        from gnomon_estimators.scored(newest.stream, newest.deployment, null, null, null, newest.horizon, '{all}', 'UTC') q
        where not exists (select from gnomon.cohorts c join gnomon.cohorts o using (deployment_id, horizon)
                          where o.cohort_id = newest.cohort_id and c.until > o.until);
        continue when not found;
        kept := kept + 1;
        -- The shortest of several horizons has the newest cohort; computed once for all of them.
        continue when exists (
            select from gnomon.cohorts c
            where c.deployment_id = newest.deployment_id
              and (c.until > newest.until or c.until = newest.until and c.horizon < newest.horizon));
        insert into gnomon.cohort_estimates (cohort_id, report, metric, side, n, n_effective, weight, clusters, days,
                                             estimate, se_row, se_cluster, se_day, standard_error, low, high, status,
                                             se_period, period_low, period_high)
        select newest.cohort_id, case when e.metric in ('agreement', 'value_difference', 'absolute_difference')
                                      then 'agreement' else 'errors' end,
               e.metric, e.side, e.n, e.n_effective, e.weight, e.clusters, e.days, e.estimate, e.se_row, e.se_cluster,
               e.se_day, e.standard_error, e.low, e.high, e.status, e.se_period, e.period_low, e.period_high
        from gnomon_estimators.estimates(newest.stream, newest.deployment, null, newest.until, null, '{all}',
                                 '{agreement,value_difference,absolute_difference,error,timed_out,error_cells}') e
        where e.n > 0
        union all
        select newest.cohort_id, 'agreement', 'kappa', 'pair', k.n, null, null, null, null, k.kappa, k.se_row,
               k.se_cluster, k.se_day, k.standard_error, k.low, k.high, k.status, k.se_period, k.period_low, k.period_high
        from gnomon_estimators.kappa(newest.stream, newest.deployment, null, newest.until, exact => true) k;
        insert into gnomon.cohort_latencies (cohort_id, measure, quantile, n, n_effective, weight, microseconds, se_row,
                                             se_cluster, se_day, standard_error, low, high, se_period, period_low,
                                             period_high)
        select newest.cohort_id, l.measure, l.quantile, l.n, l.n_effective, l.weight, l.microseconds, l.se_row,
               l.se_cluster, l.se_day, l.standard_error, l.low, l.high, l.se_period, l.period_low, l.period_high
        from gnomon_estimators.latency_of(newest.stream, newest.deployment, null, newest.until, null, 'UTC', true) l
        where l.n > 0;
    end loop;
    return kept;
end
$$;

-- Delete the stored results of a stream's cohorts after an erasure, under the lock with which they are written.
create or replace function gnomon.forget_cohort_estimates(stream integer) returns void
    language sql set search_path = pg_catalog, pg_temp as
$$
    select gnomon.lock_cohorts(stream);
    delete from gnomon.cohort_estimates e using gnomon.cohorts c, gnomon.deployments d
    where c.cohort_id = e.cohort_id and d.deployment_id = c.deployment_id
      and d.stream_id = forget_cohort_estimates.stream;
    delete from gnomon.cohort_latencies e using gnomon.cohorts c, gnomon.deployments d
    where c.cohort_id = e.cohort_id and d.deployment_id = c.deployment_id
      and d.stream_id = forget_cohort_estimates.stream
$$;

-- Delete results of earlier SQL if they can be computed again. The results of a deployment whose pairs have expired
-- since are kept, because they cannot.
create or replace function gnomon.forget_computed_estimates() returns void
    language sql set search_path = pg_catalog, pg_temp as
$$
    delete from gnomon.cohort_estimates e using gnomon.cohorts c
    where c.cohort_id = e.cohort_id
      and not exists (select from gnomon.cells k where k.deployment_id = c.deployment_id and k.expired > 0);
    delete from gnomon.cohort_latencies e using gnomon.cohorts c
    where c.cohort_id = e.cohort_id
      and not exists (select from gnomon.cells k where k.deployment_id = c.deployment_id and k.expired > 0)
$$;
