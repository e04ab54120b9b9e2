-- Every share, mean and ratio of the reports, by one estimator.
--
-- Each metric is R = Σ w y / Σ w x over the pairs (Hájek; x = 1 for a share or a mean), with w = 1/inclusion
-- probability, and for 'root' the square root of it. Its linearised residual is r = w (y - R x) / Σ w x (times 1/(2
-- sqrt R) for 'root'). There are two questions and two errors:
--   What will days like these bring? The sums of squares of (Σ r) by row, by cluster (the row if the capture has none),
--       by local day (shared shocks such as weather) and by cluster within day, combined by `spread`. low, high.
--   What happened in this period? Only sampling is uncertain: Σ over cells of (1 - π) k/(k-1) (Σ r² - (Σ r)²/k), k rows
--       drawn from the cell with probability π (Särndal, Swensson and Wretman 1992, 3.7 and 5.7; R's svydesign with
--       strata and fpc). period_low, period_high.

-- The statement of `measured` below for a question about these metrics: print it to read it, or EXPLAIN one of those
-- in docs/statements/. The words in braces are explained at `for_each_metric` (035_metrics.sql). Its arguments are
-- $1 stream, $2 deployment, $3 since, $4 until, $5 segment, $6 slices, $7 time zone, $8 horizon, $9 whether the period
-- holds little, $10 whether labels have several versions, $11 ids and $12 shares of the deployments of which only a
-- share is read, $13 names of the positive label. labelled: whether there is a horizon. drawn: whether only a share of
-- any deployment is read. named: whether the positive label is known by name.
--
-- It is composed from the requested metrics, some columns each, so that the pairs are read once for all of them,
-- nothing is computed for the others, and it is planned for this question. The pairs are read twice, by cluster and
-- day for the estimates and by cell for the residuals, because workers can share each of these scans, but neither a
-- scan with grouping sets nor a stored intermediate result. If only a share is read, what is read is stored, because
-- the scan costs more than the rest. Metrics that count the same pairs share weights: {g}.
create function gnomon_estimators.measured_statement(metrics text[], slices text[], labelled boolean, drawn boolean,
                                                     named boolean)
    returns text language plpgsql stable parallel safe as
$$
declare
    asked text[] := measured_statement.metrics;
    several boolean := cardinality(measured_statement.slices) <> 1;
    share text := case when drawn then 'gnomon_estimators.share_of(p.deployment_id, $11, $12)' else '1::float8' end;
    -- A row for each pair and slice.
    pairs text := case when labelled then $sql$
                          select p.*, {share} as share, {slice} as slice, null::boolean as agrees
                          from gnomon_estimators.labelled($1, $2, $3, $4, $5, $8, $9, $10) p$sql$
                      else $sql$
                          select p.*, {share} as share, {slice} as slice, null::float8 as truth_value,
                                 null::text as truth_label, null::float8[] as relevance,
                                 null::text[] as relevance_items, false as known, null::text as task
                          from gnomon_estimators.pairs_of($1, $2, $3, $4, $5) p$sql$ end
        || case when drawn then $sql$
                          where gnomon_estimators.within_share(p.request_id, {share})$sql$ else '' end
        || case when several then $sql$
                          offset '0' -- planner note 3$sql$ else '' end;
    -- If no label is positive, every decision that differs from a negative label is.
    positive text := case when not asked && '{precision,f1}' then 'null::boolean'
                          when named then '{side}_label = any ($13)'
                          else '({side}_label = truth_label) = (truth_value = 1)' end;
    -- A true class that is not among a side's classes has probability 0; the logarithm is clipped.
    class_probability text := case when 'log_loss' = any (asked) then $sql$
                     case when probabilities then case when truth_value = 1 then {side}_value else 1 - {side}_value end
                          when decided and {side}_scores is not null and {side}_items is not null
                          then coalesce({side}_scores[array_position({side}_items, truth_label)], 0) end$sql$
                        else 'null::float8' end;
    ndcg text := case when asked && '{ndcg@10,ndcg}' then $sql$
                     case when relevance is not null and array_position(relevance, 'NaN') is null
                               and not live_failed and not shadow_failed
                          then gnomon_estimators.ndcgs(gnomon_estimators.ranked({side}_items, {side}_scores),
                                                       relevance_items, relevance) end$sql$
                      else 'null::float8[]' end;
