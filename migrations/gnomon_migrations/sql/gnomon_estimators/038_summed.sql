-- Long periods at once: from the hourly rollups, and from the stored results of sealed cohorts.

-- The stored results of the newest sealed cohort of each deployment and horizon (`gnomon db maintain` computes them).
create view gnomon_estimators.cohort_estimates as
select c.deployment_id, c.horizon, c.until, e.report, e.metric, e.side, e.n, e.n_effective, e.weight, e.clusters,
       e.days, e.estimate, e.se_row, e.se_cluster, e.se_day, e.standard_error, e.low, e.high, e.status, e.computed_at,
       e.se_period, e.period_low, e.period_high
from gnomon.cohort_estimates e
join gnomon.cohorts c using (cohort_id)
where not exists (select from gnomon.cohorts n
                  where n.deployment_id = c.deployment_id and n.horizon = c.horizon and n.until > c.until);

create view gnomon_estimators.cohort_latencies as
select distinct on (c.deployment_id, l.measure, l.quantile) c.deployment_id, c.until, l.measure, l.quantile, l.n,
       l.n_effective, l.weight, l.microseconds, l.se_row, l.se_cluster, l.se_day, l.standard_error, l.low, l.high,
       l.computed_at, l.se_period, l.period_low, l.period_high
from gnomon.cohort_latencies l
join gnomon.cohorts c using (cohort_id)
order by c.deployment_id, l.measure, l.quantile, c.until desc;

-- Whether existing sums can answer a question: exact numbers are not requested, it covers all segments and whole hours
-- (UTC), and it covers more than a million pairs or explicitly requests inexact numbers.
create function gnomon_estimators.takes_sums(stream text, deployment text, since timestamptz, until timestamptz, segment jsonb,
                                     exact boolean)
    returns boolean language sql stable parallel safe as
$$
    select takes_sums.exact is not true and coalesce(takes_sums.segment, '{}') = '{}'
           and coalesce(date_trunc('hour', takes_sums.since, 'UTC') = takes_sums.since, true)
           and coalesce(date_trunc('hour', takes_sums.until, 'UTC') = takes_sums.until, true)
           and (takes_sums.exact is false
                or coalesce((select sum(r.sampled) > 1000000 from gnomon_estimators.rollups r
                             where r.deployment_id = any (gnomon_estimators.deployment_ids(takes_sums.stream,
                                                                                   takes_sums.deployment))
                               and r.hour >= coalesce(takes_sums.since, '-infinity')
                               and r.hour < coalesce(takes_sums.until, 'infinity')), false))
$$;

-- The shares (`thinned`) if only a part is wanted and existing sums cannot answer; otherwise none.
create function gnomon_estimators.shares_if(drawn boolean, stream text, deployment text, since timestamptz,
                                            until timestamptz, segment jsonb, exact boolean)
    returns table (ids integer[], shares float8[])
    language sql stable parallel safe rows 1 as -- planner note 9
$$
    select t.* from gnomon_estimators.shares(
        shares_if.stream, shares_if.deployment, shares_if.since, shares_if.until, shares_if.segment,
        shares_if.drawn is not true or shares_if.exact is true
        or gnomon_estimators.takes_sums(shares_if.stream, shares_if.deployment, shares_if.since, shares_if.until,
                                        shares_if.segment, shares_if.exact)) t
$$;

-- The design effect of each metric and side from the newest stored cohort: the variance by cluster divided by the
-- variance by row, never below 1. If no row differed from another, it is the effect of clusters whose rows are all
-- equal: the number of rows in a cluster.
create view gnomon_estimators.cluster_effects as
select distinct on (deployment_id, metric, side) deployment_id, until, metric, side, n, clusters,
       greatest(coalesce((se_cluster / nullif(se_row, 0)) ^ 2, n / nullif(clusters, 0)::float8), 1) as effect
from gnomon_estimators.cohort_estimates
where report <> 'quality'
order by deployment_id, metric, side, until desc;

-- The variance by cluster of a metric whose variance by row is known, from the design effect over `kept` pairs.
-- Additional pairs (n) may belong to the same clusters, so the effect grows with them: too wide rather than too narrow.
create function gnomon_estimators.by_cluster(v_row float8, effect float8, n bigint, kept bigint) returns float8
    language sql immutable parallel safe as
