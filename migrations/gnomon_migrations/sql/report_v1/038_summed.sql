-- Long periods in a moment: from the hourly rollups, and from what is kept of sealed cohorts.

-- What is kept of the newest sealed cohort of each deployment and horizon (`gnomon db maintain` computes it).
create view report_v1.cohort_estimates as
select c.deployment_id, c.horizon, c.until, e.report, e.metric, e.side, e.n, e.n_effective, e.weight, e.clusters,
       e.days, e.estimate, e.se_row, e.se_cluster, e.se_day, e.standard_error, e.low, e.high, e.status, e.computed_at
from gnomon.cohort_estimates e
join gnomon.cohorts c using (cohort_id)
where not exists (select from gnomon.cohorts n
                  where n.deployment_id = c.deployment_id and n.horizon = c.horizon and n.until > c.until);

comment on view report_v1.cohort_estimates is 'Quality, agreement and errors of the newest sealed cohorts, computed once.';

create view report_v1.cohort_latencies as
select distinct on (c.deployment_id, l.measure, l.quantile) c.deployment_id, c.until, l.measure, l.quantile, l.n,
       l.n_effective, l.weight, l.microseconds, l.se_row, l.se_cluster, l.se_day, l.standard_error, l.low, l.high,
       l.computed_at
from gnomon.cohort_latencies l
join gnomon.cohorts c using (cohort_id)
order by c.deployment_id, l.measure, l.quantile, c.until desc;

comment on view report_v1.cohort_latencies is 'Latency before the end of the newest sealed cohorts, computed once.';

-- Whether a question is one for sums that are there already: not asked to be exact, over all segments and whole hours
-- (UTC), and over more than a million pairs unless asked not to be exact.
create function report_v1.takes_sums(stream text, deployment text, since timestamptz, until timestamptz, segment jsonb,
                                     exact boolean)
    returns boolean language sql stable parallel safe as
$$
    select takes_sums.exact is not true and coalesce(takes_sums.segment, '{}') = '{}'
           and coalesce(date_trunc('hour', takes_sums.since, 'UTC') = takes_sums.since, true)
           and coalesce(date_trunc('hour', takes_sums.until, 'UTC') = takes_sums.until, true)
           and (takes_sums.exact is false
                or coalesce((select sum(r.sampled) > 1000000 from report_v1.rollups r
                             where r.deployment_id = any (report_v1.deployment_ids(takes_sums.stream,
                                                                                   takes_sums.deployment))
                               and r.hour >= coalesce(takes_sums.since, '-infinity')
                               and r.hour < coalesce(takes_sums.until, 'infinity')), false))
$$;

-- What rows of a cluster share, as the newest kept cohort says it of each metric and side: the variance by cluster over
-- the variance by row (the design effect), never below 1. Where no row differed from another, it is what it would be
-- if clusters were of one mind: the rows in one of them.
create view report_v1.cluster_effects as
select distinct on (deployment_id, metric, side) deployment_id, until, metric, side, n, clusters,
       greatest(coalesce((se_cluster / nullif(se_row, 0)) ^ 2, n / nullif(clusters, 0)::float8), 1) as effect
from report_v1.cohort_estimates
where report <> 'quality'
order by deployment_id, metric, side, until desc;

-- The variance by cluster of a metric whose variance by row is known, from the design effect over `kept` pairs. More
-- pairs (n) may be more of the same clusters, so the effect grows with them: rather too wide than too narrow.
create function report_v1.by_cluster(v_row float8, effect float8, n bigint, kept bigint) returns float8
    language sql immutable parallel safe as
$$
    select v_row * (1 + (effect - 1) * greatest(n / nullif(kept, 0)::float8, 1))
$$;

-- Σ w² (y - R)² / W² out of sums of w², w² y and w² y².
create function report_v1.row_variance(w2 float8, y2 float8, yy2 float8, estimate float8, weight float8) returns float8
    language sql immutable parallel safe as
$$
    select greatest(yy2 - 2 * estimate * y2 + estimate ^ 2 * w2, 0) / weight ^ 2
$$;

-- The numbers of `measured`, below, without a row being looked at twice, for the families agreement, error, timed_out,
-- error_cells, value_difference and absolute_difference: sums of w and w y by day and by cluster are all that the
-- residuals w (y - R) need, and sums of w² y and w² y² all that the variance by row needs. rolled: the sums are those of
-- the rollups, which have days alone (an hour belongs to the local day in which it begins); otherwise the pairs are
-- added up, first those that failed and agreed alike.
create function report_v1.summed(stream text, deployment text, since timestamptz, until timestamptz, segment jsonb,
                                 slice text, metrics text[], time_zone text, rolled boolean)
    returns table (deployment_id integer, value text, code integer, n bigint, weight float8, kish float8,
                   clusters bigint, days bigint, live float8, shadow float8, v_row float8[], v_cluster float8[],
                   v_day float8[], kept_until timestamptz)
    language sql stable parallel safe set work_mem = '128MB' set enable_sort = off set enable_incremental_sort = off as
