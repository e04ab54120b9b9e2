-- Every share, mean and ratio of the reports, by one estimator.
--
-- Each metric is R = Σ w y / Σ w x over the pairs (Hájek; x = 1 for a share or a mean), with w = 1/inclusion
-- probability, and for 'root' the square root of it. Its linearised residual is r = w (y - R x) / Σ w x (times
-- 1/(2 sqrt R) for 'root'), and its variance the sum over clusters of (Σ r)²: Horvitz and Thompson's linearisation,
-- see Särndal, Swensson and Wretman (1992), 5.5 and 5.7. Three variances stand side by side: by row (naive), by
-- cluster (the row where the capture has none), and by local day (shared shocks such as weather). standard_error is
-- sqrt(cluster + day), never less than either; the interval is made of it.

-- The numbers of `estimates` below, for live and shadow and, in the variances, their difference too.
--
-- The statement is put together from the metrics that are asked for, some columns each, so that the pairs are read for
-- all of them at once, nothing is computed for the others, and it is planned for the very question. They are read twice,
-- by day for the estimates and by cluster for the residuals, since workers can share each of these scans, and neither
-- one by grouping sets nor what is kept between the two.
create function report_v1.measured(stream text, deployment text, since timestamptz, until timestamptz, segment jsonb,
                                   slice text, metrics text[], horizon interval, time_zone text)
    returns table (deployment_id integer, value text, code integer, n bigint, weight float8, kish float8,
                   clusters bigint, days bigint, live float8, shadow float8, v_row float8[], v_cluster float8[],
                   v_day float8[])
    language plpgsql stable parallel safe set work_mem = '128MB' set enable_nestloop = off
    set enable_sort = off set enable_incremental_sort = off as
$$
declare
    asked text[] := measured.metrics;
    one_by_one boolean := measured.horizon is not null
        and report_v1.holds_little(measured.stream, measured.deployment, measured.since, measured.until);
    pairs text := case when measured.horizon is null
        then 'select p.*, null::float8 as truth_value, null::text as truth_label, null::float8[] as relevance,'
             ' null::text[] as relevance_items, false as known from report_v1.pairs_of($1, $2, $3, $4, $5) p'
        else 'select p.*, null::boolean as agrees from report_v1.labelled($1, $2, $3, $4, $5, $8, $9, $10) p' end;
    chance text := case when 'log_loss' = any (asked)
        then 'case when probabilities then case when truth_value = 1 then {}_value else 1 - {}_value end'
             ' when decided then {}_scores[array_position({}_items, truth_label)] end'
        else 'null::float8' end;
    ndcg text := case when 'ndcg@10' = any (asked)
        then 'case when relevance is not null then report_v1.ndcg({}_items, relevance_items, relevance) end'
        else 'null::float8' end;
