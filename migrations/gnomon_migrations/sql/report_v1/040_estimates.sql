-- Every share, mean and ratio of the reports, by one estimator.
--
-- Each metric is R = Σ w y / Σ w x over the pairs (Hájek; x = 1 for a share or a mean), with w = 1/inclusion
-- probability, and for 'root' the square root of it. Its linearised residual is r = w (y - R x) / Σ w x (times
-- 1/(2 sqrt R) for 'root'), and its variance the sum over clusters of (Σ r)²: Horvitz and Thompson's linearisation,
-- see Särndal, Swensson and Wretman (1992), 5.5 and 5.7. Three variances stand side by side: by row (naive), by
-- cluster (the row where the capture has none), and by local day (shared shocks such as weather). standard_error is
-- sqrt(cluster + day), never less than either; the interval is made of it.
--
-- sides: 'live', 'shadow', 'difference' (shadow less live, the covariance included), or 'pair' for what has no sides.
-- slice: all, stratum, hour, weekday, day, or segment:KEY. horizon: null for the metrics that need no label.
create function report_v1.estimates(stream text, deployment text default null, since timestamptz default null,
                                    until timestamptz default null, segment jsonb default null,
                                    slice text default 'all', metrics text[] default '{agreement}',
                                    horizon interval default null, time_zone text default 'UTC')
    returns table (stream text, deployment text, role text, slice text, value text, metric text, side text, n bigint,
                   n_effective float8, weight float8, clusters bigint, days bigint, estimate float8, se_row float8,
                   se_cluster float8, se_day float8, standard_error float8, low float8, high float8, status text)
    language sql stable parallel safe set plan_cache_mode = force_custom_plan set work_mem = '64MB' as
