-- The statement that `gnomon_estimators.measured` composes for these metrics: accuracy, precision, recall, brier.
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
               , case when decided then weight / share end as w_11
               , case when decided and truth_value in (0, 1) then weight / share end as w_12
               , case when probabilities then weight / share end as w_15
               , (live_right::integer)::float8 as live_11
               , (case when live_right and live_positive then truth_value else 0 end)::float8 as live_12
               , (case when live_right then truth_value else 0 end)::float8 as live_13
               , (case when probabilities then gnomon_estimators.flushed(gnomon_estimators.probability(live_value) - truth_value) ^ 2 end)::float8 as live_15
               , (shadow_right::integer)::float8 as shadow_11
               , (case when shadow_right and shadow_positive then truth_value else 0 end)::float8 as shadow_12
               , (case when shadow_right then truth_value else 0 end)::float8 as shadow_13
               , (case when probabilities then gnomon_estimators.flushed(gnomon_estimators.probability(shadow_value) - truth_value) ^ 2 end)::float8 as shadow_15
               , (live_positive::integer)::float8 as live_x_12,
                   (shadow_positive::integer)::float8 as shadow_x_12
               , (truth_value)::float8 as live_x_13,
                   (truth_value)::float8 as shadow_x_13
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
                                 live_label = any ($13) as live_positive, shadow_label = any ($13) as shadow_positive
                          from (
                          select p.*, 1::float8 as share, 1 as slice, null::boolean as agrees
                          from gnomon_estimators.labelled($1, $2, $3, $4, $5, $8, $9, $10) p
                          ) pairs offset '0') flags offset '0') kinds offset '0') answers offset '0' -- planner note 3
    ),
    -- A row without a cluster is its own cluster: `cells_by_weight` sums its square.
    crossed as materialized (
        select deployment_id, slice, value, cluster, day
               , count(w_11) as n_11, sum(w_11) as w_11
               , count(w_12) as n_12, sum(w_12) as w_12
               , count(w_15) as n_15, sum(w_15) as w_15
               , sum(w_11 * live_11) as live_11
               , sum(w_12 * live_12) as live_12
               , sum(w_12 * live_13) as live_13
               , sum(w_15 * live_15) as live_15
               , sum(w_11 * shadow_11) as shadow_11
               , sum(w_12 * shadow_12) as shadow_12
               , sum(w_12 * shadow_13) as shadow_13
               , sum(w_15 * shadow_15) as shadow_15
               , sum(w_12 * live_x_12) as live_x_12,
                   sum(w_12 * shadow_x_12) as shadow_x_12,
                   count(*) filter (where w_12 * live_x_12 > 0) as live_m_12,
                   count(*) filter (where w_12 * shadow_x_12 > 0) as shadow_m_12
               , sum(w_12 * live_x_13) as live_x_13,
                   sum(w_12 * shadow_x_13) as shadow_x_13,
                   count(*) filter (where w_12 * live_x_13 > 0) as live_m_13,
                   count(*) filter (where w_12 * shadow_x_13 > 0) as shadow_m_13
        from flagged_pairs group by deployment_id, slice, value, cluster, day
    ),
    days as materialized (
        select deployment_id, slice, value, day
               , sum(n_11) as n_11, sum(w_11) as w_11
               , sum(n_12) as n_12, sum(w_12) as w_12
               , sum(n_15) as n_15, sum(w_15) as w_15
               , sum(live_11) as live_11
               , sum(live_12) as live_12
               , sum(live_13) as live_13
               , sum(live_15) as live_15
               , sum(shadow_11) as shadow_11
               , sum(shadow_12) as shadow_12
               , sum(shadow_13) as shadow_13
               , sum(shadow_15) as shadow_15
               , sum(live_x_12) as live_x_12, sum(shadow_x_12) as shadow_x_12,
                   sum(live_m_12) as live_m_12, sum(shadow_m_12) as shadow_m_12
               , sum(live_x_13) as live_x_13, sum(shadow_x_13) as shadow_x_13,
                   sum(live_m_13) as live_m_13, sum(shadow_m_13) as shadow_m_13
        from crossed group by deployment_id, slice, value, day
    ),
    sums as (
        select deployment_id, slice, value
               , sum(n_11) as n_11, sum(w_11) as w_11
               , sum(n_12) as n_12, sum(w_12) as w_12
               , sum(n_15) as n_15, sum(w_15) as w_15
               , sum(live_11) as live_11
               , sum(live_12) as live_12
               , sum(live_13) as live_13
               , sum(live_15) as live_15
               , sum(shadow_11) as shadow_11
               , sum(shadow_12) as shadow_12
               , sum(shadow_13) as shadow_13
               , sum(shadow_15) as shadow_15
               , sum(live_x_12) as live_x_12, sum(shadow_x_12) as shadow_x_12,
                   sum(live_m_12) as live_m_12, sum(shadow_m_12) as shadow_m_12
               , sum(live_x_13) as live_x_13, sum(shadow_x_13) as shadow_x_13,
                   sum(live_m_13) as live_m_13, sum(shadow_m_13) as shadow_m_13
        from days group by deployment_id, slice, value
    ),
    -- R and the denominator s of its residual
    totals as materialized (
        select deployment_id, slice, value, row_number() over (order by deployment_id, slice, value) as at
               , n_11, w_11
               , n_12, w_12
               , n_15, w_15
               , live_11 / nullif(w_11, 0) as live_11, w_11 as of_live_11,
                   nullif(case 'share' when 'root' then 2 * sqrt(live_11 * w_11) else w_11 end, 0)
                       as live_s_11
               , live_12 / nullif(live_x_12, 0) as live_12, live_x_12 as of_live_12,
                   nullif(case 'share' when 'root' then 2 * sqrt(live_12 * live_x_12) else live_x_12 end, 0)
                       as live_s_12
               , live_13 / nullif(live_x_13, 0) as live_13, live_x_13 as of_live_13,
                   nullif(case 'share' when 'root' then 2 * sqrt(live_13 * live_x_13) else live_x_13 end, 0)
                       as live_s_13
               , live_15 / nullif(w_15, 0) as live_15, w_15 as of_live_15,
                   nullif(case 'mean' when 'root' then 2 * sqrt(live_15 * w_15) else w_15 end, 0)
                       as live_s_15
               , shadow_11 / nullif(w_11, 0) as shadow_11, w_11 as of_shadow_11,
                   nullif(case 'share' when 'root' then 2 * sqrt(shadow_11 * w_11) else w_11 end, 0)
                       as shadow_s_11
               , shadow_12 / nullif(shadow_x_12, 0) as shadow_12, shadow_x_12 as of_shadow_12,
                   nullif(case 'share' when 'root' then 2 * sqrt(shadow_12 * shadow_x_12) else shadow_x_12 end, 0)
                       as shadow_s_12
               , shadow_13 / nullif(shadow_x_13, 0) as shadow_13, shadow_x_13 as of_shadow_13,
                   nullif(case 'share' when 'root' then 2 * sqrt(shadow_13 * shadow_x_13) else shadow_x_13 end, 0)
                       as shadow_s_13
               , shadow_15 / nullif(w_15, 0) as shadow_15, w_15 as of_shadow_15,
                   nullif(case 'mean' when 'root' then 2 * sqrt(shadow_15 * w_15) else w_15 end, 0)
                       as shadow_s_15
        from sums
    ),
    -- The variances by cluster and by cluster within day, of rows with a cluster
    clusters as (
        select at, cluster
               , sum(case when cluster is null then n_11 else sign(n_11) end) as cells_11,
                   sum(n_11) as n_11
               , sum(case when cluster is null then n_12 else sign(n_12) end) as cells_12,
                   sum(n_12) as n_12
               , sum(case when cluster is null then n_15 else sign(n_15) end) as cells_15,
                   sum(n_15) as n_15
               , sum(live_m_12) as live_m_12, sum(shadow_m_12) as shadow_m_12
               , sum(live_m_13) as live_m_13, sum(shadow_m_13) as shadow_m_13
               , sum(live_11) as live_11, sum(live_11 * live_11) as live2_11,
                   sum((shadow_11 - live_11) * (shadow_11 - live_11)) as difference2_11
               , sum(live_12) as live_12, sum(live_12 * live_12) as live2_12,
                   sum((shadow_12 - live_12) * (shadow_12 - live_12)) as difference2_12
               , sum(live_13) as live_13, sum(live_13 * live_13) as live2_13,
                   sum((shadow_13 - live_13) * (shadow_13 - live_13)) as difference2_13
               , sum(live_15) as live_15, sum(live_15 * live_15) as live2_15,
                   sum((shadow_15 - live_15) * (shadow_15 - live_15)) as difference2_15
               , sum(shadow_11) as shadow_11,
                   sum(shadow_11 * shadow_11) as shadow2_11
               , sum(shadow_12) as shadow_12,
                   sum(shadow_12 * shadow_12) as shadow2_12
               , sum(shadow_13) as shadow_13,
                   sum(shadow_13 * shadow_13) as shadow2_13
               , sum(shadow_15) as shadow_15,
                   sum(shadow_15 * shadow_15) as shadow2_15
        from (select t.at, x.cluster
                     , x.n_11
                     , x.n_12
                     , x.n_15
                     , x.live_m_12, x.shadow_m_12
                     , x.live_m_13, x.shadow_m_13
                     , (x.live_11 - t.live_11 * x.w_11) / t.live_s_11
                         as live_11
                     , (x.live_12 - t.live_12 * x.live_x_12) / t.live_s_12
                         as live_12
                     , (x.live_13 - t.live_13 * x.live_x_13) / t.live_s_13
                         as live_13
                     , (x.live_15 - t.live_15 * x.w_15) / t.live_s_15
                         as live_15
                     , (x.shadow_11 - t.shadow_11 * x.w_11) / t.shadow_s_11
                         as shadow_11
                     , (x.shadow_12 - t.shadow_12 * x.shadow_x_12) / t.shadow_s_12
                         as shadow_12
                     , (x.shadow_13 - t.shadow_13 * x.shadow_x_13) / t.shadow_s_13
                         as shadow_13
                     , (x.shadow_15 - t.shadow_15 * x.w_15) / t.shadow_s_15
                         as shadow_15
              from crossed x join totals t using (deployment_id, slice, value) offset '0') residuals -- planner note 3
        group by at, cluster
    ),
    by_cluster as (
        select at
               , sum(cells_11)::bigint as cells_11,
                   sum(case when cluster is null then n_11 else sign(n_11) end)::bigint as clusters_11
               , sum(cells_12)::bigint as cells_12,
                   sum(case when cluster is null then n_12 else sign(n_12) end)::bigint as clusters_12
               , sum(cells_15)::bigint as cells_15,
                   sum(case when cluster is null then n_15 else sign(n_15) end)::bigint as clusters_15
               , sum(case when cluster is null then live_m_12 else sign(live_m_12) end)::bigint
                       as live_clusters_12,
                   sum(case when cluster is null then shadow_m_12 else sign(shadow_m_12) end)::bigint
                       as shadow_clusters_12
               , sum(case when cluster is null then live_m_13 else sign(live_m_13) end)::bigint
                       as live_clusters_13,
                   sum(case when cluster is null then shadow_m_13 else sign(shadow_m_13) end)::bigint
                       as shadow_clusters_13
               , sum(live_11 * live_11) filter (where cluster is not null) as live_11,
                   sum((shadow_11 - live_11) * (shadow_11 - live_11)) filter (where cluster is not null)
                       as difference_11,
                   sum(live2_11) filter (where cluster is not null) as live2_11,
                   sum(difference2_11) filter (where cluster is not null) as difference2_11
               , sum(live_12 * live_12) filter (where cluster is not null) as live_12,
                   sum((shadow_12 - live_12) * (shadow_12 - live_12)) filter (where cluster is not null)
                       as difference_12,
                   sum(live2_12) filter (where cluster is not null) as live2_12,
                   sum(difference2_12) filter (where cluster is not null) as difference2_12
               , sum(live_13 * live_13) filter (where cluster is not null) as live_13,
                   sum((shadow_13 - live_13) * (shadow_13 - live_13)) filter (where cluster is not null)
                       as difference_13,
                   sum(live2_13) filter (where cluster is not null) as live2_13,
                   sum(difference2_13) filter (where cluster is not null) as difference2_13
               , sum(live_15 * live_15) filter (where cluster is not null) as live_15,
                   sum((shadow_15 - live_15) * (shadow_15 - live_15)) filter (where cluster is not null)
                       as difference_15,
                   sum(live2_15) filter (where cluster is not null) as live2_15,
                   sum(difference2_15) filter (where cluster is not null) as difference2_15
               , sum(shadow_11 * shadow_11) filter (where cluster is not null) as shadow_11,
                   sum(shadow2_11) filter (where cluster is not null) as shadow2_11
               , sum(shadow_12 * shadow_12) filter (where cluster is not null) as shadow_12,
                   sum(shadow2_12) filter (where cluster is not null) as shadow2_12
               , sum(shadow_13 * shadow_13) filter (where cluster is not null) as shadow_13,
                   sum(shadow2_13) filter (where cluster is not null) as shadow2_13
               , sum(shadow_15 * shadow_15) filter (where cluster is not null) as shadow_15,
                   sum(shadow2_15) filter (where cluster is not null) as shadow2_15
        from clusters group by at
    ),
    by_day as (
        select at
               , count(*) filter (where n_11 > 0) as days_11
               , count(*) filter (where n_12 > 0) as days_12
               , count(*) filter (where n_15 > 0) as days_15
               , count(*) filter (where live_m_12 > 0) as live_days_12,
                   count(*) filter (where shadow_m_12 > 0) as shadow_days_12
               , count(*) filter (where live_m_13 > 0) as live_days_13,
                   count(*) filter (where shadow_m_13 > 0) as shadow_days_13
               , sum(live_11 * live_11) as live_11,
                   sum((shadow_11 - live_11) * (shadow_11 - live_11)) as difference_11
               , sum(live_12 * live_12) as live_12,
                   sum((shadow_12 - live_12) * (shadow_12 - live_12)) as difference_12
               , sum(live_13 * live_13) as live_13,
                   sum((shadow_13 - live_13) * (shadow_13 - live_13)) as difference_13
               , sum(live_15 * live_15) as live_15,
                   sum((shadow_15 - live_15) * (shadow_15 - live_15)) as difference_15
               , sum(shadow_11 * shadow_11) as shadow_11
               , sum(shadow_12 * shadow_12) as shadow_12
               , sum(shadow_13 * shadow_13) as shadow_13
               , sum(shadow_15 * shadow_15) as shadow_15
        from (select t.at
                     , x.n_11
                     , x.n_12
                     , x.n_15
                     , x.live_m_12, x.shadow_m_12
                     , x.live_m_13, x.shadow_m_13
                     , (x.live_11 - t.live_11 * x.w_11) / t.live_s_11
                         as live_11
                     , (x.live_12 - t.live_12 * x.live_x_12) / t.live_s_12
                         as live_12
                     , (x.live_13 - t.live_13 * x.live_x_13) / t.live_s_13
                         as live_13
                     , (x.live_15 - t.live_15 * x.w_15) / t.live_s_15
                         as live_15
                     , (x.shadow_11 - t.shadow_11 * x.w_11) / t.shadow_s_11
                         as shadow_11
                     , (x.shadow_12 - t.shadow_12 * x.shadow_x_12) / t.shadow_s_12
                         as shadow_12
                     , (x.shadow_13 - t.shadow_13 * x.shadow_x_13) / t.shadow_s_13
                         as shadow_13
                     , (x.shadow_15 - t.shadow_15 * x.w_15) / t.shadow_s_15
                         as shadow_15
              from days x join totals t using (deployment_id, slice, value) offset '0') residuals -- planner note 3
        group by at
    ),
    -- The totals are passed to the workers as arrays; every row has one (`left` tells the planner).
    weighted as not materialized ( -- planner note 7
        select t.at, x.cell, x.cluster is null as alone, x.pi, x.weight
               , x.w_11
               , x.w_12
               , x.w_15
               , x.w_11 * (x.live_11 - t.live_11) / t.live_s_11
                   as live_11
               , x.w_12 * (x.live_12 - t.live_12 * x.live_x_12) / t.live_s_12
                   as live_12
               , x.w_12 * (x.live_13 - t.live_13 * x.live_x_13) / t.live_s_13
                   as live_13
               , x.w_15 * (x.live_15 - t.live_15) / t.live_s_15
                   as live_15
               , x.w_11 * (x.shadow_11 - t.shadow_11) / t.shadow_s_11
                   as shadow_11
               , x.w_12 * (x.shadow_12 - t.shadow_12 * x.shadow_x_12) / t.shadow_s_12
                   as shadow_12
               , x.w_12 * (x.shadow_13 - t.shadow_13 * x.shadow_x_13) / t.shadow_s_13
                   as shadow_13
               , x.w_15 * (x.shadow_15 - t.shadow_15) / t.shadow_s_15
                   as shadow_15
               , x.live_x_12, x.shadow_x_12
               , x.live_x_13, x.shadow_x_13
        from flagged_pairs x
        left join unnest( -- planner note 8
            array(select deployment_id from totals order by at), array(select slice from totals order by at),
            array(select value from totals order by at)
            , array(select live_11 from totals order by at),
                array(select live_s_11 from totals order by at)
            , array(select live_12 from totals order by at),
                array(select live_s_12 from totals order by at)
            , array(select live_13 from totals order by at),
                array(select live_s_13 from totals order by at)
            , array(select live_15 from totals order by at),
                array(select live_s_15 from totals order by at)
            , array(select shadow_11 from totals order by at),
                array(select shadow_s_11 from totals order by at)
            , array(select shadow_12 from totals order by at),
                array(select shadow_s_12 from totals order by at)
            , array(select shadow_13 from totals order by at),
                array(select shadow_s_13 from totals order by at)
            , array(select shadow_15 from totals order by at),
                array(select shadow_s_15 from totals order by at)
            ) with ordinality t(
            deployment_id, slice, value
            , live_11, live_s_11
            , live_12, live_s_12
            , live_13, live_s_13
            , live_15, live_s_15
            , shadow_11, shadow_s_11
            , shadow_12, shadow_s_12
            , shadow_13, shadow_s_13
            , shadow_15, shadow_s_15
            , at) using (deployment_id, slice, value)
        offset '0' -- planner note 3
    ),
    -- A cell of the ledger is a simple random sample, with probability π (`pi`), of the captures that it saw. Its rows
    -- that the question leaves out, or that never became a pair, are part of the sample with a residual of 0.
    cells_by_weight as (
        select at, cell, alone, weight, min(pi) as pi, count(*) as pairs
               , sum(w_11 * w_11) as w2_11
               , sum(w_12 * w_12) as w2_12
               , sum(w_15 * w_15) as w2_15
               , sum(live_11) as live_11, sum(live_11 * live_11) as live2_11,
                   sum((shadow_11 - live_11) * (shadow_11 - live_11)) as difference2_11
               , sum(live_12) as live_12, sum(live_12 * live_12) as live2_12,
                   sum((shadow_12 - live_12) * (shadow_12 - live_12)) as difference2_12
               , sum(live_13) as live_13, sum(live_13 * live_13) as live2_13,
                   sum((shadow_13 - live_13) * (shadow_13 - live_13)) as difference2_13
               , sum(live_15) as live_15, sum(live_15 * live_15) as live2_15,
                   sum((shadow_15 - live_15) * (shadow_15 - live_15)) as difference2_15
               , sum(shadow_11) as shadow_11,
                   sum(shadow_11 * shadow_11) as shadow2_11
               , sum(shadow_12) as shadow_12,
                   sum(shadow_12 * shadow_12) as shadow2_12
               , sum(shadow_13) as shadow_13,
                   sum(shadow_13 * shadow_13) as shadow2_13
               , sum(shadow_15) as shadow_15,
                   sum(shadow_15 * shadow_15) as shadow2_15
               , sum((w_12 * live_x_12) ^ 2) as live_x2_12,
                   sum((w_12 * shadow_x_12) ^ 2) as shadow_x2_12
               , sum((w_12 * live_x_13) ^ 2) as live_x2_13,
                   sum((w_12 * shadow_x_13) ^ 2) as shadow_x2_13
        from weighted group by at, cell, alone, weight
    ),
    -- If the service itself sampled, each capture was kept independently with probability 1 / (weight * pi).
    cells as (
        select at, cell, min(pi) as pi, sum(pairs) as pairs
               , sum(w2_11) as w2_11
               , sum(w2_12) as w2_12
               , sum(w2_15) as w2_15
               , sum(live_11) as live_11, sum(live2_11) as live2_11,
                   sum(live2_11) filter (where alone) as live_alone_11,
                   sum(live2_11 * (pi - 1 / weight)) as live_kept_11,
                   sum(difference2_11) as difference2_11,
                   sum(difference2_11) filter (where alone) as difference_alone_11,
                   sum(difference2_11 * (pi - 1 / weight)) as difference_kept_11
               , sum(live_12) as live_12, sum(live2_12) as live2_12,
                   sum(live2_12) filter (where alone) as live_alone_12,
                   sum(live2_12 * (pi - 1 / weight)) as live_kept_12,
                   sum(difference2_12) as difference2_12,
                   sum(difference2_12) filter (where alone) as difference_alone_12,
                   sum(difference2_12 * (pi - 1 / weight)) as difference_kept_12
               , sum(live_13) as live_13, sum(live2_13) as live2_13,
                   sum(live2_13) filter (where alone) as live_alone_13,
                   sum(live2_13 * (pi - 1 / weight)) as live_kept_13,
                   sum(difference2_13) as difference2_13,
                   sum(difference2_13) filter (where alone) as difference_alone_13,
                   sum(difference2_13 * (pi - 1 / weight)) as difference_kept_13
               , sum(live_15) as live_15, sum(live2_15) as live2_15,
                   sum(live2_15) filter (where alone) as live_alone_15,
                   sum(live2_15 * (pi - 1 / weight)) as live_kept_15,
                   sum(difference2_15) as difference2_15,
                   sum(difference2_15) filter (where alone) as difference_alone_15,
                   sum(difference2_15 * (pi - 1 / weight)) as difference_kept_15
               , sum(shadow_11) as shadow_11, sum(shadow2_11) as shadow2_11,
                   sum(shadow2_11) filter (where alone) as shadow_alone_11,
                   sum(shadow2_11 * (pi - 1 / weight)) as shadow_kept_11
               , sum(shadow_12) as shadow_12, sum(shadow2_12) as shadow2_12,
                   sum(shadow2_12) filter (where alone) as shadow_alone_12,
                   sum(shadow2_12 * (pi - 1 / weight)) as shadow_kept_12
               , sum(shadow_13) as shadow_13, sum(shadow2_13) as shadow2_13,
                   sum(shadow2_13) filter (where alone) as shadow_alone_13,
                   sum(shadow2_13 * (pi - 1 / weight)) as shadow_kept_13
               , sum(shadow_15) as shadow_15, sum(shadow2_15) as shadow2_15,
                   sum(shadow2_15) filter (where alone) as shadow_alone_15,
                   sum(shadow2_15 * (pi - 1 / weight)) as shadow_kept_15
               , sum(live_x2_12) as live_x2_12, sum(shadow_x2_12) as shadow_x2_12
               , sum(live_x2_13) as live_x2_13, sum(shadow_x2_13) as shadow_x2_13
        from cells_by_weight group by at, cell
    ),
    -- Kish's sums, the variances by row and of drawing from cells, and the squares of rows without a cluster
    by_cell as (
        select at
               , sum(w2_11) as w2_11
               , sum(w2_12) as w2_12
               , sum(w2_15) as w2_15
               , sum(live2_11) as live_11, sum(difference2_11) as difference_11,
                   sum(live_alone_11) as live_alone_11, sum(difference_alone_11) as difference_alone_11,
                   sum(factor * greatest(live2_11 - live_11 ^ 2 / rows_drawn, 0) + undrawn * live_11 ^ 2
                       + greatest(live_kept_11, 0)) as live_period_11,
                   sum(factor * greatest(difference2_11 - (shadow_11 - live_11) ^ 2 / rows_drawn, 0)
                       + undrawn * (shadow_11 - live_11) ^ 2 + greatest(difference_kept_11, 0))
                       as difference_period_11
               , sum(live2_12) as live_12, sum(difference2_12) as difference_12,
                   sum(live_alone_12) as live_alone_12, sum(difference_alone_12) as difference_alone_12,
                   sum(factor * greatest(live2_12 - live_12 ^ 2 / rows_drawn, 0) + undrawn * live_12 ^ 2
                       + greatest(live_kept_12, 0)) as live_period_12,
                   sum(factor * greatest(difference2_12 - (shadow_12 - live_12) ^ 2 / rows_drawn, 0)
                       + undrawn * (shadow_12 - live_12) ^ 2 + greatest(difference_kept_12, 0))
                       as difference_period_12
               , sum(live2_13) as live_13, sum(difference2_13) as difference_13,
                   sum(live_alone_13) as live_alone_13, sum(difference_alone_13) as difference_alone_13,
                   sum(factor * greatest(live2_13 - live_13 ^ 2 / rows_drawn, 0) + undrawn * live_13 ^ 2
                       + greatest(live_kept_13, 0)) as live_period_13,
                   sum(factor * greatest(difference2_13 - (shadow_13 - live_13) ^ 2 / rows_drawn, 0)
                       + undrawn * (shadow_13 - live_13) ^ 2 + greatest(difference_kept_13, 0))
                       as difference_period_13
               , sum(live2_15) as live_15, sum(difference2_15) as difference_15,
                   sum(live_alone_15) as live_alone_15, sum(difference_alone_15) as difference_alone_15,
                   sum(factor * greatest(live2_15 - live_15 ^ 2 / rows_drawn, 0) + undrawn * live_15 ^ 2
                       + greatest(live_kept_15, 0)) as live_period_15,
                   sum(factor * greatest(difference2_15 - (shadow_15 - live_15) ^ 2 / rows_drawn, 0)
                       + undrawn * (shadow_15 - live_15) ^ 2 + greatest(difference_kept_15, 0))
                       as difference_period_15
               , sum(shadow2_11) as shadow_11, sum(shadow_alone_11) as shadow_alone_11,
                   sum(factor * greatest(shadow2_11 - shadow_11 ^ 2 / rows_drawn, 0)
                       + undrawn * shadow_11 ^ 2 + greatest(shadow_kept_11, 0))
                       as shadow_period_11
               , sum(shadow2_12) as shadow_12, sum(shadow_alone_12) as shadow_alone_12,
                   sum(factor * greatest(shadow2_12 - shadow_12 ^ 2 / rows_drawn, 0)
                       + undrawn * shadow_12 ^ 2 + greatest(shadow_kept_12, 0))
                       as shadow_period_12
               , sum(shadow2_13) as shadow_13, sum(shadow_alone_13) as shadow_alone_13,
                   sum(factor * greatest(shadow2_13 - shadow_13 ^ 2 / rows_drawn, 0)
                       + undrawn * shadow_13 ^ 2 + greatest(shadow_kept_13, 0))
                       as shadow_period_13
               , sum(shadow2_15) as shadow_15, sum(shadow_alone_15) as shadow_alone_15,
                   sum(factor * greatest(shadow2_15 - shadow_15 ^ 2 / rows_drawn, 0)
                       + undrawn * shadow_15 ^ 2 + greatest(shadow_kept_15, 0))
                       as shadow_period_15
               , sum(live_x2_12) as live_x2_12, sum(shadow_x2_12) as shadow_x2_12
               , sum(live_x2_13) as live_x2_13, sum(shadow_x2_13) as shadow_x2_13
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
        (11, t.n_11::bigint, t.w_11,
            array[ t.of_live_11 ^ 2 / nullif(p.w2_11, 0) ,
                  t.of_shadow_11 ^ 2 / nullif(p.w2_11, 0)],
            array[c.clusters_11, c.clusters_11, least(c.clusters_11, c.clusters_11), c.clusters_11],
            array[d.days_11, d.days_11, least(d.days_11, d.days_11), d.days_11],
            c.cells_11,  t.live_11 , t.shadow_11,
            array[ p.live_11 , p.shadow_11,  p.difference_11 ],
            array[ coalesce(c.live_11 + coalesce(p.live_alone_11, 0), p.live_alone_11) ,
                  coalesce(c.shadow_11 + coalesce(p.shadow_alone_11, 0), p.shadow_alone_11),
                   coalesce(c.difference_11 + coalesce(p.difference_alone_11, 0),
                                  p.difference_alone_11) ],
            array[ d.live_11 , d.shadow_11,  d.difference_11 ],
            array[ coalesce(c.live2_11 + coalesce(p.live_alone_11, 0), p.live_alone_11) ,
                  coalesce(c.shadow2_11 + coalesce(p.shadow_alone_11, 0), p.shadow_alone_11),
                   coalesce(c.difference2_11 + coalesce(p.difference_alone_11, 0),
                                  p.difference_alone_11) ],
            array[ p.live_period_11 , p.shadow_period_11,
                   p.difference_period_11 ]),
        (12, t.n_12::bigint, t.w_12,
            array[ t.of_live_12 ^ 2 / nullif(p.live_x2_12, 0) ,
                  t.of_shadow_12 ^ 2 / nullif(p.shadow_x2_12, 0)],
            array[c.live_clusters_12, c.shadow_clusters_12, least(c.live_clusters_12, c.shadow_clusters_12), c.clusters_12],
            array[d.live_days_12, d.shadow_days_12, least(d.live_days_12, d.shadow_days_12), d.days_12],
            c.cells_12,  t.live_12 , t.shadow_12,
            array[ p.live_12 , p.shadow_12,  p.difference_12 ],
            array[ coalesce(c.live_12 + coalesce(p.live_alone_12, 0), p.live_alone_12) ,
                  coalesce(c.shadow_12 + coalesce(p.shadow_alone_12, 0), p.shadow_alone_12),
                   coalesce(c.difference_12 + coalesce(p.difference_alone_12, 0),
                                  p.difference_alone_12) ],
            array[ d.live_12 , d.shadow_12,  d.difference_12 ],
            array[ coalesce(c.live2_12 + coalesce(p.live_alone_12, 0), p.live_alone_12) ,
                  coalesce(c.shadow2_12 + coalesce(p.shadow_alone_12, 0), p.shadow_alone_12),
                   coalesce(c.difference2_12 + coalesce(p.difference_alone_12, 0),
                                  p.difference_alone_12) ],
            array[ p.live_period_12 , p.shadow_period_12,
                   p.difference_period_12 ]),
        (13, t.n_12::bigint, t.w_12,
            array[ t.of_live_13 ^ 2 / nullif(p.live_x2_13, 0) ,
                  t.of_shadow_13 ^ 2 / nullif(p.shadow_x2_13, 0)],
            array[c.live_clusters_13, c.shadow_clusters_13, least(c.live_clusters_13, c.shadow_clusters_13), c.clusters_12],
            array[d.live_days_13, d.shadow_days_13, least(d.live_days_13, d.shadow_days_13), d.days_12],
            c.cells_12,  t.live_13 , t.shadow_13,
            array[ p.live_13 , p.shadow_13,  p.difference_13 ],
            array[ coalesce(c.live_13 + coalesce(p.live_alone_13, 0), p.live_alone_13) ,
                  coalesce(c.shadow_13 + coalesce(p.shadow_alone_13, 0), p.shadow_alone_13),
                   coalesce(c.difference_13 + coalesce(p.difference_alone_13, 0),
                                  p.difference_alone_13) ],
            array[ d.live_13 , d.shadow_13,  d.difference_13 ],
            array[ coalesce(c.live2_13 + coalesce(p.live_alone_13, 0), p.live_alone_13) ,
                  coalesce(c.shadow2_13 + coalesce(p.shadow_alone_13, 0), p.shadow_alone_13),
                   coalesce(c.difference2_13 + coalesce(p.difference_alone_13, 0),
                                  p.difference_alone_13) ],
            array[ p.live_period_13 , p.shadow_period_13,
                   p.difference_period_13 ]),
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
                          '{}', '{}', array['yes']);
deallocate measured;
rollback;