$$
    with said as not materialized (
        select q.deployment_id, q.cluster, (q.event_time at time zone summed.time_zone)::date as day,
               report_v1.slice_of(summed.slice, q.event_time, q.stratum, q.segments, summed.time_zone) as value,
               q.live_error_kind is not null as l, q.outcome <> 'scored' as f, q.outcome = 'timed_out' as t, q.agrees,
               q.weight as w, q.weight * q.weight as w2,
               case when q.live_error_kind is null and q.outcome = 'scored'
                         and q.live_value > '-infinity' and q.live_value < 'infinity'
                         and q.shadow_value > '-infinity' and q.shadow_value < 'infinity'
                    then q.shadow_value - q.live_value end as d
        from report_v1.pairs_of(summed.stream, summed.deployment, summed.since, summed.until, summed.segment) q
        where not summed.rolled offset '0' -- computed once; as a text, since the planner takes a number for a limit
    ),
    -- Read twice rather than by grouping sets, which workers cannot share and which would sort the pairs by cluster. All
    -- sums of a group at once: by more keys the planner would expect too many groups for workers to be worth it.
    groups as (
        select deployment_id, value, cluster, null::date as day, true as by_cluster,
               count(agrees) as comparable, count(*) as pairs, count(d) as valued,
               sum(w) filter (where agrees is not null) as c, sum(w2) filter (where agrees is not null) as c2,
               coalesce(sum(w) filter (where agrees), 0) as a, coalesce(sum(w2) filter (where agrees), 0) as a2,
               sum(w) as w, sum(w2) as w2, coalesce(sum(w) filter (where l), 0) as l,
               coalesce(sum(w2) filter (where l), 0) as l2, coalesce(sum(w) filter (where f), 0) as f,
               coalesce(sum(w2) filter (where f), 0) as f2, coalesce(sum(w) filter (where t), 0) as t,
               coalesce(sum(w2) filter (where t), 0) as t2, coalesce(sum(w) filter (where l and f), 0) as b,
               coalesce(sum(w2) filter (where l and f), 0) as b2, sum(w) filter (where d is not null) as v,
               sum(w2) filter (where d is not null) as v2, sum(w * d) as d, sum(w2 * d) as d2, sum(w * abs(d)) as e,
               sum(w2 * abs(d)) as e2, sum(w2 * d * d) as dd2
        from said group by deployment_id, value, cluster
        union all
        select deployment_id, value, null, day, false,
               count(agrees), count(*), count(d), sum(w) filter (where agrees is not null),
               sum(w2) filter (where agrees is not null), coalesce(sum(w) filter (where agrees), 0),
               coalesce(sum(w2) filter (where agrees), 0), sum(w), sum(w2), coalesce(sum(w) filter (where l), 0),
               coalesce(sum(w2) filter (where l), 0), coalesce(sum(w) filter (where f), 0),
               coalesce(sum(w2) filter (where f), 0), coalesce(sum(w) filter (where t), 0),
               coalesce(sum(w2) filter (where t), 0), coalesce(sum(w) filter (where l and f), 0),
               coalesce(sum(w2) filter (where l and f), 0), sum(w) filter (where d is not null),
               sum(w2) filter (where d is not null), sum(w * d), sum(w2 * d), sum(w * abs(d)), sum(w2 * abs(d)),
               sum(w2 * d * d)
        from said group by deployment_id, value, day
        union all
        select r.deployment_id, '', null, (r.hour at time zone summed.time_zone)::date, false,
               sum(r.comparable), sum(r.scored + r.failed + r.timed_out), sum(r.valued),
               sum(r.comparable_weight), sum(r.comparable_weight_squared), sum(r.agreed_weight),
               sum(r.agreed_weight_squared), sum(r.weight), sum(r.weight_squared), sum(r.live_failed_weight),
               sum(r.live_failed_weight_squared), sum(r.failed_weight + r.timed_out_weight),
               sum(r.failed_weight_squared + r.timed_out_weight_squared), sum(r.timed_out_weight),
               sum(r.timed_out_weight_squared), sum(r.both_failed_weight), sum(r.both_failed_weight_squared),
               sum(r.value_difference_weight), sum(r.squared_weight_value_difference_weight), sum(r.value_difference),
               sum(r.squared_weight_value_difference), sum(r.value_difference_absolute),
               sum(r.squared_weight_value_difference_absolute), sum(r.squared_weight_value_difference_squared)
        from report_v1.rollups r
        where summed.rolled and r.deployment_id = any (report_v1.deployment_ids(summed.stream, summed.deployment))
          and r.hour >= coalesce(summed.since, '-infinity') and r.hour < coalesce(summed.until, 'infinity')
        group by 1, 4
    ),
    -- Of each metric: w, w²; live's w y, w² y; shadow's w y, w² y, w² y²; w² of both together. Live's y is 0 or 1.
    -- Differences are taken between sums over the same rows first, which then is exactly 0.
    terms as materialized (
        select g.deployment_id, g.value, g.by_cluster, g.by_cluster and g.cluster is null as alone, m.metric, x.*
        from groups g
        cross join lateral (values
            (1, comparable, c, c2, 0, 0, a, a2, a2, 0),
            (2, pairs, w, w2, l, l2, f, f2, f2, b2),
            (3, pairs, w, w2, 0, 0, t, t2, t2, 0),
            (4, pairs, w, w2, 0, 0, (w - f) - (l - b), (w2 - f2) - (l2 - b2), (w2 - f2) - (l2 - b2), 0),
            (5, pairs, w, w2, 0, 0, l - b, l2 - b2, l2 - b2, 0),
            (6, pairs, w, w2, 0, 0, f - b, f2 - b2, f2 - b2, 0),
            (7, pairs, w, w2, 0, 0, b, b2, b2, 0),
            (9, valued, v, v2, 0, 0, e, e2, dd2, 0),
            (19, valued, v, v2, 0, 0, d, d2, dd2, 0)
        ) x(code, n, w, w2, l, l2, s, s2, ss2, ls2)
        join report_v1.metrics m on m.code = x.code and m.family = any (summed.metrics)
        where x.n > 0
    ),
    totals as (
        select t.deployment_id, t.value, t.code, sum(t.n)::bigint as n, nullif(sum(t.w), 0) as w, sum(t.w2) as w2,
               sum(t.l) / nullif(sum(t.w), 0) as live, sum(t.s) / nullif(sum(t.w), 0) as shadow
        from terms t where not t.by_cluster group by 1, 2, 3
    ),
    variances as (
        select t.deployment_id, t.value, t.code, t.metric,
               count(*) filter (where not t.by_cluster) as days,
               sum(case when t.alone then t.n else 1 end) filter (where t.by_cluster)::bigint as clusters,
               array[sum(r.live ^ 2) filter (where not t.by_cluster), sum(r.shadow ^ 2) filter (where not t.by_cluster),
                     sum((r.shadow - r.live) ^ 2) filter (where not t.by_cluster)] as by_day,
               array[sum(v.live) filter (where not t.by_cluster), sum(v.shadow) filter (where not t.by_cluster),
                     sum(v.difference) filter (where not t.by_cluster)] as by_row,
               array[sum(case when t.alone then v.live else r.live ^ 2 end) filter (where t.by_cluster),
                     sum(case when t.alone then v.shadow else r.shadow ^ 2 end) filter (where t.by_cluster),
                     sum(case when t.alone then v.difference else (r.shadow - r.live) ^ 2 end)
                         filter (where t.by_cluster)] as by_cluster
        from terms t
        join totals o using (deployment_id, value, code)
        cross join lateral (select (t.l - o.live * t.w) / o.w as live, (t.s - o.shadow * t.w) / o.w as shadow) r
        cross join lateral (
            select report_v1.row_variance(t.w2, t.l2, t.l2, o.live, o.w) as live,
                   report_v1.row_variance(t.w2, t.s2, t.ss2, o.shadow, o.w) as shadow,
                   report_v1.row_variance(t.w2, t.s2 - t.l2, t.ss2 - 2 * t.ls2 + t.l2, o.shadow - o.live, o.w)
                       as difference) v
        group by 1, 2, 3, 4
    )
    select o.deployment_id, o.value, o.code, o.n, o.w, o.w ^ 2 / nullif(o.w2, 0), coalesce(v.clusters, k.clusters), v.days,
           o.live, o.shadow, v.by_row,
           case when not summed.rolled then v.by_cluster
                else array[report_v1.by_cluster(v.by_row[1], k.live, o.n, k.n),
                           report_v1.by_cluster(v.by_row[2], k.shadow, o.n, k.n),
                           report_v1.by_cluster(v.by_row[3], k.difference, o.n, k.n)] end,
           v.by_day, k.until
    from totals o
    join variances v using (deployment_id, value, code)
    left join lateral (
        select max(e.n) as n, max(e.clusters) as clusters, max(e.until) as until,
               max(e.effect) filter (where e.side = 'live') as live,
               max(e.effect) filter (where e.side in ('shadow', 'pair')) as shadow,
               max(e.effect) filter (where e.side = 'difference') as difference
        from report_v1.cluster_effects e
        where summed.rolled and e.deployment_id = o.deployment_id and e.metric = v.metric) k on true
$$;

-- Whether `summed` has every one of these families.
create function report_v1.summable(metrics text[]) returns boolean language sql immutable parallel safe as
$$
    select summable.metrics <@ '{agreement,error,timed_out,error_cells,value_difference,absolute_difference}'::text[]
$$;