$$
    with base as not materialized (
        select p.deployment_id, p.event_time, p.stratum, p.segments, p.cluster, p.weight, p.live_value, p.live_label,
               p.live_scores, p.live_items, p.shadow_value, p.shadow_label, p.shadow_scores, p.shadow_items,
               p.live_error_kind, p.outcome, p.agrees, null::float8 as truth_value, null::text as truth_label,
               null::float8[] as relevance, null::text[] as relevance_items, null::text as label_state
        from report_v1.pairs_of(estimates.stream, estimates.deployment, estimates.since, estimates.until,
                                estimates.segment) p
        where estimates.horizon is null
        union all
        select p.deployment_id, p.event_time, p.stratum, p.segments, p.cluster, p.weight, p.live_value, p.live_label,
               p.live_scores, p.live_items, p.shadow_value, p.shadow_label, p.shadow_scores, p.shadow_items,
               p.live_error_kind, p.outcome, null, p.truth_value, p.truth_label, p.relevance, p.relevance_items,
               p.label_state
        from report_v1.labelled(estimates.stream, estimates.deployment, estimates.since, estimates.until,
                                estimates.segment, estimates.horizon) p
        where estimates.horizon is not null
    ),
    -- The metrics asked for. A paired one has both sides.
    wanted as materialized (
        select w.code, w.metric, w.kind, w.paired, array_position(estimates.metrics, w.family) as place
        from (values (1, 'agreement', 'agreement', 'share', false), (2, 'error', 'error', 'share', true),
                     (3, 'timed_out', 'timed_out', 'share', false),
                     (4, 'both_answered', 'error_cells', 'share', false),
                     (5, 'only_live_failed', 'error_cells', 'share', false),
                     (6, 'only_shadow_failed', 'error_cells', 'share', false),
                     (7, 'both_failed', 'error_cells', 'share', false), (8, 'value', 'value', 'mean', true),
                     (9, 'absolute_difference', 'absolute_difference', 'mean', false),
                     (10, 'label_coverage', 'label_coverage', 'share', false),
                     (11, 'accuracy', 'accuracy', 'share', true), (12, 'precision', 'precision', 'share', true),
                     (13, 'recall', 'recall', 'share', true), (14, 'log_loss', 'log_loss', 'mean', true),
                     (15, 'brier', 'brier', 'mean', true), (16, 'rmse', 'rmse', 'root', true),
                     (17, 'mae', 'mae', 'mean', true), (18, 'ndcg@10', 'ndcg@10', 'mean', true)
             ) w(code, metric, family, kind, paired)
        where w.family = any (estimates.metrics)
    ),
    -- What a row says about each of them: y of both sides, null where it says nothing; x is 1 but for the ratios.
    said as materialized (
        select b.deployment_id, b.cluster, b.weight as w, m.code,
               report_v1.slice_of(estimates.slice, b.event_time, b.stratum, b.segments, estimates.time_zone) as value,
               (b.event_time at time zone estimates.time_zone)::date as day,
               case when m.paired then y.live end as live_y, y.shadow as shadow_y,
               case when not m.paired then null when m.code = 12 then t.live_positive
                    when m.code = 13 then b.truth_value else 1 end as live_x,
               case m.code when 12 then t.shadow_positive when 13 then b.truth_value else 1 end as shadow_x
        from base b
        -- Lateral, and not to be flattened: the pairs are read once, whatever the planner thinks of their number.
        cross join lateral (select w.* from wanted w where b.weight is not null offset 0) m
        cross join lateral (
            select b.live_error_kind is not null as live_failed, b.outcome <> 'scored' as shadow_failed,
                   b.live_value > '-infinity' and b.live_value < 'infinity'
                       and b.shadow_value > '-infinity' and b.shadow_value < 'infinity' as finite,
                   b.live_label is not null and b.shadow_label is not null and b.truth_label is not null as decided
            ) f
        cross join lateral (
            select f.decided and b.truth_value in (0, 1) as binary_decision,
                   f.finite and f.decided and b.truth_value in (0, 1)
                       and b.live_value between 0 and 1 and b.shadow_value between 0 and 1 as probabilities,
                   f.finite and b.live_label is null and b.shadow_label is null
                       and b.truth_value > '-infinity' and b.truth_value < 'infinity' as regression,
                   ((b.truth_value = 1) = (b.live_label = b.truth_label))::integer as live_positive,
                   ((b.truth_value = 1) = (b.shadow_label = b.truth_label))::integer as shadow_positive
            ) t
        cross join lateral (
            select case when m.code <> 14 then null when t.probabilities and b.truth_value = 1 then b.live_value
                        when t.probabilities then 1 - b.live_value
                        when f.decided then b.live_scores[array_position(b.live_items, b.truth_label)] end as live,
                   case when m.code <> 14 then null when t.probabilities and b.truth_value = 1 then b.shadow_value
                        when t.probabilities then 1 - b.shadow_value
                        when f.decided then b.shadow_scores[array_position(b.shadow_items, b.truth_label)] end as shadow
            ) c
        cross join lateral (
            select case m.code
                       when 2 then f.live_failed::integer
                       when 8 then case when f.finite and not f.live_failed and not f.shadow_failed
                                        then b.live_value end
                       when 11 then case when f.decided then (b.live_label = b.truth_label)::integer end
                       when 12 then case when t.binary_decision then t.live_positive * b.truth_value end
                       when 13 then case when t.binary_decision then t.live_positive * b.truth_value end
                       when 14 then case when c.live between 0 and 1 and c.shadow between 0 and 1
                                         then -ln(least(greatest(c.live, 1e-6), 1 - 1e-6)) end
                       when 15 then case when t.probabilities then (b.live_value - b.truth_value) ^ 2 end
                       when 16 then case when t.regression then (b.live_value - b.truth_value) ^ 2 end
                       when 17 then case when t.regression then abs(b.live_value - b.truth_value) end
                       when 18 then report_v1.ndcg(b.live_items, b.relevance_items, b.relevance)
                   end::float8 as live,
                   case m.code
                       when 1 then b.agrees::integer
                       when 2 then f.shadow_failed::integer
                       when 3 then (b.outcome = 'timed_out')::integer
                       when 4 then (not f.live_failed and not f.shadow_failed)::integer
                       when 5 then (f.live_failed and not f.shadow_failed)::integer
                       when 6 then (f.shadow_failed and not f.live_failed)::integer
                       when 7 then (f.live_failed and f.shadow_failed)::integer
                       when 8 then case when f.finite and not f.live_failed and not f.shadow_failed
                                        then b.shadow_value end
                       when 9 then case when f.finite and not f.live_failed and not f.shadow_failed
                                        then abs(b.shadow_value - b.live_value) end
                       when 10 then (b.label_state in ('labelled', 'negative'))::integer
                       when 11 then case when f.decided then (b.shadow_label = b.truth_label)::integer end
                       when 12 then case when t.binary_decision then t.shadow_positive * b.truth_value end
                       when 13 then case when t.binary_decision then t.shadow_positive * b.truth_value end
                       when 14 then case when c.live between 0 and 1 and c.shadow between 0 and 1
                                         then -ln(least(greatest(c.shadow, 1e-6), 1 - 1e-6)) end
                       when 15 then case when t.probabilities then (b.shadow_value - b.truth_value) ^ 2 end
                       when 16 then case when t.regression then (b.shadow_value - b.truth_value) ^ 2 end
                       when 17 then case when t.regression then abs(b.shadow_value - b.truth_value) end
                       when 18 then report_v1.ndcg(b.shadow_items, b.relevance_items, b.relevance)
                   end::float8 as shadow
            ) y
        where y.shadow is not null and (not m.paired or y.live is not null)
    ),
    totals as (
        select s.deployment_id, s.value, s.code, m.metric, m.kind, m.place, s.n, s.weight, s.kish, s.live_x, s.shadow_x,
               s.live, s.shadow
        from (select deployment_id, value, code, count(*) as n, sum(w) as weight, sum(w) ^ 2 / sum(w * w) as kish,
                     sum(w * live_x) as live_x, sum(w * shadow_x) as shadow_x,
                     sum(w * live_y) / nullif(sum(w * live_x), 0) as live,
                     sum(w * shadow_y) / nullif(sum(w * shadow_x), 0) as shadow
              from said group by deployment_id, value, code) s
        join wanted m using (code)
    ),
    -- Residuals, summed by cluster and by day in one pass; a row without a cluster is its own.
    residuals as (
        select t.deployment_id, t.value, t.code, s.cluster, s.day, grouping(s.day) = 1 as by_cluster,
               sum(r.live) as live, sum(r.shadow) as shadow, sum(r.live * r.live) as live_rows,
               sum(r.shadow * r.shadow) as shadow_rows, sum((r.shadow - r.live) * (r.shadow - r.live)) as difference_rows, count(*) as n
        from said s
        join totals t using (deployment_id, value, code)
        cross join lateral (
            select s.w * (s.live_y - t.live * s.live_x) / nullif(t.live_x, 0)
                       / case when t.kind = 'root' then nullif(2 * sqrt(t.live), 0) else 1 end as live,
                   s.w * (s.shadow_y - t.shadow * s.shadow_x) / nullif(t.shadow_x, 0)
                       / case when t.kind = 'root' then nullif(2 * sqrt(t.shadow), 0) else 1 end as shadow) r
        group by grouping sets ((t.deployment_id, t.value, t.code, s.cluster),
                                (t.deployment_id, t.value, t.code, s.day))
    ),
    variances as (
        select deployment_id, value, code,
               sum(live_rows) filter (where not by_cluster) as live_rows,
               sum(shadow_rows) filter (where not by_cluster) as shadow_rows,
               sum(difference_rows) filter (where not by_cluster) as difference_rows,
               sum(case when cluster is null then live_rows else live ^ 2 end) filter (where by_cluster) as live_clusters,
               sum(case when cluster is null then shadow_rows else shadow ^ 2 end) filter (where by_cluster)
                   as shadow_clusters,
               sum(case when cluster is null then difference_rows else (shadow - live) ^ 2 end)
                   filter (where by_cluster) as difference_clusters,
               sum(live ^ 2) filter (where not by_cluster) as live_days,
               sum(shadow ^ 2) filter (where not by_cluster) as shadow_days,
               sum((shadow - live) ^ 2) filter (where not by_cluster) as difference_days,
               sum(case when cluster is null then n else 1 end) filter (where by_cluster)::bigint as clusters,
               count(*) filter (where not by_cluster) as days
        from residuals group by deployment_id, value, code
    ),
    sides as (
        select t.deployment_id, t.value, t.code, e.side,
               case when t.kind = 'share' and e.side = 'difference' then 'mean' else t.kind end as kind,
               t.n, t.kish, t.weight, v.clusters, v.days, e.estimate, e.v_row,
               -- One day says nothing of the variation between days.
               e.v_cluster, case when v.days > 1 then e.v_day end as v_day
        from totals t
        join variances v using (deployment_id, value, code)
        cross join lateral (values
            ('live', case when t.kind = 'root' then sqrt(t.live) else t.live end, v.live_rows, v.live_clusters,
             v.live_days),
            (case when t.live_x is null then 'pair' else 'shadow' end,
             case when t.kind = 'root' then sqrt(t.shadow) else t.shadow end, v.shadow_rows, v.shadow_clusters,
             v.shadow_days),
            ('difference', case when t.kind = 'root' then sqrt(t.shadow) - sqrt(t.live) else t.shadow - t.live end,
             v.difference_rows, v.difference_clusters, v.difference_days)
            ) e(side, estimate, v_row, v_cluster, v_day)
        where t.live_x is not null or e.side = case when t.live_x is null then 'pair' else 'shadow' end
    )
    select c.stream, c.deployment, c.role, estimates.slice, s.value, m.metric, s.side,
           coalesce(s.n, 0), s.kish, s.weight, s.clusters, s.days, s.estimate, sqrt(s.v_row), sqrt(s.v_cluster),
           sqrt(s.v_day), sqrt(s.v_cluster + coalesce(s.v_day, 0)), i.low, i.high,
           case when c.problem is not null then c.problem
                when s.n is null and estimates.horizon is not null then 'no pair with a label that has come due'
                when s.n is null then 'no comparable pair in this period'
                when s.estimate is null then 'undefined: its denominator is 0'
                else 'ok' end
    from report_v1.scope(estimates.stream, estimates.deployment) c
    cross join wanted m
    left join sides s on s.deployment_id = c.deployment_id and s.code = m.code
    left join lateral report_v1.interval95(s.kind, s.estimate, s.v_cluster + coalesce(s.v_day, 0),
                                           least(s.kish, s.clusters)) i on true
    order by c.role, c.deployment, s.value, m.place, m.code,
             array_position(array['live', 'shadow', 'pair', 'difference'], s.side)
$$;
