-- The statement that `gnomon_estimators.measured` composes for these metrics: rmse, mae.
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
               , case when regression then weight / share end as w_16
               , (case when regression then gnomon_estimators.square(live_value - truth_value) end)::float8 as live_16
               , (case when regression then abs(gnomon_estimators.flushed(live_value - truth_value)) end)::float8 as live_17
               , (case when regression then gnomon_estimators.square(shadow_value - truth_value) end)::float8 as shadow_16
               , (case when regression then abs(gnomon_estimators.flushed(shadow_value - truth_value)) end)::float8 as shadow_17
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
                          select p.*, 1::float8 as share, 1 as slice, null::boolean as agrees
                          from gnomon_estimators.labelled($1, $2, $3, $4, $5, $8, $9, $10) p
                          ) pairs offset '0') flags offset '0') kinds offset '0') answers offset '0' -- planner note 3
    ),
    -- A row without a cluster is its own cluster: `cells_by_weight` sums its square.
    crossed as materialized (
        select deployment_id, slice, value, cluster, day
               , count(w_16) as n_16, sum(w_16) as w_16
               , sum(w_16 * live_16) as live_16
               , sum(w_16 * live_17) as live_17
               , sum(w_16 * shadow_16) as shadow_16
               , sum(w_16 * shadow_17) as shadow_17
        from flagged_pairs group by deployment_id, slice, value, cluster, day
    ),
    days as materialized (
        select deployment_id, slice, value, day
               , sum(n_16) as n_16, sum(w_16) as w_16
               , sum(live_16) as live_16
               , sum(live_17) as live_17
               , sum(shadow_16) as shadow_16
               , sum(shadow_17) as shadow_17
        from crossed group by deployment_id, slice, value, day
    ),
    sums as (
        select deployment_id, slice, value
               , sum(n_16) as n_16, sum(w_16) as w_16
               , sum(live_16) as live_16
               , sum(live_17) as live_17
               , sum(shadow_16) as shadow_16
               , sum(shadow_17) as shadow_17
        from days group by deployment_id, slice, value
    ),
    -- R and the denominator s of its residual
    totals as materialized (
        select deployment_id, slice, value, row_number() over (order by deployment_id, slice, value) as at
               , n_16, w_16
               , live_16 / nullif(w_16, 0) as live_16, w_16 as of_live_16,
                   nullif(case 'root' when 'root' then 2 * sqrt(live_16 * w_16) else w_16 end, 0)
                       as live_s_16
               , live_17 / nullif(w_16, 0) as live_17, w_16 as of_live_17,
                   nullif(case 'mean' when 'root' then 2 * sqrt(live_17 * w_16) else w_16 end, 0)
                       as live_s_17
               , shadow_16 / nullif(w_16, 0) as shadow_16, w_16 as of_shadow_16,
                   nullif(case 'root' when 'root' then 2 * sqrt(shadow_16 * w_16) else w_16 end, 0)
                       as shadow_s_16
               , shadow_17 / nullif(w_16, 0) as shadow_17, w_16 as of_shadow_17,
                   nullif(case 'mean' when 'root' then 2 * sqrt(shadow_17 * w_16) else w_16 end, 0)
                       as shadow_s_17
        from sums
    ),
    -- The variances by cluster and by cluster within day, of rows with a cluster
    clusters as (
        select at, cluster
               , sum(case when cluster is null then n_16 else sign(n_16) end) as cells_16,
                   sum(n_16) as n_16
               , sum(live_16) as live_16, sum(live_16 * live_16) as live2_16,
                   sum((shadow_16 - live_16) * (shadow_16 - live_16)) as difference2_16
               , sum(live_17) as live_17, sum(live_17 * live_17) as live2_17,
                   sum((shadow_17 - live_17) * (shadow_17 - live_17)) as difference2_17
               , sum(shadow_16) as shadow_16,
                   sum(shadow_16 * shadow_16) as shadow2_16
               , sum(shadow_17) as shadow_17,
                   sum(shadow_17 * shadow_17) as shadow2_17
        from (select t.at, x.cluster
                     , x.n_16
                     , (x.live_16 - t.live_16 * x.w_16) / t.live_s_16
                         as live_16
                     , (x.live_17 - t.live_17 * x.w_16) / t.live_s_17
                         as live_17
                     , (x.shadow_16 - t.shadow_16 * x.w_16) / t.shadow_s_16
                         as shadow_16
                     , (x.shadow_17 - t.shadow_17 * x.w_16) / t.shadow_s_17
                         as shadow_17
              from crossed x join totals t using (deployment_id, slice, value) offset '0') residuals -- planner note 3
        group by at, cluster
    ),
    by_cluster as (
        select at
               , sum(cells_16)::bigint as cells_16,
                   sum(case when cluster is null then n_16 else sign(n_16) end)::bigint as clusters_16
               , sum(live_16 * live_16) filter (where cluster is not null) as live_16,
                   sum((shadow_16 - live_16) * (shadow_16 - live_16)) filter (where cluster is not null)
                       as difference_16,
                   sum(live2_16) filter (where cluster is not null) as live2_16,
                   sum(difference2_16) filter (where cluster is not null) as difference2_16
               , sum(live_17 * live_17) filter (where cluster is not null) as live_17,
                   sum((shadow_17 - live_17) * (shadow_17 - live_17)) filter (where cluster is not null)
                       as difference_17,
                   sum(live2_17) filter (where cluster is not null) as live2_17,
                   sum(difference2_17) filter (where cluster is not null) as difference2_17
               , sum(shadow_16 * shadow_16) filter (where cluster is not null) as shadow_16,
                   sum(shadow2_16) filter (where cluster is not null) as shadow2_16
               , sum(shadow_17 * shadow_17) filter (where cluster is not null) as shadow_17,
                   sum(shadow2_17) filter (where cluster is not null) as shadow2_17
        from clusters group by at
    ),
    by_day as (
        select at
               , count(*) filter (where n_16 > 0) as days_16
               , sum(live_16 * live_16) as live_16,
                   sum((shadow_16 - live_16) * (shadow_16 - live_16)) as difference_16
               , sum(live_17 * live_17) as live_17,
                   sum((shadow_17 - live_17) * (shadow_17 - live_17)) as difference_17
               , sum(shadow_16 * shadow_16) as shadow_16
               , sum(shadow_17 * shadow_17) as shadow_17
        from (select t.at
                     , x.n_16
                     , (x.live_16 - t.live_16 * x.w_16) / t.live_s_16
                         as live_16
                     , (x.live_17 - t.live_17 * x.w_16) / t.live_s_17
                         as live_17
                     , (x.shadow_16 - t.shadow_16 * x.w_16) / t.shadow_s_16
                         as shadow_16
                     , (x.shadow_17 - t.shadow_17 * x.w_16) / t.shadow_s_17
                         as shadow_17
              from days x join totals t using (deployment_id, slice, value) offset '0') residuals -- planner note 3
        group by at
    ),
    -- The totals are passed to the workers as arrays; every row has one (`left` tells the planner).
    weighted as not materialized ( -- planner note 7
        select t.at, x.cell, x.cluster is null as alone, x.pi, x.weight
               , x.w_16
               , x.w_16 * (x.live_16 - t.live_16) / t.live_s_16
                   as live_16
               , x.w_16 * (x.live_17 - t.live_17) / t.live_s_17
                   as live_17
               , x.w_16 * (x.shadow_16 - t.shadow_16) / t.shadow_s_16
                   as shadow_16
               , x.w_16 * (x.shadow_17 - t.shadow_17) / t.shadow_s_17
                   as shadow_17
        from flagged_pairs x
        left join unnest( -- planner note 8
            array(select deployment_id from totals order by at), array(select slice from totals order by at),
            array(select value from totals order by at)
            , array(select live_16 from totals order by at),
                array(select live_s_16 from totals order by at)
            , array(select live_17 from totals order by at),
                array(select live_s_17 from totals order by at)
            , array(select shadow_16 from totals order by at),
                array(select shadow_s_16 from totals order by at)
            , array(select shadow_17 from totals order by at),
                array(select shadow_s_17 from totals order by at)
            ) with ordinality t(
            deployment_id, slice, value
            , live_16, live_s_16
            , live_17, live_s_17
            , shadow_16, shadow_s_16
            , shadow_17, shadow_s_17
            , at) using (deployment_id, slice, value)
        offset '0' -- planner note 3
    ),
    -- A cell of the ledger is a simple random sample, with probability π (`pi`), of the captures that it saw. Its rows
    -- that the question leaves out, or that never became a pair, are part of the sample with a residual of 0.
    cells_by_weight as (
        select at, cell, alone, weight, min(pi) as pi, count(*) as pairs
               , sum(w_16 * w_16) as w2_16
               , sum(live_16) as live_16, sum(live_16 * live_16) as live2_16,
                   sum((shadow_16 - live_16) * (shadow_16 - live_16)) as difference2_16
               , sum(live_17) as live_17, sum(live_17 * live_17) as live2_17,
                   sum((shadow_17 - live_17) * (shadow_17 - live_17)) as difference2_17
               , sum(shadow_16) as shadow_16,
                   sum(shadow_16 * shadow_16) as shadow2_16
               , sum(shadow_17) as shadow_17,
                   sum(shadow_17 * shadow_17) as shadow2_17
        from weighted group by at, cell, alone, weight
    ),
    -- If the service itself sampled, each capture was kept independently with probability 1 / (weight * pi).
    cells as (
        select at, cell, min(pi) as pi, sum(pairs) as pairs
               , sum(w2_16) as w2_16
               , sum(live_16) as live_16, sum(live2_16) as live2_16,
                   sum(live2_16) filter (where alone) as live_alone_16,
                   sum(live2_16 * (pi - 1 / weight)) as live_kept_16,
                   sum(difference2_16) as difference2_16,
                   sum(difference2_16) filter (where alone) as difference_alone_16,
                   sum(difference2_16 * (pi - 1 / weight)) as difference_kept_16
               , sum(live_17) as live_17, sum(live2_17) as live2_17,
                   sum(live2_17) filter (where alone) as live_alone_17,
                   sum(live2_17 * (pi - 1 / weight)) as live_kept_17,
                   sum(difference2_17) as difference2_17,
                   sum(difference2_17) filter (where alone) as difference_alone_17,
                   sum(difference2_17 * (pi - 1 / weight)) as difference_kept_17
               , sum(shadow_16) as shadow_16, sum(shadow2_16) as shadow2_16,
                   sum(shadow2_16) filter (where alone) as shadow_alone_16,
                   sum(shadow2_16 * (pi - 1 / weight)) as shadow_kept_16
               , sum(shadow_17) as shadow_17, sum(shadow2_17) as shadow2_17,
                   sum(shadow2_17) filter (where alone) as shadow_alone_17,
                   sum(shadow2_17 * (pi - 1 / weight)) as shadow_kept_17
        from cells_by_weight group by at, cell
    ),
    -- Kish's sums, the variances by row and of drawing from cells, and the squares of rows without a cluster
    by_cell as (
        select at
               , sum(w2_16) as w2_16
               , sum(live2_16) as live_16, sum(difference2_16) as difference_16,
                   sum(live_alone_16) as live_alone_16, sum(difference_alone_16) as difference_alone_16,
                   sum(factor * greatest(live2_16 - live_16 ^ 2 / rows_drawn, 0) + undrawn * live_16 ^ 2
                       + greatest(live_kept_16, 0)) as live_period_16,
                   sum(factor * greatest(difference2_16 - (shadow_16 - live_16) ^ 2 / rows_drawn, 0)
                       + undrawn * (shadow_16 - live_16) ^ 2 + greatest(difference_kept_16, 0))
                       as difference_period_16
               , sum(live2_17) as live_17, sum(difference2_17) as difference_17,
                   sum(live_alone_17) as live_alone_17, sum(difference_alone_17) as difference_alone_17,
                   sum(factor * greatest(live2_17 - live_17 ^ 2 / rows_drawn, 0) + undrawn * live_17 ^ 2
                       + greatest(live_kept_17, 0)) as live_period_17,
                   sum(factor * greatest(difference2_17 - (shadow_17 - live_17) ^ 2 / rows_drawn, 0)
                       + undrawn * (shadow_17 - live_17) ^ 2 + greatest(difference_kept_17, 0))
                       as difference_period_17
               , sum(shadow2_16) as shadow_16, sum(shadow_alone_16) as shadow_alone_16,
                   sum(factor * greatest(shadow2_16 - shadow_16 ^ 2 / rows_drawn, 0)
                       + undrawn * shadow_16 ^ 2 + greatest(shadow_kept_16, 0))
                       as shadow_period_16
               , sum(shadow2_17) as shadow_17, sum(shadow_alone_17) as shadow_alone_17,
                   sum(factor * greatest(shadow2_17 - shadow_17 ^ 2 / rows_drawn, 0)
                       + undrawn * shadow_17 ^ 2 + greatest(shadow_kept_17, 0))
                       as shadow_period_17
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
        (16, t.n_16::bigint, t.w_16,
            array[ t.of_live_16 ^ 2 / nullif(p.w2_16, 0) ,
                  t.of_shadow_16 ^ 2 / nullif(p.w2_16, 0)],
            array[c.clusters_16, c.clusters_16, least(c.clusters_16, c.clusters_16), c.clusters_16],
            array[d.days_16, d.days_16, least(d.days_16, d.days_16), d.days_16],
            c.cells_16,  t.live_16 , t.shadow_16,
            array[ p.live_16 , p.shadow_16,  p.difference_16 ],
            array[ coalesce(c.live_16 + coalesce(p.live_alone_16, 0), p.live_alone_16) ,
                  coalesce(c.shadow_16 + coalesce(p.shadow_alone_16, 0), p.shadow_alone_16),
                   coalesce(c.difference_16 + coalesce(p.difference_alone_16, 0),
                                  p.difference_alone_16) ],
            array[ d.live_16 , d.shadow_16,  d.difference_16 ],
            array[ coalesce(c.live2_16 + coalesce(p.live_alone_16, 0), p.live_alone_16) ,
                  coalesce(c.shadow2_16 + coalesce(p.shadow_alone_16, 0), p.shadow_alone_16),
                   coalesce(c.difference2_16 + coalesce(p.difference_alone_16, 0),
                                  p.difference_alone_16) ],
            array[ p.live_period_16 , p.shadow_period_16,
                   p.difference_period_16 ]),
        (17, t.n_16::bigint, t.w_16,
            array[ t.of_live_17 ^ 2 / nullif(p.w2_16, 0) ,
                  t.of_shadow_17 ^ 2 / nullif(p.w2_16, 0)],
            array[c.clusters_16, c.clusters_16, least(c.clusters_16, c.clusters_16), c.clusters_16],
            array[d.days_16, d.days_16, least(d.days_16, d.days_16), d.days_16],
            c.cells_16,  t.live_17 , t.shadow_17,
            array[ p.live_17 , p.shadow_17,  p.difference_17 ],
            array[ coalesce(c.live_17 + coalesce(p.live_alone_17, 0), p.live_alone_17) ,
                  coalesce(c.shadow_17 + coalesce(p.shadow_alone_17, 0), p.shadow_alone_17),
                   coalesce(c.difference_17 + coalesce(p.difference_alone_17, 0),
                                  p.difference_alone_17) ],
            array[ d.live_17 , d.shadow_17,  d.difference_17 ],
            array[ coalesce(c.live2_17 + coalesce(p.live_alone_17, 0), p.live_alone_17) ,
                  coalesce(c.shadow2_17 + coalesce(p.shadow_alone_17, 0), p.shadow_alone_17),
                   coalesce(c.difference2_17 + coalesce(p.difference_alone_17, 0),
                                  p.difference_alone_17) ],
            array[ p.live_period_17 , p.shadow_period_17,
                   p.difference_period_17 ])
        ) m;
explain execute measured ('checkout', null, null, null, null, '{all}', 'UTC', interval '1 day', false, false,
                          '{}', '{}', null);
deallocate measured;
rollback;
