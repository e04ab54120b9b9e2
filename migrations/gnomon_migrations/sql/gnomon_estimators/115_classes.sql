-- Precision, recall and F1 of every class, and their means: macro (equal weight for every class; a class that a side
-- never decided has precision 0) and weighted (by the share of the truth). They cover the pairs that both sides
-- answered with a decision and that have a truth. The residual of a ratio y/x is w (y - R x) / Σ w x; it depends only
-- on the three labels of a pair, so cells of labels, by cluster and day, suffice. The residual of a mean is the mean of
-- the residuals; that of the weighted mean also contains w (1[truth = c] - share) (metric - mean) / W. clusters and days
-- of a class are those of its own denominator, because the residuals of all other rows are 0.
create function gnomon_estimators.class_estimates(stream text, deployment text, since timestamptz, until timestamptz,
                                                  segment jsonb, horizon interval, time_zone text,
                                                  ids integer[], shares float8[])
    returns table (deployment_id integer, class text, metric text, side text, n bigint, n_effective float8,
                   weight float8, clusters bigint, days bigint, estimate float8, se_row float8, se_cluster float8,
                   se_day float8, standard_error float8, low float8, high float8, status text)
    language sql stable parallel safe set enable_nestloop = off set work_mem = '128MB' as -- planner notes 5, 6