$$
    select v_row * (1 + (effect - 1) * greatest(n / nullif(kept, 0)::float8, 1))
$$;

-- Σ w² (y - R)² / W² from the sums of w², w² y and w² y². A tiny remainder of numbers that large is rounding, and
-- counts as 0.
create function gnomon_estimators.row_variance(w2 float8, y2 float8, yy2 float8, estimate float8, weight float8) returns float8
    language sql immutable parallel safe as
$$
    select case when v > 1e-12 * yy2 then v / weight ^ 2 else 0 end
    from (select yy2 - 2 * estimate * y2 + estimate ^ 2 * w2 as v) left_over
$$;

-- The numbers of `measured`, below, from the rollups, without reading a pair, for the families agreement, error,
-- timed_out, error_cells, value_difference and absolute_difference: the residuals w (y - R) need only sums of w and w y
-- by day, the variance by row only sums of w² y and w² y². An hour belongs to the local day in which it begins. The
-- rollups have no clusters; v_cluster is estimated from a stored cohort.
create function gnomon_estimators.summed(stream text, deployment text, since timestamptz, until timestamptz,
                                         metrics text[], time_zone text)
    returns table (deployment_id integer, value text, code integer, n bigint, weight float8, kish float8[],
                   clusters bigint[], days bigint[], cells bigint, live float8, shadow float8, v_row float8[],
                   v_cluster float8[], v_day float8[], v_both float8[], v_period float8[], kept_until timestamptz)
    language sql stable parallel safe as
