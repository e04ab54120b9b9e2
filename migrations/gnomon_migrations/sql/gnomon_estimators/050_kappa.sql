-- Cohen's kappa of the two decisions. Its residual for a pair with live class b and shadow class a is
-- [1(a=b) - p_o - (1-κ)(p_live(a) + p_shadow(b) - 2 p_e)] / (1 - p_e) (Fleiss, Cohen and Everitt 1969).
create function gnomon_estimators.kappa(stream text, deployment text default null, since timestamptz default null,
                                until timestamptz default null, segment jsonb default null,
                                time_zone text default 'UTC', exact boolean default null,
                                ids integer[] default '{}', shares float8[] default '{}')
    returns table (deployment_id integer, n bigint, kappa float8, se_row float8, se_cluster float8, se_day float8,
                   standard_error float8, low float8, high float8, status text, se_period float8, period_low float8,
                   period_high float8)
    -- planner notes 4, 5
    language sql stable parallel safe set work_mem = '64MB' set enable_sort = off set enable_incremental_sort = off as
$$
    -- se_row is the published standard error, without a factor for few rows.
    -- The residual of a pair depends only on its two labels, so sums by labels, cluster and day suffice. The rollups
    -- have them only by day; then the design effect of the stored cohort replaces the clusters.
    with way as materialized (
        select gnomon_estimators.takes_sums(kappa.stream, kappa.deployment, kappa.since, kappa.until, kappa.segment,
                                    kappa.exact) as sums),
    decisions as not materialized ( -- planner note 7
        select p.*
        from (select q.deployment_id, q.live_label as b, q.shadow_label as a, q.cluster,
                     (q.event_time at time zone kappa.time_zone)::date as day, q.weight / r.share as w, q.window_id,
                     q.stratum, q.inclusion_probability as pi
              from gnomon_estimators.pairs_of(kappa.stream, kappa.deployment, kappa.since, kappa.until, kappa.segment) q
              cross join lateral (select gnomon_estimators.share_of(q.deployment_id, kappa.ids, kappa.shares) as share) r
              where gnomon_estimators.within_share(q.request_id, r.share) and q.comparable and q.live_label is not null offset '0') p -- planner note 3
        where not (select sums from way)
    ),
    sums as materialized (
        select deployment_id, b, a, cluster, day, count(*) as n, sum(w) as w, sum(w * w) as w2
        from decisions s group by deployment_id, b, a, cluster, day
        union all
        select r.deployment_id, r.live_label, r.shadow_label, null, (r.hour at time zone kappa.time_zone)::date,
               sum(r.pairs), sum(r.weight), sum(r.weight_squared)
        from gnomon_estimators.rollup_labels r
        where r.deployment_id = any (gnomon_estimators.deployment_ids(kappa.stream, kappa.deployment))
          and r.hour >= coalesce(kappa.since, '-infinity') and r.hour < coalesce(kappa.until, 'infinity')
          and (select sums from way)
        group by 1, 2, 3, 5
    ),
    totals as (select deployment_id, sum(n)::bigint as n, sum(w) as w, sum(w) filter (where a = b) / sum(w) as p_o
               from sums group by deployment_id),
    live as (select deployment_id, b as class, sum(c.w) / min(t.w) as p
             from sums c join totals t using (deployment_id) group by 1, 2),
    shadow as (select deployment_id, a as class, sum(c.w) / min(t.w) as p
               from sums c join totals t using (deployment_id) group by 1, 2),
    -- The share of equal decisions, observed and expected by chance.
    agreements as (
        select t.deployment_id, t.n, t.w, coalesce(t.p_o, 0) as p_o,
               (select coalesce(sum(l.p * s.p), 0) from live l join shadow s using (deployment_id, class)
                where l.deployment_id = t.deployment_id) as p_e
        from totals t
    ),
    estimate as (select *, (p_o - p_e) / nullif(1 - p_e, 0) as kappa from agreements),
    unit_residuals as materialized (
        select c.deployment_id, c.b, c.a,
               ((c.a = c.b)::integer - e.p_o - (1 - e.kappa) * (coalesce(l.p, 0) + coalesce(s.p, 0) - 2 * e.p_e))
                   / nullif((1 - e.p_e) * e.w, 0) as z
        from (select distinct deployment_id, b, a from sums) c
        join estimate e using (deployment_id)
        left join live l on l.deployment_id = c.deployment_id and l.class = c.a
        left join shadow s on s.deployment_id = c.deployment_id and s.class = c.b
    ),
    residuals as materialized (
        select c.deployment_id, c.cluster, c.day, sum(c.w * z.z) as total, sum(c.w2 * z.z * z.z) as rows, sum(c.n) as n
        from sums c
        join unit_residuals z using (deployment_id, b, a)
        group by 1, 2, 3
    ),
    -- The same by cells of the ledger: sampling is the only error of a statement about the period itself.
    cells as (
        select s.deployment_id, s.b, s.a, s.window_id, s.stratum, min(s.pi) as pi, count(*) as n, sum(s.w) as w,
               sum(s.w * s.w) as w2, sum(s.w * s.w * (s.pi - 1 / s.w)) as kept
        from decisions s group by s.deployment_id, s.b, s.a, s.window_id, s.stratum
    ),
    cell_sums as (
        select c.deployment_id, gnomon_estimators.cell_key(c.window_id, c.stratum) as cell, min(c.pi) as pi,
               sum(c.n)::bigint as n, sum(c.w * r.z) as total, sum(c.w2 * r.z * r.z) as squares, sum(c.kept * r.z * r.z) as kept
        from cells c
        join unit_residuals r using (deployment_id, b, a)
        group by 1, 2
    ),
    by_cell as (
        select d.deployment_id,
               sum(gnomon_estimators.cell_variance(d.pi, l.draw, l.sampled, d.n, d.total, d.squares, d.kept)) as v
        from cell_sums d
        left join gnomon_estimators.cell_sizes(array(select deployment_id from totals)) l using (deployment_id, cell)
        group by 1
        -- The rollups have no cells: each row counts as drawn by itself. Too wide if cells differ, else slightly narrow:
        -- a cell of k rows adds at most k/(k-1) times as much.
        union all
        select c.deployment_id, sum((c.w2 - c.w) * z.z * z.z)
        from sums c join unit_residuals z using (deployment_id, b, a)
        where (select sums from way)
        group by 1
    ),
    by_both as (select deployment_id, sum(rows) as v_row, sum(case when cluster is null then rows else total ^ 2 end) as v,
                       sum(case when cluster is null then n else 1 end)::bigint as cells
                from residuals group by 1),
    by_cluster as (select deployment_id, sum(case when cluster is null then rows else total ^ 2 end) as v,
                          sum(case when cluster is null then n else 1 end)::bigint as clusters
                   from (select deployment_id, cluster, sum(total) as total, sum(rows) as rows, sum(n) as n
                         from residuals group by 1, 2) r group by 1),
    by_day as (select deployment_id, sum(total ^ 2) as v, count(*) as days
               from (select deployment_id, day, sum(total) as total from residuals group by 1, 2) r group by 1)
    select e.deployment_id, e.n, e.kappa, d.se_row, d.se_cluster, d.se_day, sqrt(d.variance),
           case when i.low is not null then greatest(i.low, -1) end,
           case when i.high is not null then least(i.high, 1) end,
           case when e.kappa is null then 'one class only'
                else gnomon_estimators.footing(c.clusters, t.days, i.low) end,
           sqrt(p.v), case when f.low is not null then greatest(f.low, -1) end,
           case when f.high is not null then least(f.high, 1) end
    from estimate e
    join by_both b using (deployment_id)
    join by_day t using (deployment_id)
    cross join lateral (select (select sums from way) as sums) w
    left join by_cluster x on x.deployment_id = e.deployment_id and not w.sums
    left join gnomon_estimators.cluster_effects k
        on k.deployment_id = e.deployment_id and k.metric = 'kappa' and w.sums
    cross join lateral (select coalesce(x.v, gnomon_estimators.by_cluster(b.v_row, k.effect, e.n, k.n)) as v,
                               coalesce(x.clusters, k.clusters) as clusters) c
    cross join lateral gnomon_estimators.spread(b.v_row, c.v, t.v, case when not w.sums then b.v end,
                                                case when w.sums then e.n end, c.clusters,
                                                t.days, case when not w.sums then b.cells end) d
    left join lateral gnomon_estimators.interval95('mean', e.kappa, d.variance, null, d.t, null, 1) i
        on d.variance is not null
    left join by_cell p on p.deployment_id = e.deployment_id
    left join lateral gnomon_estimators.period_interval('mean', e.kappa, p.v, null, e.n, e.w, 1) f on true
$$;