$$
    with cells as materialized (
        select p.deployment_id, p.cluster, (p.event_time at time zone class_estimates.time_zone)::date as day,
               p.live_label as l, p.shadow_label as s, p.truth_label as t, count(*) as n, sum(p.weight / s.share) as w,
               sum((p.weight / s.share) ^ 2) as w2
        from gnomon_estimators.labelled(class_estimates.stream, class_estimates.deployment, class_estimates.since,
                                        class_estimates.until, class_estimates.segment, class_estimates.horizon) p
        cross join lateral (select gnomon_estimators.share_of(p.deployment_id, class_estimates.ids, class_estimates.shares) as share) s
        where gnomon_estimators.within_share(p.request_id, s.share) and p.live_error_kind is null and p.outcome = 'scored' and p.live_label is not null
          and p.shadow_label is not null and p.truth_label is not null
          and coalesce(p.task, '') not in ('regression', 'ranking')
        group by 1, 2, 3, 4, 5, 6
    ),
    whole as materialized (
        select deployment_id, sum(n)::bigint as n, sum(w) as w, sum(w) ^ 2 / sum(w2) as kish,
               count(distinct cluster) + coalesce(sum(n) filter (where cluster is null), 0)::bigint as clusters,
               count(distinct day) as days
        from cells group by 1
    ),
    -- Only the three labels of a pair matter; `alone`: the rows without a cluster.
    patterns as materialized (
        select deployment_id, l, s, t, sum(n) as n, sum(w) as w, sum(w2) as w2,
               coalesce(sum(w2) filter (where cluster is null), 0) as alone
        from cells group by 1, 2, 3, 4
    ),
    -- For each class and side: right, decided and true, as 0 or 1.
    said as materialized (
        select c.*, k.class, (c.t = k.class)::integer as a,
               (c.l = k.class)::integer as pl, (c.s = k.class)::integer as ps,
               (c.l = k.class and c.t = k.class)::integer as tl, (c.s = k.class and c.t = k.class)::integer as ts
        from patterns c
        cross join lateral (select distinct u.class from (values (c.l), (c.s), (c.t)) u(class)) k
    ),
    sums as (
        select deployment_id, class, sum(w * a) as a, sum(w * pl) as pl, sum(w * ps) as ps, sum(w * tl) as tl,
               sum(w * ts) as ts, sum(n * a)::bigint as support, sum(w * a) ^ 2 / nullif(sum(w2 * a), 0) as kish_a,
               sum(w * pl) ^ 2 / nullif(sum(w2 * pl), 0) as kish_pl,
               sum(w * ps) ^ 2 / nullif(sum(w2 * ps), 0) as kish_ps
        from said group by 1, 2
    ),
    ratios as materialized (
        select s.deployment_id, s.class, s.support, m.metric, m.l / nullif(m.xl, 0) as live, m.s / nullif(m.xs, 0) as shadow,
               nullif(m.xl, 0) as xl, nullif(m.xs, 0) as xs, m.kish_l, m.kish_s, s.a / t.w as share,
               s.a + s.pl > 0 as in_live, s.a + s.ps > 0 as in_shadow
        from sums s
        join whole t using (deployment_id)
        cross join lateral (values
            ('precision', s.tl, s.pl, s.ts, s.ps, s.kish_pl, s.kish_ps),
            ('recall', s.tl, s.a, s.ts, s.a, s.kish_a, s.kish_a),
            ('f1', 2 * s.tl, s.pl + s.a, 2 * s.ts, s.ps + s.a, greatest(s.kish_pl, s.kish_a),
             greatest(s.kish_ps, s.kish_a))) m(metric, l, xl, s, xs, kish_l, kish_s)
    ),
    means as (
        select deployment_id, metric,
               sum(coalesce(live, 0)) filter (where in_live) / count(*) filter (where in_live) as live_macro,
               sum(coalesce(shadow, 0)) filter (where in_shadow) / count(*) filter (where in_shadow) as shadow_macro,
               sum(coalesce(live, 0) * share) as live_weighted, sum(coalesce(shadow, 0) * share) as shadow_weighted,
               count(*) filter (where in_live) as classes_live, count(*) filter (where in_shadow) as classes_shadow
        from ratios group by 1, 2
    ),
    -- Residuals of one unit of weight, of each class and of the means.
    residuals as (
        select d.deployment_id, d.l as label_l, d.s as label_s, d.t as label_t, d.w2, d.alone, d.class, d.a, r.metric, r.share,
               coalesce((y.l - coalesce(r.live, 0) * y.xl) / r.xl, 0) as zl,
               coalesce((y.s - coalesce(r.shadow, 0) * y.xs) / r.xs, 0) as zs, r.live, r.shadow
        from said d
        join ratios r on r.deployment_id = d.deployment_id and r.class = d.class
        cross join lateral (select case r.metric when 'f1' then 2 * d.tl else d.tl end as l,
                                   case r.metric when 'f1' then 2 * d.ts else d.ts end as s,
                                   case r.metric when 'precision' then d.pl when 'recall' then d.a else d.pl + d.a end
                                       as xl,
                                   case r.metric when 'precision' then d.ps when 'recall' then d.a else d.ps + d.a end
                                       as xs) y
    ),
    every as materialized (
        select deployment_id, label_l, label_s, label_t, w2, alone, class, metric, zl, zs from residuals
        union all
        select r.deployment_id, r.label_l, r.label_s, r.label_t, r.w2, r.alone, v.class, r.metric,
               sum(case v.class when 'macro avg' then r.zl / m.classes_live
                                else r.share * r.zl + r.a * (coalesce(r.live, 0) - m.live_weighted) / t.w end),
               sum(case v.class when 'macro avg' then r.zs / m.classes_shadow
                                else r.share * r.zs + r.a * (coalesce(r.shadow, 0) - m.shadow_weighted) / t.w end)
        from residuals r
        join means m using (deployment_id, metric)
        join whole t using (deployment_id)
        cross join (values ('macro avg'), ('weighted avg')) v(class)
        group by r.deployment_id, r.label_l, r.label_s, r.label_t, r.w2, r.alone, v.class, r.metric
    ),
    rows as (
        select deployment_id, class, metric, v.side, sum(w2 * v.z ^ 2) as v_row, sum(alone * v.z ^ 2) as alone
        from every cross join lateral (values ('live', zl), ('shadow', zs), ('difference', zs - zl)) v(side, z)
        group by 1, 2, 3, 4
    ),
    -- The three metrics of a class side by side, so that each cell is joined with a class once.
    wide as materialized (
        select deployment_id, label_l as l, label_s as s, label_t as t, class,
               sum(zl) filter (where metric = 'precision') as pl, sum(zs) filter (where metric = 'precision') as ps,
               sum(zl) filter (where metric = 'recall') as rl, sum(zs) filter (where metric = 'recall') as rs,
               sum(zl) filter (where metric = 'f1') as fl, sum(zs) filter (where metric = 'f1') as fs
        from every group by 1, 2, 3, 4, 5
    ),
    crossed as materialized (
        select c.deployment_id, z.class, c.cluster, c.day, sum(c.n) as n, sum(c.n) filter (where c.t = z.class) as n_t,
               sum(c.n) filter (where c.l = z.class) as n_l, sum(c.n) filter (where c.s = z.class) as n_s,
               sum(c.n) filter (where z.class in (c.t, c.l)) as n_tl, sum(c.n) filter (where z.class in (c.t, c.s)) as n_ts,
               sum(c.w * z.pl) as pl, sum(c.w * z.ps) as ps,
               sum(c.w * z.rl) as rl, sum(c.w * z.rs) as rs, sum(c.w * z.fl) as fl, sum(c.w * z.fs) as fs
        from cells c join wide z using (deployment_id, l, s, t)
        group by 1, 2, 3, 4
    ),
    -- By cluster (a row without one is its own cluster, see `rows`), by day, and by cluster within day.
    groups as (
        select deployment_id, class, 'cluster' as by, sum(pl) as pl, sum(ps) as ps, sum(rl) as rl, sum(rs) as rs,
               sum(fl) as fl, sum(fs) as fs
        from crossed where cluster is not null group by 1, 2, cluster
        union all
        select deployment_id, class, 'both', pl, ps, rl, rs, fl, fs from crossed where cluster is not null
        union all
        select deployment_id, class, 'day', sum(pl), sum(ps), sum(rl), sum(rs), sum(fl), sum(fs)
        from crossed group by deployment_id, class, day
    ),
    squared as (
        select deployment_id, class, by, sum(pl * pl) as pl, sum(ps * ps) as ps, sum((ps - pl) ^ 2) as pd,
               sum(rl * rl) as rl, sum(rs * rs) as rs, sum((rs - rl) ^ 2) as rd, sum(fl * fl) as fl,
               sum(fs * fs) as fs, sum((fs - fl) ^ 2) as fd
        from groups group by 1, 2, 3
    ),
    grouped as materialized (
        select q.deployment_id, q.class, q.by, v.metric, v.side, v.total
        from squared q
        cross join lateral (values
            ('precision', 'live', q.pl), ('precision', 'shadow', q.ps), ('precision', 'difference', q.pd),
            ('recall', 'live', q.rl), ('recall', 'shadow', q.rs), ('recall', 'difference', q.rd),
            ('f1', 'live', q.fl), ('f1', 'shadow', q.fs), ('f1', 'difference', q.fd)) v(metric, side, total)
    ),
    sizes as (
        select deployment_id, class, sum(case when cluster is null then n else 1 end)::bigint as cells
        from crossed group by 1, 2
    ),
    -- The numbers of clusters and days: {truth, live, shadow, truth or live, truth or shadow} is the class.
    held as (
        select c.deployment_id, c.class, c.clusters, d.days
        from (select deployment_id, class,
                     array[sum(case when cluster is null then n_t else sign(n_t) end),
                           sum(case when cluster is null then n_l else sign(n_l) end),
                           sum(case when cluster is null then n_s else sign(n_s) end),
                           sum(case when cluster is null then n_tl else sign(n_tl) end),
                           sum(case when cluster is null then n_ts else sign(n_ts) end)]::bigint[] as clusters
              from (select deployment_id, class, cluster, sum(n_t) as n_t, sum(n_l) as n_l, sum(n_s) as n_s,
                           sum(n_tl) as n_tl, sum(n_ts) as n_ts
                    from crossed group by 1, 2, 3) x group by 1, 2) c
        join (select deployment_id, class,
                     array[count(n_t), count(n_l), count(n_s), count(n_tl), count(n_ts)] as days
              from (select deployment_id, class, day, sum(n_t) as n_t, sum(n_l) as n_l, sum(n_s) as n_s,
                           sum(n_tl) as n_tl, sum(n_ts) as n_ts
                    from crossed group by 1, 2, 3) x group by 1, 2) d using (deployment_id, class)
    ),
    spread as (
        select r.deployment_id, r.class, r.metric, r.side, r.v_row, r.alone + coalesce(c.total, 0) as v_cluster,
               d.total as v_day, r.alone + coalesce(b.total, 0) as v_both, z.cells
        from rows r
        join sizes z using (deployment_id, class)
        join grouped d on d.deployment_id = r.deployment_id and d.class = r.class and d.metric = r.metric
                      and d.side = r.side and d.by = 'day'
        left join grouped c on c.deployment_id = r.deployment_id and c.class = r.class and c.metric = r.metric
                           and c.side = r.side and c.by = 'cluster'
        left join grouped b on b.deployment_id = r.deployment_id and b.class = r.class and b.metric = r.metric
                           and b.side = r.side and b.by = 'both'
    ),
    estimates as (
        select r.deployment_id, r.class, r.metric, r.support as n, e.side, e.estimate, e.kish,
               case e.side when 'difference' then 'mean' else 'share' end as kind,
               case e.side when 'live' then h.clusters[m.at_live] when 'shadow' then h.clusters[m.at_shadow]
                           else least(h.clusters[m.at_live], h.clusters[m.at_shadow]) end as clusters,
               case e.side when 'live' then h.days[m.at_live] when 'shadow' then h.days[m.at_shadow]
                           else least(h.days[m.at_live], h.days[m.at_shadow]) end as days
        from ratios r
        join held h using (deployment_id, class)
        join (values ('precision', 2, 3), ('recall', 1, 1), ('f1', 4, 5)) m(metric, at_live, at_shadow) using (metric)
        cross join lateral (values ('live', r.live, r.kish_l), ('shadow', r.shadow, r.kish_s),
                                   ('difference', r.shadow - r.live, least(r.kish_l, r.kish_s))) e(side, estimate, kish)
        union all
        select m.deployment_id, v.class, m.metric, t.n, e.side, e.estimate, t.kish, 'mean', t.clusters, t.days
        from means m
        join whole t using (deployment_id)
        cross join lateral (values ('macro avg', m.live_macro, m.shadow_macro),
                                   ('weighted avg', m.live_weighted, m.shadow_weighted)) v(class, live, shadow)
        cross join lateral (values ('live', v.live), ('shadow', v.shadow), ('difference', v.shadow - v.live))
            e(side, estimate)
    )
    select e.deployment_id, e.class, e.metric, e.side, e.n, e.kish, t.w, e.clusters, e.days, e.estimate, b.se_row,
           b.se_cluster, b.se_day, b.standard_error, case when b.low < -1 then -1 else b.low end,
           case when b.high > 1 then 1 else b.high end,
           case when e.estimate is null and e.metric = 'recall' then 'undefined: the class never comes true'
                when e.estimate is null then 'undefined: the class is never decided' else b.status end
    from estimates e
    join whole t using (deployment_id)
    join spread s using (deployment_id, class, metric, side)
    left join lateral gnomon_estimators.bounded(e.kind, e.estimate, s.v_row, s.v_cluster, s.v_day, s.v_both, t.n,
                                                t.clusters, t.days, s.cells, e.kish, e.clusters, e.days) b on e.estimate is not null