begin
    return query execute format($sql$
    with said as not materialized (
        select deployment_id, value, cluster, day, %1$s
        -- `offset`: what a step computes is computed once; a text, since the planner takes a number for a limit, which
        -- workers cannot share.
        from (select *, %2$s as live_chance, %3$s as shadow_chance, %4$s as live_ndcg, %5$s as shadow_ndcg
              from (select *, finite and decided and truth_value in (0, 1) and live_value between 0 and 1
                                  and shadow_value between 0 and 1 as probabilities,
                           finite and live_label is null and shadow_label is null
                               and truth_value > '-infinity' and truth_value < 'infinity' as regression
                    from (select *, report_v1.slice_of($6, event_time, stratum, segments, $7) as value,
                                 (event_time at time zone $7)::date as day,
                                 live_error_kind is not null as live_failed, outcome <> 'scored' as shadow_failed,
                                 live_value > '-infinity' and live_value < 'infinity'
                                     and shadow_value > '-infinity' and shadow_value < 'infinity' as finite,
                                 live_label is not null and shadow_label is not null and truth_label is not null
                                     as decided,
                                 live_label = truth_label as live_right, shadow_label = truth_label as shadow_right
                          from (%6$s) pairs offset '0') flags offset '0') kinds offset '0') answers
    ),
    days as materialized (select deployment_id, value, day, %7$s from said group by deployment_id, value, day),
    sums as (select deployment_id, value, %8$s from days group by deployment_id, value),
    totals as materialized (select deployment_id, value, row_number() over (order by deployment_id, value) as at, %9$s
                            from sums),
    -- A row without a cluster is its own. The totals are handed to the workers as arrays; every row has some (`left`
    -- says so to the planner). By its place among the totals and not by deployment and value: of fewer columns the
    -- planner expects fewer groups, few enough for the workers to add them up.
    clusters as (
        select at, cluster, %10$s
        from (select t.at, s.cluster, %11$s
              from said s
              left join unnest(array(select deployment_id from totals order by at),
                               array(select value from totals order by at), %12$s)
                  with ordinality t(deployment_id, value, %13$s, at) using (deployment_id, value)) weighted
        group by at, cluster
    ),
    by_cluster as (select at, %14$s from clusters group by at),
    by_day as (
        select deployment_id, value, %15$s
        from (select d.deployment_id, d.value, %16$s
              from days d join totals t using (deployment_id, value) offset '0') residuals
        group by deployment_id, value
    )
    select t.deployment_id, t.value, m.*
    from totals t
    join by_cluster c using (at)
    join by_day d using (deployment_id, value)
    cross join lateral (values %17$s) m
    $sql$,
    -- said
    report_v1.for_each_metric('case when {given} then weight end as w_{k}, ({live})::float8 as live_{k},'
        ' ({shadow})::float8 as shadow_{k}, ({live_x})::float8 as live_x_{k}, ({shadow_x})::float8 as shadow_x_{k}',
        asked),
    replace(chance, '{}', 'live'), replace(chance, '{}', 'shadow'), replace(ndcg, '{}', 'live'),
    replace(ndcg, '{}', 'shadow'), pairs,
    -- days
    report_v1.for_each_metric('count(w_{k}) as n_{k}, sum(w_{k}) as w_{k}, sum(w_{k} * w_{k}) as w2_{k},'
        ' sum(w_{k} * live_{k}) as live_{k}, sum(w_{k} * shadow_{k}) as shadow_{k},'
        ' sum(w_{k} * live_x_{k}) as live_x_{k}, sum(w_{k} * shadow_x_{k}) as shadow_x_{k}', asked),
    -- sums
    report_v1.for_each_metric('sum(n_{k})::bigint as n_{k}, sum(w_{k}) as w_{k}, sum(w2_{k}) as w2_{k},'
        ' sum(live_{k}) as live_{k}, sum(shadow_{k}) as shadow_{k}, sum(live_x_{k}) as live_x_{k},'
        ' sum(shadow_x_{k}) as shadow_x_{k}', asked),
    -- totals: R and the denominator s of its residual
    report_v1.for_each_metric('n_{k}, w_{k}, w_{k} * w_{k} / nullif(w2_{k}, 0) as kish_{k},'
        ' live_{k} / nullif(live_x_{k}, 0) as live_{k}, shadow_{k} / nullif(shadow_x_{k}, 0) as shadow_{k},'
        ' nullif(case ''{kind}'' when ''root'' then 2 * sqrt(live_{k} * live_x_{k}) else live_x_{k} end, 0) as live_s_{k},'
        ' nullif(case ''{kind}'' when ''root'' then 2 * sqrt(shadow_{k} * shadow_x_{k}) else shadow_x_{k} end, 0)'
        ' as shadow_s_{k}', asked),
    -- clusters: residuals, by group and by row
    report_v1.for_each_metric('count(w_{k}) as n_{k}, sum(live_{k}) as live_{k}, sum(shadow_{k}) as shadow_{k},'
        ' sum(live_{k} * live_{k}) as live2_{k}, sum(shadow_{k} * shadow_{k}) as shadow2_{k},'
        ' sum((shadow_{k} - live_{k}) * (shadow_{k} - live_{k})) as difference2_{k}', asked),
    report_v1.for_each_metric('s.w_{k}, s.w_{k} * (s.live_{k} - t.live_{k} * s.live_x_{k}) / t.live_s_{k} as live_{k},'
        ' s.w_{k} * (s.shadow_{k} - t.shadow_{k} * s.shadow_x_{k}) / t.shadow_s_{k} as shadow_{k}', asked),
    report_v1.for_each_metric('array(select live_{k} from totals order by at),'
        ' array(select shadow_{k} from totals order by at),'
        ' array(select live_s_{k} from totals order by at),'
        ' array(select shadow_s_{k} from totals order by at)', asked),
    report_v1.for_each_metric('live_{k}, shadow_{k}, live_s_{k}, shadow_s_{k}', asked),
    -- variances of live, shadow and difference: by row, by cluster
    report_v1.for_each_metric(
        'array[sum(live2_{k}), sum(shadow2_{k}), sum(difference2_{k})] as row_{k},'
        ' array[sum(case when cluster is null then live2_{k} else live_{k} * live_{k} end),'
        ' sum(case when cluster is null then shadow2_{k} else shadow_{k} * shadow_{k} end),'
        ' sum(case when cluster is null then difference2_{k} else (shadow_{k} - live_{k}) * (shadow_{k} - live_{k}) end)]'
        ' as cluster_{k}, sum(case when cluster is null then n_{k} else sign(n_{k}) end)::bigint as clusters_{k}', asked),
    -- by day
    report_v1.for_each_metric('array[sum(live_{k} * live_{k}), sum(shadow_{k} * shadow_{k}),'
        ' sum((shadow_{k} - live_{k}) * (shadow_{k} - live_{k}))] as day_{k},'
        ' count(*) filter (where n_{k} > 0) as days_{k}', asked),
    report_v1.for_each_metric('d.n_{k}, (d.live_{k} - t.live_{k} * d.live_x_{k}) / t.live_s_{k} as live_{k},'
        ' (d.shadow_{k} - t.shadow_{k} * d.shadow_x_{k}) / t.shadow_s_{k} as shadow_{k}', asked),
    report_v1.for_each_metric('({k}, n_{k}, w_{k}, kish_{k}, clusters_{k}, days_{k}, t.live_{k}, t.shadow_{k}, row_{k},'
        ' cluster_{k}, day_{k})', asked))
    using measured.stream, measured.deployment, measured.since, measured.until, measured.segment, measured.slice,
          measured.time_zone, measured.horizon,
          one_by_one, measured.horizon is not null and not one_by_one and report_v1.has_versions(measured.stream);