$$
    with groups as (
        select r.deployment_id, (r.hour at time zone summed.time_zone)::date as day,
               sum(r.comparable) as comparable, sum(r.scored + r.failed + r.timed_out) as pairs, sum(r.valued) as valued,
               sum(r.comparable_weight) as c, sum(r.comparable_weight_squared) as c2, sum(r.agreed_weight) as a,
               sum(r.agreed_weight_squared) as a2, sum(r.weight) as w, sum(r.weight_squared) as w2,
               sum(r.live_failed_weight) as l, sum(r.live_failed_weight_squared) as l2,
               sum(r.failed_weight + r.timed_out_weight) as f,
               sum(r.failed_weight_squared + r.timed_out_weight_squared) as f2, sum(r.timed_out_weight) as t,
               sum(r.timed_out_weight_squared) as t2, sum(r.both_failed_weight) as b,
               sum(r.both_failed_weight_squared) as b2, sum(r.value_difference_weight) as v,
               sum(r.squared_weight_value_difference_weight) as v2, sum(r.value_difference) as d,
               sum(r.squared_weight_value_difference) as d2, sum(r.value_difference_absolute) as e,
               sum(r.squared_weight_value_difference_absolute) as e2,
               sum(r.squared_weight_value_difference_squared) as dd2
        from gnomon_estimators.rollups r
        where r.deployment_id = any (gnomon_estimators.deployment_ids(summed.stream, summed.deployment))
          and r.hour >= coalesce(summed.since, '-infinity') and r.hour < coalesce(summed.until, 'infinity')
        group by 1, 2
    ),
    -- For each metric: w, w²; live's w y, w² y; shadow's w y, w² y, w² y²; w² and w of both together. Live's y is 0 or
    -- 1. Differences are taken between sums over the same rows first, so that equal sums give exactly 0.
    terms as materialized (
        select g.deployment_id, m.metric, x.*
        from groups g
        cross join lateral (values
            (1, comparable, c, c2, 0, 0, a, a2, a2, 0, 0),
            (2, pairs, w, w2, l, l2, f, f2, f2, b2, b),
            (3, pairs, w, w2, 0, 0, t, t2, t2, 0, 0),
            (4, pairs, w, w2, 0, 0, (w - f) - (l - b), (w2 - f2) - (l2 - b2), (w2 - f2) - (l2 - b2), 0, 0),
            (5, pairs, w, w2, 0, 0, l - b, l2 - b2, l2 - b2, 0, 0),
            (6, pairs, w, w2, 0, 0, f - b, f2 - b2, f2 - b2, 0, 0),
            (7, pairs, w, w2, 0, 0, b, b2, b2, 0, 0),
            (9, valued, v, v2, 0, 0, e, e2, dd2, 0, 0),
            (19, valued, v, v2, 0, 0, d, d2, dd2, 0, 0)
        ) x(code, n, w, w2, l, l2, s, s2, ss2, ls2, ls)
        join gnomon_estimators.metrics m on m.code = x.code and m.family = any (summed.metrics)
        where x.n > 0
    ),
    totals as (
        select t.deployment_id, t.code, sum(t.n)::bigint as n, nullif(sum(t.w), 0) as w, sum(t.w2) as w2,
               sum(t.l) / nullif(sum(t.w), 0) as live, sum(t.s) / nullif(sum(t.w), 0) as shadow
        from terms t group by 1, 2
    ),
    variances as (
        select t.deployment_id, t.code, t.metric, count(*) as days,
               array[sum(r.live ^ 2), sum(r.shadow ^ 2), sum((r.shadow - r.live) ^ 2)] as by_day,
               array[sum(v.live), sum(v.shadow), sum(v.difference)] as by_row,
               -- The variance of drawing alone, each row by itself: w (w - 1) in place of w². Cells are centred by the
               -- overall mean, so it is rather too large. Shares only: for their values, which are 0 or 1, sums of w y²
               -- are stored.
               case when t.code not in (9, 19) then array[sum(p.live), sum(p.shadow), sum(p.difference)] end as by_drawing
        from terms t
        join totals o using (deployment_id, code)
        cross join lateral (select (t.l - o.live * t.w) / o.w as live, (t.s - o.shadow * t.w) / o.w as shadow) r
        cross join lateral (
            select gnomon_estimators.row_variance(t.w2, t.l2, t.l2, o.live, o.w) as live,
                   gnomon_estimators.row_variance(t.w2, t.s2, t.ss2, o.shadow, o.w) as shadow,
                   gnomon_estimators.row_variance(t.w2, t.s2 - t.l2, t.ss2 - 2 * t.ls2 + t.l2, o.shadow - o.live, o.w)
                       as difference) v
        cross join lateral (
            select gnomon_estimators.row_variance(t.w2 - t.w, t.l2 - t.l, t.l2 - t.l, o.live, o.w) as live,
                   gnomon_estimators.row_variance(t.w2 - t.w, t.s2 - t.s, t.s2 - t.s, o.shadow, o.w) as shadow,
                   gnomon_estimators.row_variance(t.w2 - t.w, (t.s2 - t.s) - (t.l2 - t.l),
                                                  (t.s2 - t.s) - 2 * (t.ls2 - t.ls) + (t.l2 - t.l),
                                                  o.shadow - o.live, o.w) as difference) p
        group by 1, 2, 3
    )
    select o.deployment_id, '', o.code, o.n, o.w, array[o.w ^ 2 / nullif(o.w2, 0), o.w ^ 2 / nullif(o.w2, 0)],
           array_fill(k.clusters, array[4]), array_fill(v.days, array[4]), null::bigint, o.live, o.shadow, v.by_row,
           array[gnomon_estimators.by_cluster(v.by_row[1], k.live, o.n, k.n),
                 gnomon_estimators.by_cluster(v.by_row[2], k.shadow, o.n, k.n),
                 gnomon_estimators.by_cluster(v.by_row[3], k.difference, o.n, k.n)],
           v.by_day, null::float8[], v.by_drawing, k.until
    from totals o
    join variances v using (deployment_id, code)
    left join lateral (
        select max(e.n) as n, max(e.clusters) as clusters, max(e.until) as until,
               max(e.effect) filter (where e.side = 'live') as live,
               max(e.effect) filter (where e.side in ('shadow', 'pair')) as shadow,
               max(e.effect) filter (where e.side = 'difference') as difference
        from gnomon_estimators.cluster_effects e
        where e.deployment_id = o.deployment_id and e.metric = v.metric) k on true
$$;

-- Whether `summed` has every one of these families.
create function gnomon_estimators.summable(metrics text[]) returns boolean language sql immutable parallel safe as
$$
    select summable.metrics <@ '{agreement,error,timed_out,error_cells,value_difference,absolute_difference}'::text[]
$$;