$$;

-- The area under the ROC curve of each class against the rest, by the class's own score, ties half.
create function gnomon_estimators.class_areas(stream text, deployment text, since timestamptz, until timestamptz,
                                              segment jsonb, horizon interval, ids integer[], shares float8[])
    returns table (deployment_id integer, class text, side text, n bigint, weight float8, estimate float8)
    language sql stable parallel safe set enable_nestloop = off as -- planner note 6
$$
    with said as materialized (
        select p.deployment_id, p.truth_label, p.weight / s.share as weight, v.side, v.items, v.scores
        from gnomon_estimators.labelled(class_areas.stream, class_areas.deployment, class_areas.since,
                                        class_areas.until, class_areas.segment, class_areas.horizon) p
        cross join lateral (values ('live', p.live_items, p.live_scores), ('shadow', p.shadow_items, p.shadow_scores))
            v(side, items, scores)
        cross join lateral (select gnomon_estimators.share_of(p.deployment_id, class_areas.ids, class_areas.shares) as share) s
        where gnomon_estimators.within_share(p.request_id, s.share) and p.live_error_kind is null and p.outcome = 'scored' and p.truth_label is not null
          and p.live_label is not null and p.shadow_label is not null
          and gnomon_estimators.ranked(p.live_items, p.live_scores) is not null and p.live_scores is not null
          and gnomon_estimators.ranked(p.shadow_items, p.shadow_scores) is not null and p.shadow_scores is not null
    ),
    classes as (select distinct deployment_id, truth_label as class from said),
    scored as (
        select s.deployment_id, c.class, s.side, coalesce(s.scores[array_position(s.items, c.class)], 0) as score,
               sum(s.weight) filter (where s.truth_label = c.class) as w_pos,
               sum(s.weight) filter (where s.truth_label <> c.class) as w_neg, count(*) as n
        from said s join classes c using (deployment_id)
        group by 1, 2, 3, 4
    ),
    below as (
        select *, sum(coalesce(w_neg, 0)) over (partition by deployment_id, class, side order by score)
                  - 0.5 * coalesce(w_neg, 0) as under
        from scored
    )
    select deployment_id, class, side, sum(n)::bigint, coalesce(sum(w_pos), 0) + coalesce(sum(w_neg), 0),
           sum(w_pos * under) / nullif(sum(w_pos) * sum(w_neg), 0)
    from below group by 1, 2, 3
$$;