begin
    return gnomon_estimators.filled(gnomon_estimators.for_each_metric($sql$
    with flagged_pairs as {stored} ( -- planner note 7
        select deployment_id, slice, value, cluster, day, gnomon_estimators.cell_key(window_id, stratum) as cell,
               inclusion_probability as pi, weight / share as weight
               {each rows}, case when {given} then weight / share end as w_{g} {end each}
               {each paired}, ({live})::float8 as live_{code} {end each}
               {each metric}, ({shadow})::float8 as shadow_{code} {end each}
               {each ratio}, ({x_of_live})::float8 as live_x_{code},
                   ({x_of_shadow})::float8 as shadow_x_{code} {end each}
        -- `offset` ensures that a step is computed once. It is a text, because the planner takes a number for a limit,
        -- which workers cannot share.
        from (select *, {live_class_probability} as live_class_probability,
                     {shadow_class_probability} as shadow_class_probability,
                     {live_ndcg} as live_ndcg, {shadow_ndcg} as shadow_ndcg
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
                                 {live_positive} as live_positive, {shadow_positive} as shadow_positive
                          from ({pairs}
                          ) pairs offset '0') flags offset '0') kinds offset '0') answers offset '0' -- planner note 3
    ),
    -- A row without a cluster is its own cluster: `cells_by_weight` sums its square.
    crossed as materialized (
        select deployment_id, slice, value, cluster, day
               {each rows}, count(w_{g}) as n_{g}, sum(w_{g}) as w_{g} {end each}
               {each paired}, sum(w_{g} * live_{code}) as live_{code} {end each}
               {each metric}, sum(w_{g} * shadow_{code}) as shadow_{code} {end each}
               {each ratio}, sum(w_{g} * live_x_{code}) as live_x_{code},
                   sum(w_{g} * shadow_x_{code}) as shadow_x_{code},
                   count(*) filter (where w_{g} * live_x_{code} > 0) as live_m_{code},
                   count(*) filter (where w_{g} * shadow_x_{code} > 0) as shadow_m_{code} {end each}
        from flagged_pairs group by deployment_id, slice, value, cluster, day
    ),
    days as materialized (
        select deployment_id, slice, value, day{summed_up}
        from crossed group by deployment_id, slice, value, day
    ),
    sums as (
        select deployment_id, slice, value{summed_up}
        from days group by deployment_id, slice, value
    ),
    -- R and the denominator s of its residual
    totals as materialized (
        select deployment_id, slice, value, row_number() over (order by deployment_id, slice, value) as at
               {each rows}, n_{g}, w_{g} {end each}
               {each paired}, live_{code} / nullif({live_x}, 0) as live_{code}, {live_x} as of_live_{code},
                   nullif(case '{kind}' when 'root' then 2 * sqrt(live_{code} * {live_x}) else {live_x} end, 0)
                       as live_s_{code} {end each}
               {each metric}, shadow_{code} / nullif({shadow_x}, 0) as shadow_{code}, {shadow_x} as of_shadow_{code},
                   nullif(case '{kind}' when 'root' then 2 * sqrt(shadow_{code} * {shadow_x}) else {shadow_x} end, 0)
                       as shadow_s_{code} {end each}
        from sums
    ),
    -- The variances by cluster and by cluster within day, of rows with a cluster
    clusters as (
        select at, cluster
               {each rows}, sum(case when cluster is null then n_{g} else sign(n_{g}) end) as cells_{g},
                   sum(n_{g}) as n_{g} {end each}
               {each ratio}, sum(live_m_{code}) as live_m_{code}, sum(shadow_m_{code}) as shadow_m_{code} {end each}
               {each paired}, sum(live_{code}) as live_{code}, sum(live_{code} * live_{code}) as live2_{code},
                   sum((shadow_{code} - live_{code}) * (shadow_{code} - live_{code})) as difference2_{code} {end each}
               {each metric}, sum(shadow_{code}) as shadow_{code},
                   sum(shadow_{code} * shadow_{code}) as shadow2_{code} {end each}
        from (select t.at, x.cluster{residuals}
              from crossed x join totals t using (deployment_id, slice, value) offset '0') residuals -- planner note 3
        group by at, cluster
    ),
    by_cluster as (
        select at
               {each rows}, sum(cells_{g})::bigint as cells_{g},
                   sum(case when cluster is null then n_{g} else sign(n_{g}) end)::bigint as clusters_{g} {end each}
               {each ratio}, sum(case when cluster is null then live_m_{code} else sign(live_m_{code}) end)::bigint
                       as live_clusters_{code},
                   sum(case when cluster is null then shadow_m_{code} else sign(shadow_m_{code}) end)::bigint
                       as shadow_clusters_{code} {end each}
               {each paired}, sum(live_{code} * live_{code}) filter (where cluster is not null) as live_{code},
                   sum((shadow_{code} - live_{code}) * (shadow_{code} - live_{code})) filter (where cluster is not null)
                       as difference_{code},
                   sum(live2_{code}) filter (where cluster is not null) as live2_{code},
                   sum(difference2_{code}) filter (where cluster is not null) as difference2_{code} {end each}
               {each metric}, sum(shadow_{code} * shadow_{code}) filter (where cluster is not null) as shadow_{code},
                   sum(shadow2_{code}) filter (where cluster is not null) as shadow2_{code} {end each}
        from clusters group by at
    ),
    by_day as (
        select at
               {each rows}, count(*) filter (where n_{g} > 0) as days_{g} {end each}
               {each ratio}, count(*) filter (where live_m_{code} > 0) as live_days_{code},
                   count(*) filter (where shadow_m_{code} > 0) as shadow_days_{code} {end each}
               {each paired}, sum(live_{code} * live_{code}) as live_{code},
                   sum((shadow_{code} - live_{code}) * (shadow_{code} - live_{code})) as difference_{code} {end each}
               {each metric}, sum(shadow_{code} * shadow_{code}) as shadow_{code} {end each}
        from (select t.at{residuals}
              from days x join totals t using (deployment_id, slice, value) offset '0') residuals -- planner note 3
        group by at
    ),
    -- The totals are passed to the workers as arrays; every row has one (`left` tells the planner).
    weighted as not materialized ( -- planner note 7
        select t.at, x.cell, x.cluster is null as alone, x.pi, x.weight
               {each rows}, x.w_{g} {end each}
               {each paired}, x.w_{g} * (x.live_{code} - t.live_{code}{times_live_x}) / t.live_s_{code}
                   as live_{code} {end each}
               {each metric}, x.w_{g} * (x.shadow_{code} - t.shadow_{code}{times_shadow_x}) / t.shadow_s_{code}
                   as shadow_{code} {end each}
               {each ratio}, x.live_x_{code}, x.shadow_x_{code} {end each}
        from flagged_pairs x
        left join unnest( -- planner note 8
            array(select deployment_id from totals order by at), array(select slice from totals order by at),
            array(select value from totals order by at)
            {each paired}, array(select live_{code} from totals order by at),
                array(select live_s_{code} from totals order by at) {end each}
            {each metric}, array(select shadow_{code} from totals order by at),
                array(select shadow_s_{code} from totals order by at) {end each}
            ) with ordinality t(
            deployment_id, slice, value
            {each paired}, live_{code}, live_s_{code} {end each}
            {each metric}, shadow_{code}, shadow_s_{code} {end each}
            , at) using (deployment_id, slice, value)
        offset '0' -- planner note 3
    ),
    -- A cell of the ledger is a simple random sample, with probability π (`pi`), of the captures that it saw. Its rows
    -- that the question leaves out, or that never became a pair, are part of the sample with a residual of 0.
    cells_by_weight as (
        select at, cell, alone, weight, min(pi) as pi, count(*) as pairs
               {each rows}, sum(w_{g} * w_{g}) as w2_{g} {end each}
               {each paired}, sum(live_{code}) as live_{code}, sum(live_{code} * live_{code}) as live2_{code},
                   sum((shadow_{code} - live_{code}) * (shadow_{code} - live_{code})) as difference2_{code} {end each}
               {each metric}, sum(shadow_{code}) as shadow_{code},
                   sum(shadow_{code} * shadow_{code}) as shadow2_{code} {end each}
               {each ratio}, sum((w_{g} * live_x_{code}) ^ 2) as live_x2_{code},
                   sum((w_{g} * shadow_x_{code}) ^ 2) as shadow_x2_{code} {end each}
        from weighted group by at, cell, alone, weight
    ),
    -- If the service itself sampled, each capture was kept independently with probability 1 / (weight * pi).
    cells as (
        select at, cell, min(pi) as pi, sum(pairs) as pairs
               {each rows}, sum(w2_{g}) as w2_{g} {end each}
               {each paired}, sum(live_{code}) as live_{code}, sum(live2_{code}) as live2_{code},
                   sum(live2_{code}) filter (where alone) as live_alone_{code},
                   sum(live2_{code} * (pi - 1 / weight)) as live_kept_{code},
                   sum(difference2_{code}) as difference2_{code},
                   sum(difference2_{code}) filter (where alone) as difference_alone_{code},
                   sum(difference2_{code} * (pi - 1 / weight)) as difference_kept_{code} {end each}
               {each metric}, sum(shadow_{code}) as shadow_{code}, sum(shadow2_{code}) as shadow2_{code},
                   sum(shadow2_{code}) filter (where alone) as shadow_alone_{code},
                   sum(shadow2_{code} * (pi - 1 / weight)) as shadow_kept_{code} {end each}
               {each ratio}, sum(live_x2_{code}) as live_x2_{code}, sum(shadow_x2_{code}) as shadow_x2_{code} {end each}
        from cells_by_weight group by at, cell
    ),
    -- Kish's sums, the variances by row and of drawing from cells, and the squares of rows without a cluster
    by_cell as (
        select at
               {each rows}, sum(w2_{g}) as w2_{g} {end each}
               {each paired}, sum(live2_{code}) as live_{code}, sum(difference2_{code}) as difference_{code},
                   sum(live_alone_{code}) as live_alone_{code}, sum(difference_alone_{code}) as difference_alone_{code},
                   sum(factor * greatest(live2_{code} - live_{code} ^ 2 / rows_drawn, 0) + undrawn * live_{code} ^ 2
                       + greatest(live_kept_{code}, 0)) as live_period_{code},
                   sum(factor * greatest(difference2_{code} - (shadow_{code} - live_{code}) ^ 2 / rows_drawn, 0)
                       + undrawn * (shadow_{code} - live_{code}) ^ 2 + greatest(difference_kept_{code}, 0))
                       as difference_period_{code} {end each}
               {each metric}, sum(shadow2_{code}) as shadow_{code}, sum(shadow_alone_{code}) as shadow_alone_{code},
                   sum(factor * greatest(shadow2_{code} - shadow_{code} ^ 2 / rows_drawn, 0)
                       + undrawn * shadow_{code} ^ 2 + greatest(shadow_kept_{code}, 0))
                       as shadow_period_{code} {end each}
               {each ratio}, sum(live_x2_{code}) as live_x2_{code}, sum(shadow_x2_{code}) as shadow_x2_{code} {end each}
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
        {list metric} ({code}, t.n_{g}::bigint, t.w_{g},
            array[{only} t.of_live_{code} ^ 2 / nullif(p.{live_x2}, 0) {end},
                  t.of_shadow_{code} ^ 2 / nullif(p.{shadow_x2}, 0)],
            array[{live_clusters}, {shadow_clusters}, least({live_clusters}, {shadow_clusters}), c.clusters_{g}],
            array[{live_days}, {shadow_days}, least({live_days}, {shadow_days}), d.days_{g}],
            c.cells_{g}, {only} t.live_{code} {end}, t.shadow_{code},
            array[{only} p.live_{code} {end}, p.shadow_{code}, {only} p.difference_{code} {end}],
            array[{only} coalesce(c.live_{code} + coalesce(p.live_alone_{code}, 0), p.live_alone_{code}) {end},
                  coalesce(c.shadow_{code} + coalesce(p.shadow_alone_{code}, 0), p.shadow_alone_{code}),
                  {only} coalesce(c.difference_{code} + coalesce(p.difference_alone_{code}, 0),
                                  p.difference_alone_{code}) {end}],
            array[{only} d.live_{code} {end}, d.shadow_{code}, {only} d.difference_{code} {end}],
            array[{only} coalesce(c.live2_{code} + coalesce(p.live_alone_{code}, 0), p.live_alone_{code}) {end},
                  coalesce(c.shadow2_{code} + coalesce(p.shadow_alone_{code}, 0), p.shadow_alone_{code}),
                  {only} coalesce(c.difference2_{code} + coalesce(p.difference_alone_{code}, 0),
                                  p.difference_alone_{code}) {end}],
            array[{only} p.live_period_{code} {end}, p.shadow_period_{code},
                  {only} p.difference_period_{code} {end}]) {end each}
        ) m
    $sql$, asked), jsonb_build_object(
        'stored', case when drawn then 'materialized' else 'not materialized' end, -- planner note 7
        'pairs', gnomon_estimators.filled(pairs, jsonb_build_object(
            'share', share, 'slice', case when several then 'generate_subscripts($6, 1)' else '1' end)),
        'live_positive', replace(positive, '{side}', 'live'), 'shadow_positive', replace(positive, '{side}', 'shadow'),
        'live_class_probability', replace(class_probability, '{side}', 'live'),
        'shadow_class_probability', replace(class_probability, '{side}', 'shadow'),
        'live_ndcg', replace(ndcg, '{side}', 'live'), 'shadow_ndcg', replace(ndcg, '{side}', 'shadow'),
        -- Sums of a group of rows: n and w by {g}; w y and w x by metric.
        'summed_up', gnomon_estimators.for_each_metric($sql$
               {each rows}, sum(n_{g}) as n_{g}, sum(w_{g}) as w_{g} {end each}
               {each paired}, sum(live_{code}) as live_{code} {end each}
               {each metric}, sum(shadow_{code}) as shadow_{code} {end each}
               {each ratio}, sum(live_x_{code}) as live_x_{code}, sum(shadow_x_{code}) as shadow_x_{code},
                   sum(live_m_{code}) as live_m_{code}, sum(shadow_m_{code}) as shadow_m_{code} {end each}$sql$, asked),
        -- Residuals of these sums: Σ w (y - R x) / s.
        'residuals', gnomon_estimators.for_each_metric($sql$
                     {each rows}, x.n_{g} {end each}
                     {each ratio}, x.live_m_{code}, x.shadow_m_{code} {end each}
                     {each paired}, (x.live_{code} - t.live_{code} * x.{live_x}) / t.live_s_{code}
                         as live_{code} {end each}
                     {each metric}, (x.shadow_{code} - t.shadow_{code} * x.{shadow_x}) / t.shadow_s_{code}
                         as shadow_{code} {end each}$sql$, asked)));
