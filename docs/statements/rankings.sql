-- The statement that `gnomon_estimators.measured` composes for these metrics: ndcg@10.
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
               , case when live_ndcg[4] is not null and shadow_ndcg[4] is not null then weight / share end as w_18
               , (live_ndcg[4])::float8 as live_18
               , (shadow_ndcg[4])::float8 as shadow_18
        -- `offset` ensures that a step is computed once. It is a text, because the planner takes a number for a limit,
        -- which workers cannot share.
        from (select *, null::float8 as live_class_probability,
                     null::float8 as shadow_class_probability,
                     case when relevance is not null and array_position(relevance, 'NaN') is null
                               and not live_failed and not shadow_failed
                          then gnomon_estimators.ndcgs(gnomon_estimators.ranked(live_items, live_scores),
                                                       relevance_items, relevance) end as live_ndcg,
                     case when relevance is not null and array_position(relevance, 'NaN') is null
                               and not live_failed and not shadow_failed
                          then gnomon_estimators.ndcgs(gnomon_estimators.ranked(shadow_items, shadow_scores),
                                                       relevance_items, relevance) end as shadow_ndcg
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
               , count(w_18) as n_18, sum(w_18) as w_18
               , sum(w_18 * live_18) as live_18
               , sum(w_18 * shadow_18) as shadow_18
        from flagged_pairs group by deployment_id, slice, value, cluster, day
    ),
    days as materialized (
        select deployment_id, slice, value, day
               , sum(n_18) as n_18, sum(w_18) as w_18
               , sum(live_18) as live_18
               , sum(shadow_18) as shadow_18
        from crossed group by deployment_id, slice, value, day
    ),
    sums as (
        select deployment_id, slice, value
               , sum(n_18) as n_18, sum(w_18) as w_18
               , sum(live_18) as live_18
               , sum(shadow_18) as shadow_18
        from days group by deployment_id, slice, value
    ),
    -- R and the denominator s of its residual
    totals as materialized (
        select deployment_id, slice, value, row_number() over (order by deployment_id, slice, value) as at
               , n_18, w_18
               , live_18 / nullif(w_18, 0) as live_18, w_18 as of_live_18,
                   nullif(case 'mean' when 'root' then 2 * sqrt(live_18 * w_18) else w_18 end, 0)
                       as live_s_18
               , shadow_18 / nullif(w_18, 0) as shadow_18, w_18 as of_shadow_18,
                   nullif(case 'mean' when 'root' then 2 * sqrt(shadow_18 * w_18) else w_18 end, 0)
                       as shadow_s_18
        from sums
    ),
    -- The variances by cluster and by cluster within day, of rows with a cluster
    clusters as (
        select at, cluster
               , sum(case when cluster is null then n_18 else sign(n_18) end) as cells_18,
                   sum(n_18) as n_18
               , sum(live_18) as live_18, sum(live_18 * live_18) as live2_18,
                   sum((shadow_18 - live_18) * (shadow_18 - live_18)) as difference2_18
               , sum(shadow_18) as shadow_18,
                   sum(shadow_18 * shadow_18) as shadow2_18
        from (select t.at, x.cluster
                     , x.n_18
                     , (x.live_18 - t.live_18 * x.w_18) / t.live_s_18
                         as live_18
                     , (x.shadow_18 - t.shadow_18 * x.w_18) / t.shadow_s_18
                         as shadow_18
              from crossed x join totals t using (deployment_id, slice, value) offset '0') residuals -- planner note 3
        group by at, cluster
    ),
    by_cluster as (
        select at
               , sum(cells_18)::bigint as cells_18,
                   sum(case when cluster is null then n_18 else sign(n_18) end)::bigint as clusters_18
               , sum(live_18 * live_18) filter (where cluster is not null) as live_18,
                   sum((shadow_18 - live_18) * (shadow_18 - live_18)) filter (where cluster is not null)
                       as difference_18,
                   sum(live2_18) filter (where cluster is not null) as live2_18,
                   sum(difference2_18) filter (where cluster is not null) as difference2_18
               , sum(shadow_18 * shadow_18) filter (where cluster is not null) as shadow_18,
                   sum(shadow2_18) filter (where cluster is not null) as shadow2_18
        from clusters group by at
    ),
    by_day as (
        select at
               , count(*) filter (where n_18 > 0) as days_18
               , sum(live_18 * live_18) as live_18,
                   sum((shadow_18 - live_18) * (shadow_18 - live_18)) as difference_18
               , sum(shadow_18 * shadow_18) as shadow_18
        from (select t.at
                     , x.n_18
                     , (x.live_18 - t.live_18 * x.w_18) / t.live_s_18
                         as live_18
                     , (x.shadow_18 - t.shadow_18 * x.w_18) / t.shadow_s_18
                         as shadow_18
              from days x join totals t using (deployment_id, slice, value) offset '0') residuals -- planner note 3
        group by at
    ),
    -- The totals are passed to the workers as arrays; every row has one (`left` tells the planner).
    weighted as not materialized ( -- planner note 7
        select t.at, x.cell, x.cluster is null as alone, x.pi, x.weight
               , x.w_18
               , x.w_18 * (x.live_18 - t.live_18) / t.live_s_18
                   as live_18
               , x.w_18 * (x.shadow_18 - t.shadow_18) / t.shadow_s_18
                   as shadow_18
        from flagged_pairs x
        left join unnest( -- planner note 8
            array(select deployment_id from totals order by at), array(select slice from totals order by at),
            array(select value from totals order by at)
            , array(select live_18 from totals order by at),
                array(select live_s_18 from totals order by at)
            , array(select shadow_18 from totals order by at),
                array(select shadow_s_18 from totals order by at)
            ) with ordinality t(
            deployment_id, slice, value
            , live_18, live_s_18
            , shadow_18, shadow_s_18
            , at) using (deployment_id, slice, value)
        offset '0' -- planner note 3
    ),
    -- A cell of the ledger is a simple random sample, with probability π (`pi`), of the captures that it saw. Its rows
    -- that the question leaves out, or that never became a pair, are part of the sample with a residual of 0.
    cells_by_weight as (
        select at, cell, alone, weight, min(pi) as pi, count(*) as pairs
               , sum(w_18 * w_18) as w2_18
               , sum(live_18) as live_18, sum(live_18 * live_18) as live2_18,
                   sum((shadow_18 - live_18) * (shadow_18 - live_18)) as difference2_18
               , sum(shadow_18) as shadow_18,
                   sum(shadow_18 * shadow_18) as shadow2_18
        from weighted group by at, cell, alone, weight
    ),
    -- If the service itself sampled, each capture was kept independently with probability 1 / (weight * pi).
    cells as (
        select at, cell, min(pi) as pi, sum(pairs) as pairs
               , sum(w2_18) as w2_18
               , sum(live_18) as live_18, sum(live2_18) as live2_18,
                   sum(live2_18) filter (where alone) as live_alone_18,
                   sum(live2_18 * (pi - 1 / weight)) as live_kept_18,
                   sum(difference2_18) as difference2_18,
                   sum(difference2_18) filter (where alone) as difference_alone_18,
                   sum(difference2_18 * (pi - 1 / weight)) as difference_kept_18
               , sum(shadow_18) as shadow_18, sum(shadow2_18) as shadow2_18,
                   sum(shadow2_18) filter (where alone) as shadow_alone_18,
                   sum(shadow2_18 * (pi - 1 / weight)) as shadow_kept_18
        from cells_by_weight group by at, cell
    ),
    -- Kish's sums, the variances by row and of drawing from cells, and the squares of rows without a cluster
    by_cell as (
        select at
               , sum(w2_18) as w2_18
               , sum(live2_18) as live_18, sum(difference2_18) as difference_18,
                   sum(live_alone_18) as live_alone_18, sum(difference_alone_18) as difference_alone_18,
                   sum(factor * greatest(live2_18 - live_18 ^ 2 / rows_drawn, 0) + undrawn * live_18 ^ 2
                       + greatest(live_kept_18, 0)) as live_period_18,
                   sum(factor * greatest(difference2_18 - (shadow_18 - live_18) ^ 2 / rows_drawn, 0)
                       + undrawn * (shadow_18 - live_18) ^ 2 + greatest(difference_kept_18, 0))
                       as difference_period_18
               , sum(shadow2_18) as shadow_18, sum(shadow_alone_18) as shadow_alone_18,
                   sum(factor * greatest(shadow2_18 - shadow_18 ^ 2 / rows_drawn, 0)
                       + undrawn * shadow_18 ^ 2 + greatest(shadow_kept_18, 0))
                       as shadow_period_18
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
        (18, t.n_18::bigint, t.w_18,
            array[ t.of_live_18 ^ 2 / nullif(p.w2_18, 0) ,
                  t.of_shadow_18 ^ 2 / nullif(p.w2_18, 0)],
            array[c.clusters_18, c.clusters_18, least(c.clusters_18, c.clusters_18), c.clusters_18],
            array[d.days_18, d.days_18, least(d.days_18, d.days_18), d.days_18],
            c.cells_18,  t.live_18 , t.shadow_18,
            array[ p.live_18 , p.shadow_18,  p.difference_18 ],
            array[ coalesce(c.live_18 + coalesce(p.live_alone_18, 0), p.live_alone_18) ,
                  coalesce(c.shadow_18 + coalesce(p.shadow_alone_18, 0), p.shadow_alone_18),
                   coalesce(c.difference_18 + coalesce(p.difference_alone_18, 0),
                                  p.difference_alone_18) ],
            array[ d.live_18 , d.shadow_18,  d.difference_18 ],
            array[ coalesce(c.live2_18 + coalesce(p.live_alone_18, 0), p.live_alone_18) ,
                  coalesce(c.shadow2_18 + coalesce(p.shadow_alone_18, 0), p.shadow_alone_18),
                   coalesce(c.difference2_18 + coalesce(p.difference_alone_18, 0),
                                  p.difference_alone_18) ],
            array[ p.live_period_18 , p.shadow_period_18,
                   p.difference_period_18 ])
        ) m;
explain execute measured ('checkout', null, null, null, null, '{all}', 'UTC', interval '1 day', false, false,
                          '{}', '{}', null);
deallocate measured;
rollback;
