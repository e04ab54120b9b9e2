-- Do the values of a segment differ by more than noise? Cochran's (1954) Q = Σ (θ_i - mean)² / V_i over the values,
-- with the mean weighted by 1/V_i; without any difference it is χ² with (values - 1) degrees of freedom, only roughly
-- so with few clusters or days. Values without a variance are left out and counted. All keys are read at once, and of a
-- deployment with more than 50,000 pairs about 50,000 are read (docs/adr/0045).
create function report_v1.heterogeneity(stream text, deployment text default null, since timestamptz default null,
                                        until timestamptz default null, key text default null,
                                        horizon interval default '1 day', time_zone text default 'UTC',
                                        exact boolean default null)
    returns table (stream text, deployment text, role text, key text, metric text, side text, "values" bigint,
                   left_out bigint, lowest_value text, lowest float8, highest_value text, highest float8, q float8,
                   degrees integer, p float8, status text, read_share float8)
    language sql stable parallel safe as
$$
    with recent as materialized (
        select p.segments, p.live_model_version
        from gnomon_estimators.pairs_of(heterogeneity.stream, heterogeneity.deployment, heterogeneity.since, heterogeneity.until, null) p
        where heterogeneity.key is null order by p.event_time desc limit 10000
    ),
    keys as (
        select heterogeneity.key where heterogeneity.key is not null
        union
        select k.key from recent cross join lateral jsonb_object_keys(recent.segments) k(key)
        union
        select '@live_version' from recent having count(distinct live_model_version) > 1
    ),
    shares as materialized (
        select t.* from gnomon_estimators.shares(heterogeneity.stream, heterogeneity.deployment, heterogeneity.since,
                                                 heterogeneity.until, null, heterogeneity.exact,
                                                 gnomon_estimators.test_at_most()) t
    ),
    asked as materialized (select array_agg('segment:' || k.key order by k.key) as slices from keys k having count(*) > 0),
    said as materialized (
        select substr(e.slice, 9) as key, e.deployment, e.metric, e.side, e.value, e.estimate, e.standard_error
        from asked a
        cross join shares t
        cross join lateral gnomon_estimators.estimates(heterogeneity.stream, heterogeneity.deployment,
            heterogeneity.since, heterogeneity.until, null, a.slices, '{agreement,error,value_difference}', null,
            heterogeneity.time_zone, true, t.ids, t.shares) e
        where e.n > 0 and e.value is not null and e.side in ('pair', 'difference')
        union all
        select substr(e.slice, 9), d.deployment, e.metric, e.side, e.value, e.estimate, e.standard_error
        from asked a
        cross join shares t
        cross join lateral gnomon_estimators.scored(heterogeneity.stream, heterogeneity.deployment, heterogeneity.since,
            heterogeneity.until, null, heterogeneity.horizon, a.slices, heterogeneity.time_zone, t.ids, t.shares) e
        join gnomon_estimators.deployments d using (deployment_id)
        where e.n > 0 and e.value is not null and e.side = 'difference' and e.metric <> 'answered'
    ),
    means as (
        select key, deployment, metric, side, sum(estimate / standard_error ^ 2) / sum(1 / standard_error ^ 2) as mean
        from said where standard_error > 0 group by 1, 2, 3, 4
    ),
    tests as (
        select s.key, s.deployment, s.metric, s.side, count(*) filter (where s.standard_error > 0) as values,
               count(*) filter (where s.standard_error > 0) - 1 as degrees,
               count(*) filter (where s.standard_error is null or s.standard_error = 0) as left_out,
               (array_agg(s.value order by s.estimate))[1] as lowest_value, min(s.estimate) as lowest,
               (array_agg(s.value order by s.estimate desc nulls last))[1] as highest_value, max(s.estimate) as highest,
               sum(((s.estimate - m.mean) / nullif(s.standard_error, 0)) ^ 2) as q
        from said s left join means m using (key, deployment, metric, side)
        group by 1, 2, 3, 4
    )
    select c.stream, c.deployment, c.role, t.key, t.metric, t.side, coalesce(t.values, 0), t.left_out, t.lowest_value,
           t.lowest, t.highest_value, t.highest, case when t.degrees > 0 then t.q end, t.degrees::integer, p.p,
           coalesce(c.problem,
                    case when t.key is null then 'no segment in this period'
                         when t.degrees < 1 then 'fewer than two values with a standard error'
                         when p.p < 0.05 then 'the values differ'
                         else 'ok' end),
           case when t.key is not null then gnomon_estimators.share_of(c.deployment_id, r.ids, r.shares) end
    from gnomon_estimators.scope(heterogeneity.stream, heterogeneity.deployment) c
    cross join shares r
    left join tests t using (deployment)
    left join lateral (select gnomon_estimators.chi2_tail(t.q, t.degrees) as p) p on t.degrees > 0
    order by c.role, c.deployment, t.key, t.metric, t.side
$$;