end
$$;

-- The numbers of `estimates` below, for live and shadow and, in the variances, also for their difference.
--
-- clusters, days (live, shadow, difference, all rows): of the rows in the denominator, because the others' residuals are
-- 0. If all positive decisions are of one cluster, nothing is known about the precision of others.
create function gnomon_estimators.measured(stream text, deployment text, since timestamptz, until timestamptz, segment jsonb,
                                   slices text[], metrics text[], horizon interval, time_zone text, ids integer[],
                                   shares float8[], versions boolean)
    returns table (deployment_id integer, slice text, value text, code integer, n bigint, weight float8, kish float8[],
                   clusters bigint[], days bigint[], cells bigint, live float8, shadow float8, v_row float8[],
                   v_cluster float8[], v_day float8[], v_both float8[], v_period float8[])
    language plpgsql stable parallel safe set work_mem = '128MB' set enable_nestloop = off -- planner notes 5, 6
    set enable_sort = off set enable_incremental_sort = off as -- planner note 4
$$
declare
    labelled boolean := measured.horizon is not null;
    one_by_one boolean := labelled
        and gnomon_estimators.holds_little(measured.stream, measured.deployment, measured.since, measured.until);
    positives text[] := case when measured.metrics && '{precision,f1}'
                             then gnomon_estimators.positive_names(measured.stream) end;
