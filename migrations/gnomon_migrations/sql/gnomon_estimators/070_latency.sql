-- Weighted quantiles of latency, µs: q = min{x : F(x) >= p}, and the interval of F at p (share_interval, by cluster and
-- day) transformed back through F (Woodruff 1952).
--
-- Only rows that the shadow scored one at a time (batch size 1, the probe of each window) show how long a caller would
-- have waited. The probe takes the lowest ranks of each cell, so a capture is in it with a known probability, whose
-- inverse is the weight of its latency; windows of earlier versions have an approximate one, and the status reports it.
-- measure: live, shadow, difference (shadow minus live, request by request), all over the same probe rows, and live_all
-- over every pair. Compare a challenger's shadow with the control's shadow, which is measured in the same way.
--
-- Quantiles cannot be summed. For a question about everything (no period, no segment, UTC days), over more than a
-- million pairs or with exact false, the answer is the stored result of all pairs before the end of the newest sealed
-- cohort: kept_until. Otherwise, unless exact, live_all reads about `read_at_most` pairs of a deployment (`thinned`). The
-- probe, of which there are few, is always read whole.
create function gnomon_estimators.latency_of(stream text, deployment text, since timestamptz, until timestamptz,
                                             segment jsonb, time_zone text, exact boolean)
    returns table (of_stream text, of_deployment text, role text, measure text, quantile float8, n bigint,
                   n_effective float8, weight float8, microseconds float8, se_row float8, se_cluster float8,
                   se_day float8, standard_error float8, low float8, high float8, kept_until timestamptz,
                   status text, se_period float8, period_low float8, period_high float8, read_share float8)
    -- planner notes 4, 5, 6
    language plpgsql stable parallel safe set work_mem = '128MB' set enable_sort = off set enable_incremental_sort = off
    set enable_nestloop = off as
$$
declare
    kept integer[] := array(
        select distinct l.deployment_id from gnomon_estimators.cohort_latencies l
        where l.deployment_id = any (gnomon_estimators.deployment_ids(latency_of.stream, latency_of.deployment))
          and latency_of.since is null and latency_of.until is null and latency_of.time_zone = 'UTC'
          and gnomon_estimators.takes_sums(latency_of.stream, latency_of.deployment, null, null, latency_of.segment,
                                           latency_of.exact));
    computed integer[] := array(
        select c.deployment_id from gnomon_estimators.scope(latency_of.stream, latency_of.deployment) c
        where c.deployment_id <> all (kept));
    part record;
