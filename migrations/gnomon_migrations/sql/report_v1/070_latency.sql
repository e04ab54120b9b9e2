-- Weighted quantiles of latency, µs: q = min{x : F(x) >= p}, and the interval of F at p (share_interval, by cluster and
-- day) carried back through F (Woodruff 1952).
--
-- Only rows that the shadow scored one at a time (batch size 1, the probe of each window) say what a caller would have
-- waited. The probe is the lowest-ranked part of a window's sample, so each of its rows also stands for the others of
-- its window: its weight is multiplied by the window's pairs over the window's probe rows. measure: live, shadow,
-- difference (shadow less live, request by request), all over the same probe rows, and live_all over every pair.
-- Compare a challenger's shadow with the control's shadow: like with like.
--
-- Quantiles cannot be added up. Of everything (no period, no segment, UTC days), and more than a million pairs unless
-- exact is false, the answer is what is kept of all pairs before the end of the newest sealed cohort: kept_until.
create function report_v1.latency(stream text, deployment text default null, since timestamptz default null,
                                  until timestamptz default null, segment jsonb default null,
                                  time_zone text default 'UTC', exact boolean default null)
    returns table (stream text, deployment text, role text, measure text, quantile float8, n bigint,
                   n_effective float8, weight float8, microseconds float8, se_row float8, se_cluster float8,
                   se_day float8, standard_error float8, low float8, high float8, kept_until timestamptz,
                   status text)
    language sql stable parallel safe set work_mem = '128MB' set enable_sort = off set enable_incremental_sort = off as