begin
    return query execute gnomon_estimators.measured_statement(
        measured.metrics, measured.slices, labelled, measured.ids <> '{}', positives is not null)
    using measured.stream, measured.deployment, measured.since, measured.until, measured.segment, measured.slices,
          measured.time_zone, measured.horizon, one_by_one,
          labelled and not one_by_one
              and coalesce(measured.versions, gnomon_estimators.has_versions(measured.stream)),
          measured.ids, measured.shares, positives;
end
$$;

-- sides: 'live', 'shadow', 'difference' (shadow minus live, with the covariance), or 'pair' for metrics without sides.
-- slices: each of them all, stratum, hour, weekday, day, or segment:KEY. horizon: null for the metrics that need no label.
-- exact: true reads the pairs; false the rollups where these can say it; null: chosen by the number of pairs
-- (takes_sums).
-- ids, shares: the deployments of which only a share of the pairs is read (thinned). versions: `versions_in`.
-- interval_by: what the interval is based on: 'clusters, days' of these pairs; 'cohort, days' if the clusters are those
-- of the newest stored cohort (by_cluster); 'rows, days' if none is stored.
-- low, high: days like these; period_low, period_high: the traffic of this period, for which sampling is the only error
-- (null from the rollups).
create function gnomon_estimators.estimates(stream text, deployment text default null, since timestamptz default null,
                                    until timestamptz default null, segment jsonb default null,
                                    slices text[] default '{all}', metrics text[] default '{agreement}',
                                    horizon interval default null, time_zone text default 'UTC',
                                    exact boolean default true, ids integer[] default '{}',
                                    shares float8[] default '{}', versions boolean default null)
    returns table (stream text, deployment text, role text, slice text, value text, metric text, side text, n bigint,
                   n_effective float8, weight float8, clusters bigint, days bigint, estimate float8, se_row float8,
                   se_cluster float8, se_day float8, standard_error float8, low float8, high float8, status text,
                   interval_by text, se_period float8, period_low float8, period_high float8)
    language sql stable parallel safe set jit = off as -- planner notes 1, 2
