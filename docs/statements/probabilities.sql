-- The statement that `gnomon_estimators.measured` composes for these metrics: log_loss, brier.
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
               , case when live_class_probability > '-infinity' and live_class_probability < 'infinity' and shadow_class_probability > '-infinity' and shadow_class_probability < 'infinity' then weight / share end as w_14
               , case when probabilities then weight / share end as w_15
               , (gnomon_estimators.log_loss(live_class_probability))::float8 as live_14
               , (case when probabilities then gnomon_estimators.flushed(gnomon_estimators.probability(live_value) - truth_value) ^ 2 end)::float8 as live_15
               , (gnomon_estimators.log_loss(shadow_class_probability))::float8 as shadow_14
               , (case when probabilities then gnomon_estimators.flushed(gnomon_estimators.probability(shadow_value) - truth_value) ^ 2 end)::float8 as shadow_15
        -- `offset` ensures that a step is computed once. It is a text, because the planner takes a number for a limit,
        -- which workers cannot share.
        from (select *,
                     case when probabilities then case when truth_value = 1 then live_value else 1 - live_value end
                          when decided and live_scores is not null and live_items is not null
                          then coalesce(live_scores[array_position(live_items, truth_label)], 0) end as live_class_probability,
                     case when probabilities then case when truth_value = 1 then shadow_value else 1 - shadow_value end
                          when decided and shadow_scores is not null and shadow_items is not null
                          then coalesce(shadow_scores[array_position(shadow_items, truth_label)], 0) end as shadow_class_probability,
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
               , count(w_14) as n_14, sum(w_14) as w_14
               , count(w_15) as n_15, sum(w_15) as w_15
               , sum(w_14 * live_14) as live_14
               , sum(w_15 * live_15) as live_15
               , sum(w_14 * shadow_14) as shadow_14
               , sum(w_15 * shadow_15) as shadow_15
        from flagged_pairs group by deployment_id, slice, value, cluster, day
    ),
    days as materialized (
        select deployment_id, slice, value, day
               , sum(n_14) as n_14, sum(w_14) as w_14
               , sum(n_15) as n_15, sum(w_15) as w_15
               , sum(live_14) as live_14
               , sum(live_15) as live_15
               , sum(shadow_14) as shadow_14
               , sum(shadow_15) as shadow_15
        from crossed group by deployment_id, slice, value, day
    ),
    sums as (
        select deployment_id, slice, value
               , sum(n_14) as n_14, sum(w_14) as w_14
               , sum(n_15) as n_15, sum(w_15) as w_15
               , sum(live_14) as live_14
               , sum(live_15) as live_15
               , sum(shadow_14) as shadow_14
               , sum(shadow_15) as shadow_15
        from days group by deployment_id, slice, value
    ),
    -- R and the denominator s of its residual
    totals as materialized (
        select deployment_id, slice, value, row_number() over (order by deployment_id, slice, value) as at
               , n_14, w_14
               , n_15, w_15
               , live_14 / nullif(w_14, 0) as live_14, w_14 as of_live_14,
                   nullif(case 'mean' when 'root' then 2 * sqrt(live_14 * w_14) else w_14 end, 0)
                       as live_s_14
               , live_15 / nullif(w_15, 0) as live_15, w_15 as of_live_15,
                   nullif(case 'mean' when 'root' then 2 * sqrt(live_15 * w_15) else w_15 end, 0)
                       as live_s_15
               , shadow_14 / nullif(w_14, 0) as shadow_14, w_14 as of_shadow_14,
                   nullif(case 'mean' when 'root' then 2 * sqrt(shadow_14 * w_14) else w_14 end, 0)
                       as shadow_s_14
               , shadow_15 / nullif(w_15, 0) as shadow_15, w_15 as of_shadow_15,
                   nullif(case 'mean' when 'root' then 2 * sqrt(shadow_15 * w_15) else w_15 end, 0)
                       as shadow_s_15
        from sums
    ),
    -- The variances by cluster and by cluster within day, of rows with a cluster
    clusters as (
        select at, cluster
               , sum(case when cluster is null then n_14 else sign(n_14) end) as cells_14,
                   sum(n_14) as n_14
               , sum(case when cluster is null then n_15 else sign(n_15) end) as cells_15,
                   sum(n_15) as n_15
               , sum(live_14) as live_14, sum(live_14 * live_14) as live2_14,
                   sum((shadow_14 - live_14) * (shadow_14 - live_14)) as difference2_14
               , sum(live_15) as live_15, sum(live_15 * live_15) as live2_15,
                   sum((shadow_15 - live_15) * (shadow_15 - live_15)) as difference2_15
               , sum(shadow_14) as shadow_14,
                   sum(shadow_14 * shadow_14) as shadow2_14
               , sum(shadow_15) as shadow_15,
                   sum(shadow_15 * shadow_15) as shadow2_15
        from (select t.at, x.cluster
                     , x.n_14
                     , x.n_15
                     , (x.live_14 - t.live_14 * x.w_14) / t.live_s_14
                         as live_14
                     , (x.live_15 - t.live_15 * x.w_15) / t.live_s_15
                         as live_15
                     , (x.shadow_14 - t.shadow_14 * x.w_14) / t.shadow_s_14
                         as shadow_14
                     , (x.shadow_15 - t.shadow_15 * x.w_15) / t.shadow_s_15
                         as shadow_15
              from crossed x join totals t using (deployment_id, slice, value) offset '0') residuals -- planner note 3
        group by at, cluster
    ),
    by_cluster as (
        select at
               , sum(cells_14)::bigint as cells_14,
                   sum(case when cluster is null then n_14 else sign(n_14) end)::bigint as clusters_14
               , sum(cells_15)::bigint as cells_15,
                   sum(case when cluster is null then n_15 else sign(n_15) end)::bigint as clusters_15
               , sum(live_14 * live_14) filter (where cluster is not null) as live_14,
                   sum((shadow_14 - live_14) * (shadow_14 - live_14)) filter (where cluster is not null)
                       as difference_14,
                   sum(live2_14) filter (where cluster is not null) as live2_14,
                   sum(difference2_14) filter (where cluster is not null) as difference2_14
               , sum(live_15 * live_15) filter (where cluster is not null) as live_15,
                   sum((shadow_15 - live_15) * (shadow_15 - live_15)) filter (where cluster is not null)
                       as difference_15,
                   sum(live2_15) filter (where cluster is not null) as live2_15,
                   sum(difference2_15) filter (where cluster is not null) as difference2_15
               , sum(shadow_14 * shadow_14) filter (where cluster is not null) as shadow_14,
                   sum(shadow2_14) filter (where cluster is not null) as shadow2_14
               , sum(shadow_15 * shadow_15) filter (where cluster is not null) as shadow_15,
                   sum(shadow2_15) filter (where cluster is not null) as shadow2_15
        from clusters group by at
    ),
    by_day as (
        select at
               , count(*) filter (where n_14 > 0) as days_14
               , count(*) filter (where n_15 > 0) as days_15
               , sum(live_14 * live_14) as live_14,
                   sum((shadow_14 - live_14) * (shadow_14 - live_14)) as difference_14
               , sum(live_15 * live_15) as live_15,
                   sum((shadow_15 - live_15) * (shadow_15 - live_15)) as difference_15
               , sum(shadow_14 * shadow_14) as shadow_14
               , sum(shadow_15 * shadow_15) as shadow_15
        from (select t.at
                     , x.n_14
                     , x.n_15
                     , (x.live_14 - t.live_14 * x.w_14) / t.live_s_14
                         as live_14
                     , (x.live_15 - t.live_15 * x.w_15) / t.live_s_15
                         as live_15
                     , (x.shadow_14 - t.shadow_14 * x.w_14) / t.shadow_s_14
                         as shadow_14
                     , (x.shadow_15 - t.shadow_15 * x.w_15) / t.shadow_s_15
                         as shadow_15
              from days x join totals t using (deployment_id, slice, value) offset '0') residuals -- planner note 3
        group by at
    ),
    -- The totals are passed to the workers as arrays; every row has one (`left` tells the planner).
    weighted as not materialized ( -- planner note 7
        select t.at, x.cell, x.cluster is null as alone, x.pi, x.weight
               , x.w_14
               , x.w_15
               , x.w_14 * (x.live_14 - t.live_14) / t.live_s_14
                   as live_14
               , x.w_15 * (x.live_15 - t.live_15) / t.live_s_15
                   as live_15
               , x.w_14 * (x.shadow_14 - t.shadow_14) / t.shadow_s_14
                   as shadow_14
               , x.w_15 * (x.shadow_15 - t.shadow_15) / t.shadow_s_15
                   as shadow_15
        from flagged_pairs x
        left join unnest( -- planner note 8
            array(select deployment_id from totals order by at), array(select slice from totals order by at),
            array(select value from totals order by at)
            , array(select live_14 from totals order by at),
                array(select live_s_14 from totals order by at)
            , array(select live_15 from totals order by at),
                array(select live_s_15 from totals order by at)
            , array(select shadow_14 from totals order by at),
                array(select shadow_s_14 from totals order by at)
            , array(select shadow_15 from totals order by at),
                array(select shadow_s_15 from totals order by at)
            ) with ordinality t(
            deployment_id, slice, value
            , live_14, live_s_14
            , live_15, live_s_15
            , shadow_14, shadow_s_14
            , shadow_15, shadow_s_15
            , at) using (deployment_id, slice, value)
        offset '0' -- planner note 3
    ),
    -- A cell of the ledger is a simple random sample, with probability π (`pi`), of the captures that it saw. Its rows
    -- that the question leaves out, or that never became a pair, are part of the sample with a residual of 0.
    cells_by_weight as (
        select at, cell, alone, weight, min(pi) as pi, count(*) as pairs
               , sum(w_14 * w_14) as w2_14
               , sum(w_15 * w_15) as w2_15
               , sum(live_14) as live_14, sum(live_14 * live_14) as live2_14,
                   sum((shadow_14 - live_14) * (shadow_14 - live_14)) as difference2_14
               , sum(live_15) as live_15, sum(live_15 * live_15) as live2_15,
                   sum((shadow_15 - live_15) * (shadow_15 - live_15)) as difference2_15
               , sum(shadow_14) as shadow_14,
                   sum(shadow_14 * shadow_14) as shadow2_14
               , sum(shadow_15) as shadow_15,
                   sum(shadow_15 * shadow_15) as shadow2_15
        from weighted group by at, cell, alone, weight
    ),
    -- If the service itself sampled, each capture was kept independently with probability 1 / (weight * pi).
    cells as (
        select at, cell, min(pi) as pi, sum(pairs) as pairs
               , sum(w2_14) as w2_14
               , sum(w2_15) as w2_15
               , sum(live_14) as live_14, sum(live2_14) as live2_14,
                   sum(live2_14) filter (where alone) as live_alone_14,
                   sum(live2_14 * (pi - 1 / weight)) as live_kept_14,
                   sum(difference2_14) as difference2_14,
                   sum(difference2_14) filter (where alone) as difference_alone_14,
                   sum(difference2_14 * (pi - 1 / weight)) as difference_kept_14
               , sum(live_15) as live_15, sum(live2_15) as live2_15,
                   sum(live2_15) filter (where alone) as live_alone_15,
                   sum(live2_15 * (pi - 1 / weight)) as live_kept_15,
                   sum(difference2_15) as difference2_15,
                   sum(difference2_15) filter (where alone) as difference_alone_15,
                   sum(difference2_15 * (pi - 1 / weight)) as difference_kept_15
               , sum(shadow_14) as shadow_14, sum(shadow2_14) as shadow2_14,
                   sum(shadow2_14) filter (where alone) as shadow_alone_14,
                   sum(shadow2_14 * (pi - 1 / weight)) as shadow_kept_14
               , sum(shadow_15) as shadow_15, sum(shadow2_15) as shadow2_15,
                   sum(shadow2_15) filter (where alone) as shadow_alone_15,
                   sum(shadow2_15 * (pi - 1 / weight)) as shadow_kept_15
        from cells_by_weight group by at, cell
    ),
    -- Kish's sums, the variances by row and of drawing from cells, and the squares of rows without a cluster
    by_cell as (
        select at
               , sum(w2_14) as w2_14
               , sum(w2_15) as w2_15
               , sum(live2_14) as live_14, sum(difference2_14) as difference_14,
                   sum(live_alone_14) as live_alone_14, sum(difference_alone_14) as difference_alone_14,
                   sum(factor * greatest(live2_14 - live_14 ^ 2 / rows_drawn, 0) + undrawn * live_14 ^ 2
                       + greatest(live_kept_14, 0)) as live_period_14,
                   sum(factor * greatest(difference2_14 - (shadow_14 - live_14) ^ 2 / rows_drawn, 0)
                       + undrawn * (shadow_14 - live_14) ^ 2 + greatest(difference_kept_14, 0))
                       as difference_period_14
               , sum(live2_15) as live_15, sum(difference2_15) as difference_15,
                   sum(live_alone_15) as live_alone_15, sum(difference_alone_15) as difference_alone_15,
                   sum(factor * greatest(live2_15 - live_15 ^ 2 / rows_drawn, 0) + undrawn * live_15 ^ 2
                       + greatest(live_kept_15, 0)) as live_period_15,
                   sum(factor * greatest(difference2_15 - (shadow_15 - live_15) ^ 2 / rows_drawn, 0)
                       + undrawn * (shadow_15 - live_15) ^ 2 + greatest(difference_kept_15, 0))
                       as difference_period_15
               , sum(shadow2_14) as shadow_14, sum(shadow_alone_14) as shadow_alone_14,
                   sum(factor * greatest(shadow2_14 - shadow_14 ^ 2 / rows_drawn, 0)
                       + undrawn * shadow_14 ^ 2 + greatest(shadow_kept_14, 0))
                       as shadow_period_14
               , sum(shadow2_15) as shadow_15, sum(shadow_alone_15) as shadow_alone_15,
                   sum(factor * greatest(shadow2_15 - shadow_15 ^ 2 / rows_drawn, 0)
                       + undrawn * shadow_15 ^ 2 + greatest(shadow_kept_15, 0))
                       as shadow_period_15
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
        (14, t.n_14::bigint, t.w_14,
            array[ t.of_live_14 ^ 2 / nullif(p.w2_14, 0) ,
                  t.of_shadow_14 ^ 2 / nullif(p.w2_14, 0)],
            array[c.clusters_14, c.clusters_14, least(c.clusters_14, c.clusters_14), c.clusters_14],
            array[d.days_14, d.days_14, least(d.days_14, d.days_14), d.days_14],
            c.cells_14,  t.live_14 , t.shadow_14,
            array[ p.live_14 , p.shadow_14,  p.difference_14 ],
            array[ coalesce(c.live_14 + coalesce(p.live_alone_14, 0), p.live_alone_14) ,
                  coalesce(c.shadow_14 + coalesce(p.shadow_alone_14, 0), p.shadow_alone_14),
                   coalesce(c.difference_14 + coalesce(p.difference_alone_14, 0),
                                  p.difference_alone_14) ],
            array[ d.live_14 , d.shadow_14,  d.difference_14 ],
            array[ coalesce(c.live2_14 + coalesce(p.live_alone_14, 0), p.live_alone_14) ,
                  coalesce(c.shadow2_14 + coalesce(p.shadow_alone_14, 0), p.shadow_alone_14),
                   coalesce(c.difference2_14 + coalesce(p.difference_alone_14, 0),
                                  p.difference_alone_14) ],
            array[ p.live_period_14 , p.shadow_period_14,
                   p.difference_period_14 ]),
        (15, t.n_15::bigint, t.w_15,
            array[ t.of_live_15 ^ 2 / nullif(p.w2_15, 0) ,
                  t.of_shadow_15 ^ 2 / nullif(p.w2_15, 0)],
            array[c.clusters_15, c.clusters_15, least(c.clusters_15, c.clusters_15), c.clusters_15],
            array[d.days_15, d.days_15, least(d.days_15, d.days_15), d.days_15],
            c.cells_15,  t.live_15 , t.shadow_15,
            array[ p.live_15 , p.shadow_15,  p.difference_15 ],
            array[ coalesce(c.live_15 + coalesce(p.live_alone_15, 0), p.live_alone_15) ,
                  coalesce(c.shadow_15 + coalesce(p.shadow_alone_15, 0), p.shadow_alone_15),
                   coalesce(c.difference_15 + coalesce(p.difference_alone_15, 0),
                                  p.difference_alone_15) ],
            array[ d.live_15 , d.shadow_15,  d.difference_15 ],
            array[ coalesce(c.live2_15 + coalesce(p.live_alone_15, 0), p.live_alone_15) ,
                  coalesce(c.shadow2_15 + coalesce(p.shadow_alone_15, 0), p.shadow_alone_15),
                   coalesce(c.difference2_15 + coalesce(p.difference_alone_15, 0),
                                  p.difference_alone_15) ],
            array[ p.live_period_15 , p.shadow_period_15,
                   p.difference_period_15 ])
        ) m;
explain execute measured ('checkout', null, null, null, null, '{all}', 'UTC', interval '1 day', false, false,
                          '{}', '{}', null);
deallocate measured;
rollback;