begin
    select t.ids, t.shares into part
    from gnomon_estimators.shares(latency_of.stream, latency_of.deployment, latency_of.since, latency_of.until,
                                  latency_of.segment, latency_of.exact is true or cardinality(computed) = 0) t;
    return query execute replace($sql$
    -- All pairs are read several times rather than stored: only sums of every pair leave a scan, which workers can share
    -- (`offset` is a text: otherwise the planner expects as many days as moments, too many for that). If only a
    -- share is read, it is stored.
    with pairs as {stored} ( -- planner note 7
        select p.*
        from (select q.deployment_id, q.cluster, (q.event_time at time zone $6)::date as day,
                     q.weight / r.share as weight, gnomon_estimators.within_share(q.request_id, r.share) as in_share,
                     1 / (q.capture_probability * q.probe_probability) as probe_weight, q.window_id, q.stratum,
                     q.inclusion_probability as pi, q.probe_probability,
                     gnomon_estimators.in_segment(q.segments, q.live_model_version, $5) as asked,
                     q.live_latency_us, case when q.outcome = 'scored' then q.shadow_latency_us end as shadow_latency_us,
                     q.probe_probability is not null and q.shadow_latency_us is not null and q.outcome = 'scored'
                         as probe
              from gnomon_estimators.pairs_of($1, $2, $3, $4, null) q
              cross join lateral (select gnomon_estimators.share_of(q.deployment_id, $9, $10) as share) r
              where cardinality($8) > 0 and q.deployment_id = any ($8)
                and (q.probe_probability is not null or gnomon_estimators.within_share(q.request_id, r.share))
              offset '0') p -- planner note 3
    ),
    approximate as (
        select distinct w.deployment_id from gnomon_estimators.windows w
        where w.probe_approximate and w.deployment_id = any ($8)
          and coalesce(w.first_captured_at, w.opened_at) < coalesce($4, 'infinity')
          and coalesce(w.last_captured_at, w.sealed_at) >= coalesce($3, '-infinity')
    ),
    probed as materialized (
        select p.deployment_id, p.cluster, p.day, m.measure, m.x, p.probe_weight as w, p.window_id, p.stratum,
               p.probe_probability as pi
        from pairs p
        cross join lateral (values ('live', p.live_latency_us), ('shadow', p.shadow_latency_us),
                                   ('difference', p.shadow_latency_us - p.live_latency_us)) m(measure, x)
        where p.probe and p.asked and m.x is not null
    ),
    heights as materialized (
        select deployment_id, 'live_all' as measure, live_latency_us as x, count(*) as n, sum(weight) as w,
               sum(weight * weight) as w2
        from pairs where asked and in_share and live_latency_us is not null group by deployment_id, live_latency_us
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
    -- Every reading of the curve is one join with it, so that it is scanned once, however many deployments.
    points as materialized (
        select t.deployment_id, t.measure, r.at, r.p, t.n, t.weight, t.kish, r.x
        from totals t
        join (select c.deployment_id, c.measure, q.at, q.p, min(c.x) filter (where c.f >= q.p - 1e-12) as x
              from curve c cross join (values (1, 0.5::float8), (2, 0.95), (3, 0.99)) q(at, p)
              group by c.deployment_id, c.measure, q.at, q.p) r using (deployment_id, measure)
    ),
    quantiles as materialized (
        select deployment_id, measure, min(x) filter (where at = 1) as x1, min(x) filter (where at = 2) as x2,
               min(x) filter (where at = 3) as x3
        from points group by 1, 2
    ),
    -- A residual is w (1[x <= q] - p) / W. A pair is in one of the four intervals between the three quantiles, so sums
    -- of w and w² by interval suffice.
    placed as not materialized ( -- planner note 7
        select p.deployment_id, 'live_all' as measure, p.cluster, p.day, p.weight as w, p.window_id, p.stratum, p.pi,
               p.live_latency_us > q.x1 as over1, p.live_latency_us > q.x2 as over2, p.live_latency_us > q.x3 as over3
        from pairs p
        -- As arrays, which are passed to workers; workers see no other part of this statement.
        -- planner note 8
        left join unnest(array(select deployment_id from quantiles where measure = 'live_all' order by deployment_id),
                    array(select x1 from quantiles where measure = 'live_all' order by deployment_id),
                    array(select x2 from quantiles where measure = 'live_all' order by deployment_id),
                    array(select x3 from quantiles where measure = 'live_all' order by deployment_id))
            q(deployment_id, x1, x2, x3) using (deployment_id)
        where p.asked and p.in_share and p.live_latency_us is not null
    ),
    placed_of_probe as not materialized ( -- planner note 7
        select p.deployment_id, p.measure, p.cluster, p.day, p.w, p.window_id, p.stratum, p.pi,
               p.x > q.x1 as over1, p.x > q.x2 as over2, p.x > q.x3 as over3
        from probed p join quantiles q using (deployment_id, measure)
    ),
    sums as (
        select deployment_id, measure, cluster, day, over1::integer + over2::integer + over3::integer as place,
               count(*) as n, sum(w) as w, sum(w * w) as w2
        from placed group by deployment_id, measure, cluster, day, over1, over2, over3
        union all
        select deployment_id, measure, cluster, day, over1::integer + over2::integer + over3::integer,
               count(*), sum(w), sum(w * w)
        from placed_of_probe group by deployment_id, measure, cluster, day, over1, over2, over3
    ),
    -- The residuals of the three quantiles side by side: a row for each quantile would be three times as many to group.
    residuals as materialized (
        select s.deployment_id, s.measure, s.cluster, s.day, sum(s.n) as n,
               sum(s.w * ((s.place < 1)::integer - 0.5::float8)) / t.weight as total1,
               sum(s.w * ((s.place < 2)::integer - 0.95::float8)) / t.weight as total2,
               sum(s.w * ((s.place < 3)::integer - 0.99::float8)) / t.weight as total3,
               sum(s.w2 * ((s.place < 1)::integer - 0.5::float8) ^ 2) / t.weight ^ 2 as rows1,
               sum(s.w2 * ((s.place < 2)::integer - 0.95::float8) ^ 2) / t.weight ^ 2 as rows2,
               sum(s.w2 * ((s.place < 3)::integer - 0.99::float8) ^ 2) / t.weight ^ 2 as rows3
        from sums s
        join totals t using (deployment_id, measure)
        group by s.deployment_id, s.measure, t.weight, s.cluster, s.day
    ),
    -- By cells of the ledger: sampling is the only error of a statement about the period itself. A row of the cell, or of
    -- its probe, that is not in the segment or has no latency has the residual 0.
    cells as (
        select deployment_id, measure, window_id, stratum, over1::integer + over2::integer + over3::integer as place,
               min(pi) as pi, count(*) as n, sum(w) as w, sum(w * w) as w2, sum(w * w * (pi - 1 / w)) as kept
        from placed group by deployment_id, measure, window_id, stratum, over1, over2, over3
        union all
        select deployment_id, measure, window_id, stratum, over1::integer + over2::integer + over3::integer,
               min(pi), count(*), sum(w), sum(w * w), sum(w * w * (pi - 1 / w))
        from placed_of_probe group by deployment_id, measure, window_id, stratum, over1, over2, over3
    ),
    cell_sums as (
        select t.deployment_id, t.measure, t.p, gnomon_estimators.cell_key(c.window_id, c.stratum) as cell,
               min(c.pi) as pi, sum(c.n)::bigint as n, sum(c.w * r.r) / t.weight as total,
               sum(c.w2 * r.r ^ 2) / t.weight ^ 2 as squares, sum(c.kept * r.r ^ 2) / t.weight ^ 2 as kept
        from cells c
        join points t using (deployment_id, measure)
        cross join lateral (select (c.place < t.at)::integer - t.p as r) r
        group by t.deployment_id, t.measure, t.p, t.weight, 4
    ),
    by_cell as (
        select d.deployment_id, d.measure, d.p,
               sum(gnomon_estimators.cell_variance(d.pi, l.draw, case d.measure when 'live_all' then l.sampled else l.probed end,
                                                   d.n, d.total, d.squares, d.kept)) as v
        from cell_sums d
        left join gnomon_estimators.cell_sizes($8) l
          on l.deployment_id = d.deployment_id and l.cell = d.cell
        group by 1, 2, 3
    ),
    by_both as (
        select deployment_id, measure, sum(case when cluster is null then n else 1 end)::bigint as cells,
               sum(rows1) as rows1, sum(rows2) as rows2, sum(rows3) as rows3,
               sum(case when cluster is null then rows1 else total1 * total1 end) as v1,
               sum(case when cluster is null then rows2 else total2 * total2 end) as v2,
               sum(case when cluster is null then rows3 else total3 * total3 end) as v3
        from residuals group by 1, 2
    ),
    by_cluster as (
        select deployment_id, measure, sum(case when cluster is null then n else 1 end)::bigint as clusters,
               sum(case when cluster is null then rows1 else total1 * total1 end) as v1,
               sum(case when cluster is null then rows2 else total2 * total2 end) as v2,
               sum(case when cluster is null then rows3 else total3 * total3 end) as v3
        from (select deployment_id, measure, cluster, sum(n) as n, sum(total1) as total1, sum(total2) as total2,
                     sum(total3) as total3, sum(rows1) as rows1, sum(rows2) as rows2, sum(rows3) as rows3
              from residuals group by 1, 2, 3) r
        group by 1, 2
    ),
    by_day as (
        select deployment_id, measure, count(*) as days, sum(total1 * total1) as v1, sum(total2 * total2) as v2,
               sum(total3 * total3) as v3
        from (select deployment_id, measure, day, sum(total1) as total1, sum(total2) as total2, sum(total3) as total3
              from residuals group by 1, 2, 3) r
        group by 1, 2
    ),
    intervals as (
        select t.*, s.se_row ^ 2 as v_row, s.se_cluster ^ 2 as v_cluster, s.se_day ^ 2 as v_day, c.clusters, d.days,
               s.variance, i.low, i.high,
               f.low as drawn_low, f.high as drawn_high, z.low as near_low, z.high as near_high,
               least(t.kish, c.clusters) as n_interval
        from points t
        join by_both b using (deployment_id, measure)
        join by_cluster c using (deployment_id, measure)
        join by_day d using (deployment_id, measure)
        cross join lateral (values (1, b.rows1, b.v1, c.v1, d.v1), (2, b.rows2, b.v2, c.v2, d.v2),
                                   (3, b.rows3, b.v3, c.v3, d.v3)) v(at, rows, crossed, cluster, day)
        cross join lateral gnomon_estimators.spread(v.rows, v.cluster, v.day, v.crossed, t.n, c.clusters, d.days, b.cells) s
        left join lateral gnomon_estimators.share_interval(t.p, s.variance, t.kish, s.t, c.clusters) i
            on s.variance is not null
        left join lateral gnomon_estimators.share_interval(t.p, s.variance, t.kish, null, c.clusters) z
            on s.variance is not null
        left join by_cell k using (deployment_id, measure, p)
        left join lateral gnomon_estimators.period_interval('share', t.p, k.v, t.kish, t.n, t.weight, 1) f on true
        where v.at = t.at
    ),
    -- An end is open (null) if the interval reaches the largest or the smallest observed value and these rows cannot
    -- show that the quantile is within: if all n rows are below a value, the share below it is 0.025^(1/n) at least.
    readings as (
        select i.deployment_id, i.measure, i.p, min(c.x) as lowest, max(c.x) as highest,
               min(c.x) filter (where c.f >= i.low) as low,
               min(c.x) filter (where c.f >= case when i.high < 1 - 1e-12 then i.high
                                                  when i.high is not null then 1 - 1e-12 end) as high,
               min(c.x) filter (where c.f >= i.near_low) as near_low,
               min(c.x) filter (where c.f >= i.near_high) as near_high,
               min(c.x) filter (where c.f >= i.drawn_low - 1e-12) as drawn_low,
               min(c.x) filter (where c.f >= i.drawn_high - 1e-12) as drawn_high
        from intervals i join curve c using (deployment_id, measure)
        group by i.deployment_id, i.measure, i.p
    ),
    answered as (
        select i.*, nullif(r.low, case when 1 - 0.025 ^ (1 / i.n_interval) > i.p then r.lowest end) as x_low,
               nullif(r.high, case when 0.025 ^ (1 / i.n_interval) < i.p then r.highest end) as x_high,
               nullif(r.near_low, case when 1 - 0.025 ^ (1 / i.n_interval) > i.p then r.lowest end) as near,
               nullif(r.near_high, case when 0.025 ^ (1 / i.n_interval) < i.p then r.highest end) as far,
               nullif(r.drawn_low, case when i.drawn_low < i.p and 1 - 0.025 ^ (1 / i.kish) > i.p then r.lowest end)
                   as period_low,
               nullif(r.drawn_high, case when i.drawn_high > i.p and 0.025 ^ (1 / i.kish) < i.p then r.highest end)
                   as period_high
        from intervals i
        join readings r using (deployment_id, measure, p)
    ),
    -- The standard errors are of the quantile, µs: half of the distance that F needs for 1.96 standard errors of F(q)
    -- to either side of p, scaled to each variance. The interval itself reaches t of them. With few days t is large,
    -- and the interval covers so much of F that its width shows nothing about the spread at q.
    measured as (
        select a.deployment_id, a.measure, a.p, a.n, a.kish, a.weight, a.x, e.width * sqrt(a.v_row / e.v) as se_row,
               e.width * sqrt(a.v_cluster / e.v) as se_cluster, e.width * sqrt(a.v_day / e.v) as se_day, e.width,
               a.x_low, a.x_high, null::timestamptz as kept_until, a.period_low, a.period_high,
               (a.period_high - a.period_low) / (2 * gnomon_estimators.reach(null)) as se_period,
               case when a.days = 1 then 'one day only: no interval for days like these'
                    when a.clusters = 1 then 'one cluster only: no interval'
                    when a.x_low is null and a.x_high is null then 'too few rows for either end of the interval'
                    when a.x_high is null then 'too few rows for an upper end of the interval'
                    when a.x_low is null then 'too few rows for a lower end of the interval'
                    else gnomon_estimators.footing(a.clusters, a.days, 0) end as footing
        from answered a
        cross join lateral (select (a.far - a.near) / (2 * gnomon_estimators.reach(null)) as width,
                                   nullif(a.variance, 0) as v) e
        union all
        select k.deployment_id, k.measure, k.quantile, k.n, k.n_effective, k.weight, k.microseconds, k.se_row,
               k.se_cluster, k.se_day, k.standard_error, k.low, k.high, k.until, k.period_low,
               k.period_high, k.se_period, 'ok'
        from gnomon_estimators.cohort_latencies k
        where k.deployment_id = any ($7)
    )
    select c.stream, c.deployment, c.role, m.measure, a.p, coalesce(a.n, 0), a.kish, a.weight, a.x, a.se_row,
           a.se_cluster, a.se_day, a.width, a.x_low, a.x_high, a.kept_until,
           coalesce(c.problem,
                    case when a.n is null and m.measure = 'live_all' then 'no live latency in this period'
                         when a.n is null then 'no request scored one at a time in this period'
                         when m.measure <> 'live_all'
                              and exists (select from approximate x where x.deployment_id = c.deployment_id)
                         then 'approximate: an earlier version chose part of the probe'
                              || case when a.footing <> 'ok' then '; ' || a.footing else '' end
                         else a.footing end),
           a.se_period, a.period_low, a.period_high,
           case when a.n is not null
                then case when m.measure = 'live_all' and a.kept_until is null
                          then gnomon_estimators.share_of(c.deployment_id, $9, $10) else 1 end end
    from gnomon_estimators.scope($1, $2) c
    cross join (values ('live_all'), ('live'), ('shadow'), ('difference')) m(measure)
    left join measured a on a.deployment_id = c.deployment_id and a.measure = m.measure
    order by c.role, c.deployment, array_position(array['live_all', 'live', 'shadow', 'difference'], m.measure), a.p
    $sql$, '{stored}', case when part.ids = '{}' then 'not materialized' else 'materialized' end) -- planner note 7
    using latency_of.stream, latency_of.deployment, latency_of.since, latency_of.until, latency_of.segment,
          latency_of.time_zone, kept, computed, part.ids, part.shares;
end
$$;