end
$$;
-- sides: 'live', 'shadow', 'difference' (shadow less live, the covariance included), or 'pair' for what has no sides.
-- slice: all, stratum, hour, weekday, day, or segment:KEY. horizon: null for the metrics that need no label.
-- exact: true reads the pairs, false the rollups where these can say it, null whichever the size bids (takes_sums).
-- interval_by: what the interval knows, 'clusters, days' of these pairs; 'cohort, days' where the clusters are those of
-- the newest kept cohort (by_cluster); 'rows, days' where none is kept.
create function report_v1.estimates(stream text, deployment text default null, since timestamptz default null,
                                    until timestamptz default null, segment jsonb default null,
                                    slice text default 'all', metrics text[] default '{agreement}',
                                    horizon interval default null, time_zone text default 'UTC',
                                    exact boolean default true)
    returns table (stream text, deployment text, role text, slice text, value text, metric text, side text, n bigint,
                   n_effective float8, weight float8, clusters bigint, days bigint, estimate float8, se_row float8,
                   se_cluster float8, se_day float8, standard_error float8, low float8, high float8, status text,
                   interval_by text)
    language sql stable parallel safe as
$$
    with wanted as (
        select m.code, m.metric, m.kind, m.paired, array_position(estimates.metrics, m.family) as place
        from report_v1.metrics m where m.family = any (estimates.metrics)
    ),
    way as materialized (
        select s.sums, s.sums and estimates.slice = 'all'
                       and report_v1.takes_sums(estimates.stream, estimates.deployment, estimates.since,
                                                estimates.until, estimates.segment, estimates.exact) as rolled
        from (select estimates.horizon is null and report_v1.summable(estimates.metrics) as sums) s
    ),
    -- Materialized, as wherever this stands beside other tables: once, however often the rows are looked through.
    computed as materialized (
        select x.*, null::timestamptz as kept_until
        from report_v1.measured(estimates.stream, estimates.deployment, estimates.since, estimates.until,
                                estimates.segment, estimates.slice, estimates.metrics, estimates.horizon,
                                estimates.time_zone) x
        where not (select sums from way)
        union all
        select x.*
        from report_v1.summed(estimates.stream, estimates.deployment, estimates.since, estimates.until,
                              estimates.segment, estimates.slice, estimates.metrics, estimates.time_zone,
                              (select rolled from way)) x
        where (select sums from way)
    ),
    sides as (
        select x.deployment_id, x.value, x.code, e.side,
               case when m.kind = 'share' and e.side = 'difference' then 'mean' else m.kind end as kind,
               x.n, x.kish, x.weight, x.clusters, x.days, e.estimate, x.v_row[e.at] as v_row,
               case when not (select rolled from way) then 'clusters' when x.kept_until is null then 'rows' else 'cohort' end
                   || case when x.days > 1 then ', days' else '' end as interval_by,
               -- One day says nothing of the variation between days.
               x.v_cluster[e.at] as v_cluster, case when x.days > 1 then x.v_day[e.at] end as v_day
        from computed x
        join wanted m using (code)
        cross join lateral (select case when m.kind = 'root' then sqrt(x.live) else x.live end as live,
                                   case when m.kind = 'root' then sqrt(x.shadow) else x.shadow end as shadow) r
        cross join lateral (values ('live', 1, r.live),
                                   (case when m.paired then 'shadow' else 'pair' end, 2, r.shadow),
                                   ('difference', 3, r.shadow - r.live)) e(side, at, estimate)
        where x.n > 0 and (m.paired or e.at = 2)
    )
    select c.stream, c.deployment, c.role, estimates.slice, s.value, m.metric, s.side,
           coalesce(s.n, 0), s.kish, s.weight, s.clusters, s.days, s.estimate, sqrt(s.v_row), sqrt(s.v_cluster),
           sqrt(s.v_day), sqrt(v.v), i.low, i.high,
           case when c.problem is not null then c.problem
                when s.n is null and estimates.horizon is not null then 'no pair with a label that has come due'
                when s.n is null then 'no comparable pair in this period'
                when s.estimate is null then 'undefined: its denominator is 0'
                else 'ok' end,
           s.interval_by
    from report_v1.scope(estimates.stream, estimates.deployment) c
    cross join wanted m
    left join sides s on s.deployment_id = c.deployment_id and s.code = m.code
    left join lateral (select coalesce(s.v_cluster, s.v_row) + coalesce(s.v_day, 0) as v) v on true
    left join lateral report_v1.interval95(s.kind, s.estimate, v.v, least(s.kish, s.clusters)) i on true
    order by c.role, c.deployment, s.value, m.place, m.code,
             array_position(array['live', 'shadow', 'pair', 'difference'], s.side)
$$;
