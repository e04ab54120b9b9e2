-- The statement that `gnomon_estimators.measured` composes for these metrics: agreement, error.
-- Written by `python -m tests.support.measured_statements DATABASE_URL`; do not edit. It can be run as it is; for a
-- plan of your own data, write your stream instead of 'checkout'.
begin;
set local enable_incremental_sort = 'off';
set local enable_nestloop = 'off';
set local enable_sort = 'off';
set local jit = 'off';
set local work_mem = '128MB';
prepare measured (text, text, timestamptz, timestamptz, jsonb, text[], text, interval, boolean, boolean, integer[],
                  float8[], text[]) as
    with flagged_pairs as not materialized ( -- planner note 7
        select deployment_id, slice, value, cluster, day, gnomon_estimators.cell_key(window_id, stratum) as cell,
               inclusion_probability as pi, weight / share as weight
               , case when agrees is not null then weight / share end as w_1
               , case when true then weight / share end as w_2
               , (live_failed::integer)::float8 as live_2
               , (agrees::integer)::float8 as shadow_1
               , (shadow_failed::integer)::float8 as shadow_2
        -- `offset` ensures that a step is computed once. It is a text, because the planner takes a number for a limit,
        -- which workers cannot share.
        from (select *, null::float8 as live_class_probability,
                     null::float8 as shadow_class_probability,
                     null::float8[] as live_ndcg, null::float8[] as shadow_ndcg
              from (select *, finite and (decided or task = 'binary') and task is distinct from 'multiclass'
                                  and truth_value in (0, 1) as probabilities,
                           finite and live_label is null and shadow_label is null
                               and coalesce(task, 'regression') = 'regression'
                               and truth_value > -1e70 and truth_value < 1e70 as regression
                    from (select *, gnomon_estimators.slice_of(($6)[slice], event_time, stratum, segments,
                                                              live_model_version, $7) as value,
                                 (event_time at time zone $7)::date as day,
                                 live_error_kind is not null as live_failed, outcome <> 'scored' as shadow_failed,
                                 live_error_kind is null and outcome = 'scored'
                                     -- For numbers beyond 1e70, the squares of residuals exceed the range of a double.
                                     and live_value > -1e70 and live_value < 1e70
                                     and shadow_value > -1e70 and shadow_value < 1e70 as finite,
                                 live_error_kind is null and outcome = 'scored' and live_label is not null
                                     and shadow_label is not null and truth_label is not null
                                     and coalesce(task, '') not in ('regression', 'ranking') as decided,
                                 live_label = truth_label as live_right, shadow_label = truth_label as shadow_right,
                                 null::boolean as live_positive, null::boolean as shadow_positive
                          from (
                          select p.*, 1::float8 as share, generate_subscripts($6, 1) as slice, null::float8 as truth_value,
                                 null::text as truth_label, null::float8[] as relevance,
                                 null::text[] as relevance_items, false as known, null::text as task
                          from gnomon_estimators.pairs_of($1, $2, $3, $4, $5) p
                          offset '0' -- planner note 3
                          ) pairs offset '0') flags offset '0') kinds offset '0') answers offset '0' -- planner note 3
    ),
    -- A row without a cluster is its own cluster: `cells_by_weight` sums its square.
    crossed as materialized (
        select deployment_id, slice, value, cluster, day
               , count(w_1) as n_1, sum(w_1) as w_1
               , count(w_2) as n_2, sum(w_2) as w_2
               , sum(w_2 * live_2) as live_2
               , sum(w_1 * shadow_1) as shadow_1
               , sum(w_2 * shadow_2) as shadow_2
        from flagged_pairs group by deployment_id, slice, value, cluster, day
    ),
    days as materialized (
        select deployment_id, slice, value, day
               , sum(n_1) as n_1, sum(w_1) as w_1
               , sum(n_2) as n_2, sum(w_2) as w_2
               , sum(live_2) as live_2
               , sum(shadow_1) as shadow_1
               , sum(shadow_2) as shadow_2
        from crossed group by deployment_id, slice, value, day
    ),
    sums as (
        select deployment_id, slice, value
               , sum(n_1) as n_1, sum(w_1) as w_1
               , sum(n_2) as n_2, sum(w_2) as w_2
               , sum(live_2) as live_2
               , sum(shadow_1) as shadow_1
               , sum(shadow_2) as shadow_2
        from days group by deployment_id, slice, value
    ),
    -- R and the denominator s of its residual
    totals as materialized (
        select deployment_id, slice, value, row_number() over (order by deployment_id, slice, value) as at
               , n_1, w_1
               , n_2, w_2
               , live_2 / nullif(w_2, 0) as live_2, w_2 as of_live_2,
                   nullif(case 'share' when 'root' then 2 * sqrt(live_2 * w_2) else w_2 end, 0)
                       as live_s_2
               , shadow_1 / nullif(w_1, 0) as shadow_1, w_1 as of_shadow_1,
                   nullif(case 'share' when 'root' then 2 * sqrt(shadow_1 * w_1) else w_1 end, 0)
                       as shadow_s_1
               , shadow_2 / nullif(w_2, 0) as shadow_2, w_2 as of_shadow_2,
                   nullif(case 'share' when 'root' then 2 * sqrt(shadow_2 * w_2) else w_2 end, 0)
                       as shadow_s_2
        from sums
    ),
    -- The variances by cluster and by cluster within day, of rows with a cluster
    clusters as (
        select at, cluster
               , sum(case when cluster is null then n_1 else sign(n_1) end) as cells_1,
                   sum(n_1) as n_1
               , sum(case when cluster is null then n_2 else sign(n_2) end) as cells_2,
                   sum(n_2) as n_2
               , sum(live_2) as live_2, sum(live_2 * live_2) as live2_2,
                   sum((shadow_2 - live_2) * (shadow_2 - live_2)) as difference2_2
               , sum(shadow_1) as shadow_1,
                   sum(shadow_1 * shadow_1) as shadow2_1
               , sum(shadow_2) as shadow_2,
                   sum(shadow_2 * shadow_2) as shadow2_2
        from (select t.at, x.cluster
                     , x.n_1
                     , x.n_2
                     , (x.live_2 - t.live_2 * x.w_2) / t.live_s_2
                         as live_2
                     , (x.shadow_1 - t.shadow_1 * x.w_1) / t.shadow_s_1
                         as shadow_1
                     , (x.shadow_2 - t.shadow_2 * x.w_2) / t.shadow_s_2
                         as shadow_2
              from crossed x join totals t using (deployment_id, slice, value) offset '0') residuals -- planner note 3
        group by at, cluster
    ),
    by_cluster as (
        select at
               , sum(cells_1)::bigint as cells_1,
                   sum(case when cluster is null then n_1 else sign(n_1) end)::bigint as clusters_1
               , sum(cells_2)::bigint as cells_2,
                   sum(case when cluster is null then n_2 else sign(n_2) end)::bigint as clusters_2
               , sum(live_2 * live_2) filter (where cluster is not null) as live_2,
                   sum((shadow_2 - live_2) * (shadow_2 - live_2)) filter (where cluster is not null)
                       as difference_2,
                   sum(live2_2) filter (where cluster is not null) as live2_2,
                   sum(difference2_2) filter (where cluster is not null) as difference2_2
               , sum(shadow_1 * shadow_1) filter (where cluster is not null) as shadow_1,
                   sum(shadow2_1) filter (where cluster is not null) as shadow2_1
               , sum(shadow_2 * shadow_2) filter (where cluster is not null) as shadow_2,
                   sum(shadow2_2) filter (where cluster is not null) as shadow2_2
        from clusters group by at
    ),
    by_day as (
        select at
               , count(*) filter (where n_1 > 0) as days_1
               , count(*) filter (where n_2 > 0) as days_2
               , sum(live_2 * live_2) as live_2,
                   sum((shadow_2 - live_2) * (shadow_2 - live_2)) as difference_2
               , sum(shadow_1 * shadow_1) as shadow_1
               , sum(shadow_2 * shadow_2) as shadow_2
        from (select t.at
                     , x.n_1
                     , x.n_2
                     , (x.live_2 - t.live_2 * x.w_2) / t.live_s_2
                         as live_2
                     , (x.shadow_1 - t.shadow_1 * x.w_1) / t.shadow_s_1
                         as shadow_1
                     , (x.shadow_2 - t.shadow_2 * x.w_2) / t.shadow_s_2
                         as shadow_2
              from days x join totals t using (deployment_id, slice, value) offset '0') residuals -- planner note 3
        group by at
    ),
    -- The totals are passed to the workers as arrays; every row has one (`left` tells the planner).
    weighted as not materialized ( -- planner note 7
        select t.at, x.cell, x.cluster is null as alone, x.pi, x.weight
               , x.w_1
               , x.w_2
               , x.w_2 * (x.live_2 - t.live_2) / t.live_s_2
                   as live_2
               , x.w_1 * (x.shadow_1 - t.shadow_1) / t.shadow_s_1
                   as shadow_1
               , x.w_2 * (x.shadow_2 - t.shadow_2) / t.shadow_s_2
                   as shadow_2
        from flagged_pairs x
        left join unnest( -- planner note 8
            array(select deployment_id from totals order by at), array(select slice from totals order by at),
            array(select value from totals order by at)
            , array(select live_2 from totals order by at),
                array(select live_s_2 from totals order by at)
            , array(select shadow_1 from totals order by at),
                array(select shadow_s_1 from totals order by at)
            , array(select shadow_2 from totals order by at),
                array(select shadow_s_2 from totals order by at)
            ) with ordinality t(
            deployment_id, slice, value
            , live_2, live_s_2
            , shadow_1, shadow_s_1
            , shadow_2, shadow_s_2
            , at) using (deployment_id, slice, value)
        offset '0' -- planner note 3
    ),
    -- A cell of the ledger is a simple random sample, with probability π (`pi`), of the captures that it saw. Its rows
    -- that the question leaves out, or that never became a pair, are part of the sample with a residual of 0.
    cells_by_weight as (
        select at, cell, alone, weight, min(pi) as pi, count(*) as pairs
               , sum(w_1 * w_1) as w2_1
               , sum(w_2 * w_2) as w2_2
               , sum(live_2) as live_2, sum(live_2 * live_2) as live2_2,
                   sum((shadow_2 - live_2) * (shadow_2 - live_2)) as difference2_2
               , sum(shadow_1) as shadow_1,
                   sum(shadow_1 * shadow_1) as shadow2_1
               , sum(shadow_2) as shadow_2,
                   sum(shadow_2 * shadow_2) as shadow2_2
        from weighted group by at, cell, alone, weight
    ),
    -- If the service itself sampled, each capture was kept independently with probability 1 / (weight * pi).
    cells as (
        select at, cell, min(pi) as pi, sum(pairs) as pairs
               , sum(w2_1) as w2_1
               , sum(w2_2) as w2_2
               , sum(live_2) as live_2, sum(live2_2) as live2_2,
                   sum(live2_2) filter (where alone) as live_alone_2,
                   sum(live2_2 * (pi - 1 / weight)) as live_kept_2,
                   sum(difference2_2) as difference2_2,
                   sum(difference2_2) filter (where alone) as difference_alone_2,
                   sum(difference2_2 * (pi - 1 / weight)) as difference_kept_2
               , sum(shadow_1) as shadow_1, sum(shadow2_1) as shadow2_1,
                   sum(shadow2_1) filter (where alone) as shadow_alone_1,
                   sum(shadow2_1 * (pi - 1 / weight)) as shadow_kept_1
               , sum(shadow_2) as shadow_2, sum(shadow2_2) as shadow2_2,
                   sum(shadow2_2) filter (where alone) as shadow_alone_2,
                   sum(shadow2_2 * (pi - 1 / weight)) as shadow_kept_2
        from cells_by_weight group by at, cell
    ),
    -- Kish's sums, the variances by row and of drawing from cells, and the squares of rows without a cluster
    by_cell as (
        select at
               , sum(w2_1) as w2_1
               , sum(w2_2) as w2_2
               , sum(live2_2) as live_2, sum(difference2_2) as difference_2,
                   sum(live_alone_2) as live_alone_2, sum(difference_alone_2) as difference_alone_2,
                   sum(factor * greatest(live2_2 - live_2 ^ 2 / rows_drawn, 0) + undrawn * live_2 ^ 2
                       + greatest(live_kept_2, 0)) as live_period_2,
                   sum(factor * greatest(difference2_2 - (shadow_2 - live_2) ^ 2 / rows_drawn, 0)
                       + undrawn * (shadow_2 - live_2) ^ 2 + greatest(difference_kept_2, 0))
                       as difference_period_2
               , sum(shadow2_1) as shadow_1, sum(shadow_alone_1) as shadow_alone_1,
                   sum(factor * greatest(shadow2_1 - shadow_1 ^ 2 / rows_drawn, 0)
                       + undrawn * shadow_1 ^ 2 + greatest(shadow_kept_1, 0))
                       as shadow_period_1
               , sum(shadow2_2) as shadow_2, sum(shadow_alone_2) as shadow_alone_2,
                   sum(factor * greatest(shadow2_2 - shadow_2 ^ 2 / rows_drawn, 0)
                       + undrawn * shadow_2 ^ 2 + greatest(shadow_kept_2, 0))
                       as shadow_period_2
        from (select c.*, greatest(l.sampled, c.pairs)::float8 as rows_drawn,
                     greatest(coalesce(l.draw, 1) - c.pi, 0) * greatest(l.sampled, c.pairs)::float8
                         / greatest(greatest(l.sampled, c.pairs) - 1, 1)::float8 as factor,
                     -- The partitions that were not drawn, see `cell_variance`.
                     1 - coalesce(l.draw, 1) as undrawn
              from cells c
              join totals t using (at)
              left join gnomon_estimators.cell_sizes(array(select deployment_id from totals)) l
                  on l.deployment_id = t.deployment_id and l.cell = c.cell) sized
        group by at
    )
    select t.deployment_id, ($6)[t.slice], t.value, m.*
    from totals t
    join by_cluster c using (at)
    join by_cell p using (at)
    join by_day d using (at)
    -- One row a metric, in the order of the columns of `measured`.
    cross join lateral (values
        (1, t.n_1::bigint, t.w_1,
            array[ null::float8 ,
                  t.of_shadow_1 ^ 2 / nullif(p.w2_1, 0)],
            array[c.clusters_1, c.clusters_1, least(c.clusters_1, c.clusters_1), c.clusters_1],
            array[d.days_1, d.days_1, least(d.days_1, d.days_1), d.days_1],
            c.cells_1,  null::float8 , t.shadow_1,
            array[ null::float8 , p.shadow_1,  null::float8 ],
            array[ null::float8 ,
                  coalesce(c.shadow_1 + coalesce(p.shadow_alone_1, 0), p.shadow_alone_1),
                   null::float8 ],
            array[ null::float8 , d.shadow_1,  null::float8 ],
            array[ null::float8 ,
                  coalesce(c.shadow2_1 + coalesce(p.shadow_alone_1, 0), p.shadow_alone_1),
                   null::float8 ],
            array[ null::float8 , p.shadow_period_1,
                   null::float8 ]),
        (2, t.n_2::bigint, t.w_2,
            array[ t.of_live_2 ^ 2 / nullif(p.w2_2, 0) ,
                  t.of_shadow_2 ^ 2 / nullif(p.w2_2, 0)],
            array[c.clusters_2, c.clusters_2, least(c.clusters_2, c.clusters_2), c.clusters_2],
            array[d.days_2, d.days_2, least(d.days_2, d.days_2), d.days_2],
            c.cells_2,  t.live_2 , t.shadow_2,
            array[ p.live_2 , p.shadow_2,  p.difference_2 ],
            array[ coalesce(c.live_2 + coalesce(p.live_alone_2, 0), p.live_alone_2) ,
                  coalesce(c.shadow_2 + coalesce(p.shadow_alone_2, 0), p.shadow_alone_2),
                   coalesce(c.difference_2 + coalesce(p.difference_alone_2, 0),
                                  p.difference_alone_2) ],
            array[ d.live_2 , d.shadow_2,  d.difference_2 ],
            array[ coalesce(c.live2_2 + coalesce(p.live_alone_2, 0), p.live_alone_2) ,
                  coalesce(c.shadow2_2 + coalesce(p.shadow_alone_2, 0), p.shadow_alone_2),
                   coalesce(c.difference2_2 + coalesce(p.difference_alone_2, 0),
                                  p.difference_alone_2) ],
            array[ p.live_period_2 , p.shadow_period_2,
                   p.difference_period_2 ])
        ) m;
explain execute measured ('checkout', null, null, null, null, '{segment:country,segment:device}', 'UTC', null, false, false,
                          '{}', '{}', null);
deallocate measured;
rollback;