$$
    with wanted as (
        select m.code, m.metric, m.kind, m.paired, array_position(estimates.metrics, m.family) as place
        from gnomon_estimators.metrics m where m.family = any (estimates.metrics)
    ),
    way as materialized (
        select estimates.horizon is null and estimates.slices = '{all}'
               and gnomon_estimators.summable(estimates.metrics)
               and gnomon_estimators.takes_sums(estimates.stream, estimates.deployment, estimates.since,
                                                estimates.until, estimates.segment, estimates.exact) as rolled
    ),
    -- Materialized, as everywhere when this is joined with other tables: evaluated once, however often the rows are
    -- read.
    computed as materialized (
        select x.*, null::timestamptz as kept_until
        from gnomon_estimators.measured(estimates.stream, estimates.deployment, estimates.since, estimates.until,
                                estimates.segment, estimates.slices, estimates.metrics, estimates.horizon,
                                estimates.time_zone, estimates.ids, estimates.shares, estimates.versions) x
        where not (select rolled from way)
        union all
        select x.deployment_id, 'all', x.value, x.code, x.n, x.weight, x.kish, x.clusters, x.days, x.cells, x.live,
               x.shadow, x.v_row, x.v_cluster, x.v_day, x.v_both, x.v_period, x.kept_until
        from gnomon_estimators.summed(estimates.stream, estimates.deployment, estimates.since, estimates.until,
                                      estimates.metrics, estimates.time_zone) x
        where (select rolled from way)
    ),
    -- NaN: a value in some slice was taken for a probability and is not one (`probability`).
    judged as (
        select *, bool_or(coalesce(live, 0) = 'NaN' or coalesce(shadow, 0) = 'NaN')
                      over (partition by deployment_id, code) as outside
        from computed
    ),
    -- For each side: the effective number of its rows, in which a cluster is one row at most.
    sides as (
        select x.deployment_id, x.slice, x.value, x.code, e.side, m.kind, x.n, e.kish, x.weight, x.clusters[e.at] as clusters,
               x.days[e.at] as days,
               e.estimate, x.v_period[v.at] as v_period, x.outside, d.*, greatest(abs(r.live), abs(r.shadow)) as scale,
               case when not (select rolled from way) then 'clusters' when x.kept_until is null then 'rows' else 'cohort' end
                   || case when x.days[e.at] > 1 then ', days' else '' end as interval_by
        from judged x
        join wanted m using (code)
        cross join lateral (select case when x.outside then null when m.kind = 'root' then sqrt(x.live) else x.live end
                                       as live,
                                   case when x.outside then null when m.kind = 'root' then sqrt(x.shadow)
                                        else x.shadow end as shadow) r
        cross join lateral (values ('live', 1, r.live, x.kish[1]),
                                   (case when m.paired then 'shadow' else 'pair' end, 2, r.shadow, x.kish[2]),
                                   ('difference', 3, r.shadow - r.live, least(x.kish[1], x.kish[2])))
            e(side, at, estimate, kish)
        -- The element of an array at index null is null.
        cross join lateral (select case when not x.outside then e.at end as at) v
        cross join lateral gnomon_estimators.spread(x.v_row[v.at], x.v_cluster[v.at], x.v_day[v.at], x.v_both[v.at], x.n,
                                                    x.clusters[4], x.days[4], x.cells, x.clusters[e.at],
                                                    x.days[e.at]) d
        where x.n > 0 and (m.paired or e.at = 2)
    ),
    bounded as materialized (
        select s.*, i.low, i.high, p.low as period_low, p.high as period_high
        from sides s
        left join lateral gnomon_estimators.interval95(
            case s.side when 'difference' then 'mean' else s.kind end, s.estimate, s.variance,
            s.kish, s.t, s.clusters, s.scale) i on s.variance is not null
        left join lateral gnomon_estimators.period_interval(
            case s.side when 'difference' then 'mean' else s.kind end, s.estimate, s.v_period, s.kish, s.n, s.weight,
            s.scale) p on true
    ),
    -- A difference of shares that never varied: combine the intervals of both shares by squares (Newcombe 1998). None is
    -- beyond -1 or 1.
    added as (
        select b.deployment_id, b.slice, b.value, b.code, b.side,
               case when q.low is not null then greatest(b.estimate - q.low, -1)
                    when b.side = 'difference' and b.kind = 'share' and b.low < -1 then -1 else b.low end as low,
               case when q.low is not null then least(b.estimate + q.high, 1)
                    when b.side = 'difference' and b.kind = 'share' and b.high > 1 then 1 else b.high end as high
        from bounded b
        left join bounded l on b.side = 'difference' and b.low is null and b.kind = 'share' and b.variance is not null
                           and l.deployment_id = b.deployment_id and l.slice = b.slice and l.value = b.value
                           and l.code = b.code
                           and l.side = 'live'
        left join bounded h on l.side is not null and h.deployment_id = b.deployment_id and h.slice = b.slice
                           and h.value = b.value and h.code = b.code and h.side = 'shadow'
        left join lateral (select sqrt((h.estimate - h.low) ^ 2 + (l.high - l.estimate) ^ 2) as low,
                                  sqrt((h.high - h.estimate) ^ 2 + (l.estimate - l.low) ^ 2) as high) q on true
    )
    select c.stream, c.deployment, c.role, q.slice, s.value, m.metric, s.side,
           coalesce(s.n, 0), s.kish, s.weight, s.clusters, s.days, s.estimate, s.se_row, s.se_cluster,
           s.se_day, sqrt(s.variance), a.low, a.high,
           case when c.problem is not null then c.problem
                when s.n is null and estimates.horizon is not null then 'no pair with a label that has come due'
                when s.n is null then 'no comparable pair in this period'
                when s.outside then gnomon_estimators.no_probabilities()
                when s.estimate is null then 'undefined: its denominator is 0'
                else gnomon_estimators.footing(s.clusters, s.days, a.low) end,
           s.interval_by, sqrt(s.v_period), s.period_low, s.period_high
    from gnomon_estimators.scope(estimates.stream, estimates.deployment) c
    cross join wanted m
    cross join unnest(estimates.slices) with ordinality q(slice, at)
    left join bounded s on s.deployment_id = c.deployment_id and s.code = m.code and s.slice = q.slice
    left join added a on a.deployment_id = s.deployment_id and a.slice = s.slice and a.value = s.value
                     and a.code = s.code and a.side = s.side
    order by c.role, c.deployment, q.at, s.value, m.place, m.code,
             array_position(array['live', 'shadow', 'pair', 'difference'], s.side)
$$;