$$
    with way as materialized (
        select k.kept, array(select c.deployment_id from report_v1.scope(latency.stream, latency.deployment) c
                             where c.deployment_id <> all (k.kept)) as computed
        from (select array(select distinct l.deployment_id from report_v1.cohort_latencies l
                           where l.deployment_id = any (report_v1.deployment_ids(latency.stream, latency.deployment))
                             and latency.since is null and latency.until is null and latency.time_zone = 'UTC'
                             and report_v1.takes_sums(latency.stream, latency.deployment, null, null, latency.segment,
                                                      latency.exact)) as kept) k
    ),
    -- Read some times rather than kept: of every pair only sums leave a scan, which workers can share (`offset`, as a
    -- text: otherwise the planner expects as many days as moments, too many for that).
    pairs as not materialized (
        select p.*
        from (select q.deployment_id, q.cluster, (q.event_time at time zone latency.time_zone)::date as day, q.weight,
                     q.window_id, latency.segment is null or q.segments @> latency.segment as asked,
                     q.live_latency_us, case when q.outcome = 'scored' then q.shadow_latency_us end as shadow_latency_us,
                     q.shadow_batch_size = 1 and q.shadow_latency_us is not null and q.outcome = 'scored' as probe
              from report_v1.pairs_of(latency.stream, latency.deployment, latency.since, latency.until, null) q
              offset '0') p
        where (select cardinality(computed) > 0 from way)
          and p.deployment_id = any ((select computed from way)::integer[])
    ),
    windows as (select window_id, count(*)::float8 / nullif(count(*) filter (where probe), 0) as factor
                from pairs group by window_id),
    probed as materialized (
        select p.deployment_id, p.cluster, p.day, m.measure, m.x, p.weight * v.factor as w
        from pairs p
        join windows v using (window_id)
        cross join lateral (values ('live', p.live_latency_us), ('shadow', p.shadow_latency_us),
                                   ('difference', p.shadow_latency_us - p.live_latency_us)) m(measure, x)
        where p.probe and p.asked and m.x is not null
    ),
    heights as materialized (
        select deployment_id, 'live_all' as measure, live_latency_us as x, count(*) as n, sum(weight) as w,
               sum(weight * weight) as w2
        from pairs where asked and live_latency_us is not null group by deployment_id, live_latency_us
        union all
        select deployment_id, measure, x, count(*), sum(w), sum(w * w) from probed group by deployment_id, measure, x
    ),
    totals as (select deployment_id, measure, sum(n)::bigint as n, sum(w) as weight, sum(w) ^ 2 / sum(w2) as kish
               from heights group by 1, 2),
    curve as materialized (
        select deployment_id, measure, x, sum(g.w) over (partition by deployment_id, measure order by x) / t.weight as f
        from heights g
        join totals t using (deployment_id, measure)
    ),
    points as materialized (
        select t.deployment_id, t.measure, q.at, q.p, t.n, t.weight, t.kish,
               (select min(c.x) from curve c where c.deployment_id = t.deployment_id and c.measure = t.measure
                                               and c.f >= q.p - 1e-12) as x
        from totals t cross join (values (1, 0.5::float8), (2, 0.95), (3, 0.99)) q(at, p)
    ),
    quantiles as materialized (
        select deployment_id, measure, min(x) filter (where at = 1) as x1, min(x) filter (where at = 2) as x2,
               min(x) filter (where at = 3) as x3
        from points group by 1, 2
    ),
    -- A residual is w (1[x <= q] - p) / W. A pair falls into one of four places between the three quantiles, and sums of w
    -- and w² by place are all that it takes.
    placed as not materialized (
        select p.deployment_id, 'live_all' as measure, p.cluster, p.day, p.weight as w,
               p.live_latency_us > q.x1 as over1, p.live_latency_us > q.x2 as over2, p.live_latency_us > q.x3 as over3
        from pairs p
        -- As arrays, which workers are handed; they see no other part of this statement.
        left join unnest(array(select deployment_id from quantiles where measure = 'live_all' order by deployment_id),
                    array(select x1 from quantiles where measure = 'live_all' order by deployment_id),
                    array(select x2 from quantiles where measure = 'live_all' order by deployment_id),
                    array(select x3 from quantiles where measure = 'live_all' order by deployment_id))
            q(deployment_id, x1, x2, x3) using (deployment_id)
        where p.asked and p.live_latency_us is not null
    ),
    placed_of_probe as not materialized (
        select p.deployment_id, p.measure, p.cluster, p.day, p.w,
               p.x > q.x1 as over1, p.x > q.x2 as over2, p.x > q.x3 as over3
        from probed p join quantiles q using (deployment_id, measure)
    ),
    sums as (
        select deployment_id, measure, cluster, null::date as day, true as by_cluster,
               over1::integer + over2::integer + over3::integer as place, count(*) as n, sum(w) as w,
               sum(w * w) as w2
        from placed group by deployment_id, measure, cluster, over1, over2, over3
        union all
        select deployment_id, measure, null, day, false, over1::integer + over2::integer + over3::integer,
               count(*), sum(w), sum(w * w)
        from placed group by deployment_id, measure, day, over1, over2, over3
        union all
        select deployment_id, measure, cluster, null, true, over1::integer + over2::integer + over3::integer,
               count(*), sum(w), sum(w * w)
        from placed_of_probe group by deployment_id, measure, cluster, over1, over2, over3
        union all
        select deployment_id, measure, null, day, false, over1::integer + over2::integer + over3::integer,
               count(*), sum(w), sum(w * w)
        from placed_of_probe group by deployment_id, measure, day, over1, over2, over3
    ),
    residuals as (
        select t.deployment_id, t.measure, t.p, s.cluster, s.by_cluster, sum(s.n) as n,
               sum(s.w * ((s.place < t.at)::integer - t.p)) / t.weight as total,
               sum(s.w2 * ((s.place < t.at)::integer - t.p) ^ 2) / t.weight ^ 2 as rows
        from sums s
        join points t using (deployment_id, measure)
        group by t.deployment_id, t.measure, t.p, t.weight, s.cluster, s.day, s.by_cluster
    ),
    variances as (
        select deployment_id, measure, p, sum(rows) filter (where not by_cluster) as v_row,
               sum(case when cluster is null then rows else total ^ 2 end) filter (where by_cluster) as v_cluster,
               case when count(*) filter (where not by_cluster) > 1
                    then sum(total ^ 2) filter (where not by_cluster) end as v_day,
               sum(case when cluster is null then n else 1 end) filter (where by_cluster) as clusters
        from residuals group by 1, 2, 3
    ),
    intervals as (
        select t.*, v.v_row, v.v_cluster, v.v_day, i.low, i.high
        from points t
        join variances v using (deployment_id, measure, p)
        cross join lateral report_v1.share_interval(t.p, v.v_cluster + coalesce(v.v_day, 0),
                                                    least(t.kish, v.clusters)::float8) i
    ),
    answered as (
        select i.*,
               (select min(c.x) from curve c where c.deployment_id = i.deployment_id and c.measure = i.measure
                                               and c.f >= i.low) as x_low,
               (select min(c.x) from curve c where c.deployment_id = i.deployment_id and c.measure = i.measure
                                               and c.f >= least(i.high, 1 - 1e-12)) as x_high
        from intervals i
    ),
    -- The standard errors are of the quantile, µs: from the width of the interval, scaled to each variance.
    measured as (
        select a.deployment_id, a.measure, a.p, a.n, a.kish, a.weight, a.x, e.width * sqrt(a.v_row / e.v) as se_row,
               e.width * sqrt(a.v_cluster / e.v) as se_cluster, e.width * sqrt(a.v_day / e.v) as se_day, e.width,
               a.x_low, a.x_high, null::timestamptz as kept_until
        from answered a
        cross join lateral (select (a.x_high - a.x_low) / (2 * 1.959964) as width,
                                   nullif(a.v_cluster + coalesce(a.v_day, 0), 0) as v) e
        union all
        select k.deployment_id, k.measure, k.quantile, k.n, k.n_effective, k.weight, k.microseconds, k.se_row,
               k.se_cluster, k.se_day, k.standard_error, k.low, k.high, k.until
        from report_v1.cohort_latencies k
        where k.deployment_id = any ((select kept from way)::integer[])
    )
    select c.stream, c.deployment, c.role, m.measure, a.p, coalesce(a.n, 0), a.kish, a.weight, a.x, a.se_row,
           a.se_cluster, a.se_day, a.width, a.x_low, a.x_high, a.kept_until,
           coalesce(c.problem,
                    case when a.n is null and m.measure = 'live_all' then 'no live latency in this period'
                         when a.n is null then 'no request scored one at a time in this period'
                         else 'ok' end)
    from report_v1.scope(latency.stream, latency.deployment) c
    cross join (values ('live_all'), ('live'), ('shadow'), ('difference')) m(measure)
    left join measured a on a.deployment_id = c.deployment_id and a.measure = m.measure
    order by c.role, c.deployment, array_position(array['live_all', 'live', 'shadow', 'difference'], m.measure), a.p
$$;
