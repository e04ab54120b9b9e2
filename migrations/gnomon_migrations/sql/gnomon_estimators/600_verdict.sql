-- What a verdict rests on, by whole local days of sealed cohorts (docs/verdict.md). The client asks for each part; the
-- decision itself is not made in SQL.

-- The pairs of a verdict that both sides answered, each with its local day, its unit (the cluster; a request without one
-- is its own) and, with a horizon, the label that counts. Without a horizon, nothing is asked of labels.
create function gnomon_estimators.verdict_pairs(stream text, deployment text, since timestamptz, until timestamptz,
                                        horizon interval, time_zone text)
    returns table (day date, unit text, clustered boolean, segments jsonb, w float8, live_value float8,
                   live_label text, shadow_value float8, shadow_label text, same boolean, truth_value float8,
                   truth_label text, known boolean, live_items text[], live_scores float8[], shadow_items text[],
                   shadow_scores float8[], relevance_items text[], relevance float8[])
    language sql stable parallel safe rows 100000 set enable_nestloop = off as -- planner note 6
$$
    select (p.event_time at time zone verdict_pairs.time_zone)::date,
           coalesce(p.cluster, p.source_partition || ':' || p.source_offset), p.cluster is not null, p.segments, p.weight,
           p.live_value, p.live_label, p.shadow_value, p.shadow_label, null::boolean, p.truth_value, p.truth_label,
           p.known, p.live_items, p.live_scores, p.shadow_items, p.shadow_scores, p.relevance_items, p.relevance
    from gnomon_estimators.labelled(verdict_pairs.stream, verdict_pairs.deployment, verdict_pairs.since, verdict_pairs.until,
                            null, verdict_pairs.horizon) p
    where p.live_error_kind is null and p.outcome = 'scored'
    union all
    select (p.event_time at time zone verdict_pairs.time_zone)::date,
           coalesce(p.cluster, p.source_partition || ':' || p.source_offset), p.cluster is not null, p.segments, p.weight,
           p.live_value, p.live_label, p.shadow_value, p.shadow_label, p.agrees, null, null, false,
           null, null, null, null, null, null
    from gnomon_estimators.pairs_of(verdict_pairs.stream, verdict_pairs.deployment, verdict_pairs.since, verdict_pairs.until,
                            null) p
    where verdict_pairs.horizon is null and p.live_error_kind is null and p.outcome = 'scored' and p.comparable
$$;

-- y and x of either side, row by row, for each metric asked for, over everything (segment '') and, of the deciding
-- metric, over each segment of the given keys. variant: complete (labelled requests, weight w), weighted (w divided by
-- the labelled share of requests with the same segments, live decision and tenth of the live value, at least 0.05),
-- worst (a request without a label says the worst that it could).
create function gnomon_estimators.verdict_rows(stream text, deployment text, since timestamptz, until timestamptz,
                                       horizon interval, time_zone text, metrics text[], keys text[])
    returns table (metric text, segment text, variant text, day date, unit text, w float8, live_y float8, live_x float8,
                   shadow_y float8, shadow_x float8)
    language sql stable parallel safe rows 1000000 as
$$
    with pairs as materialized (
        select *, (select jsonb_object_agg(k, p.segments -> k) from unnest(verdict_rows.keys) k) as watched,
               case when p.live_value <> 'NaN' then width_bucket(p.live_value, 0, 1, 10) end as tenth,
               p.live_label is not null and p.shadow_label is not null as decided,
               gnomon_estimators.chance(p.live_value) as live_chance,
               gnomon_estimators.chance(p.shadow_value) as shadow_chance,
               p.live_value > '-infinity' and p.live_value < 'infinity'
                   and p.shadow_value > '-infinity' and p.shadow_value < 'infinity' as finite
        from gnomon_estimators.verdict_pairs(verdict_rows.stream, verdict_rows.deployment, verdict_rows.since,
                                     verdict_rows.until, verdict_rows.horizon, verdict_rows.time_zone) p
    ),
    -- One value that is no probability, and none is (docs/statistics.md): then there is no Brier score and no log loss.
    scope as (select coalesce(bool_and(p.live_chance < 'NaN' and p.shadow_chance < 'NaN'), false) as probabilities
              from pairs p where p.finite),
    groups as (
        select watched, live_label, tenth, coalesce(sum(w) filter (where known), 0) / sum(w) as labelled
        from pairs group by 1, 2, 3
    ),
    weighted as (
        select p.*, p.w / greatest(g.labelled, 0.05) as corrected
        from pairs p
        join groups g on g.watched is not distinct from p.watched and g.live_label is not distinct from p.live_label
                     and g.tenth is not distinct from p.tenth
    ),
    valued as (
        select p.day, p.unit, p.segments, p.w, p.corrected, p.known, m.*
        from weighted p
        cross join scope
        cross join lateral (select p.live_label = p.truth_label as live_right, p.shadow_label = p.truth_label as shadow_right,
                                   p.known and p.decided and p.truth_label is not null as judged,
                                   p.known and p.finite and p.truth_value > '-infinity' and p.truth_value < 'infinity'
                                       as measured,
                                   -- Of a request without a label, the truth that is worst for the challenger.
                                   case when p.known then p.truth_value
                                        else ((p.shadow_value - 1) ^ 2 - (p.live_value - 1) ^ 2
                                              > p.shadow_value ^ 2 - p.live_value ^ 2)::integer end as y) t
        cross join lateral (values
            ('accuracy', case when p.known then t.judged else p.decided end,
             case when p.known then t.live_right else p.live_label <> p.shadow_label end::integer::float8, 1::float8,
             case when p.known then t.shadow_right else false end::integer::float8, 1::float8),
            ('precision', t.judged and p.truth_value in (0, 1), case when t.live_right then p.truth_value else 0 end,
             (t.live_right = (p.truth_value = 1))::integer, case when t.shadow_right then p.truth_value else 0 end,
             (t.shadow_right = (p.truth_value = 1))::integer),
            ('recall', t.judged and p.truth_value in (0, 1), case when t.live_right then p.truth_value else 0 end,
             p.truth_value, case when t.shadow_right then p.truth_value else 0 end, p.truth_value),
            ('brier', p.finite and scope.probabilities and t.y in (0, 1), (p.live_chance - t.y) ^ 2, 1,
             (p.shadow_chance - t.y) ^ 2, 1),
            ('log_loss', p.known and p.finite and scope.probabilities and p.truth_value in (0, 1),
             gnomon_estimators.log_loss(1 - abs(p.truth_value - p.live_chance)), 1,
             gnomon_estimators.log_loss(1 - abs(p.truth_value - p.shadow_chance)), 1),
            ('squared_error', t.measured, (p.live_value - p.truth_value) ^ 2, 1, (p.shadow_value - p.truth_value) ^ 2, 1),
            ('rmse', t.measured, (p.live_value - p.truth_value) ^ 2, 1, (p.shadow_value - p.truth_value) ^ 2, 1),
            ('absolute_error', t.measured, abs(p.live_value - p.truth_value), 1, abs(p.shadow_value - p.truth_value), 1)
        ) m(metric, given, live_y, live_x, shadow_y, shadow_x)
        where m.given and m.metric = any (verdict_rows.metrics)
        union all
        select p.day, p.unit, p.segments, p.w, p.corrected, p.known, n.metric, true, n.live, 1, n.shadow, 1
        from weighted p
        cross join lateral unnest(
            gnomon_estimators.ndcg_metrics(),
            gnomon_estimators.ndcgs(gnomon_estimators.ranked(p.live_items, p.live_scores), p.relevance_items, p.relevance),
            gnomon_estimators.ndcgs(gnomon_estimators.ranked(p.shadow_items, p.shadow_scores), p.relevance_items,
                                    p.relevance)) n(metric, live, shadow)
        where verdict_rows.metrics && gnomon_estimators.ndcg_metrics() and p.known and p.relevance is not null
          and array_position(p.relevance, 'NaN') is null and n.metric = any (verdict_rows.metrics)
          and n.live is not null and n.shadow is not null
    )
    select p.metric, s.segment, v.variant, p.day, p.unit, v.w, v.w * p.live_y, v.w * p.live_x, v.w * p.shadow_y,
           v.w * p.shadow_x
    from valued p
    cross join lateral (values ('complete', p.w, p.known),
                               ('weighted', p.corrected, p.known),
                               ('worst', p.w, p.metric in ('accuracy', 'brier'))) v(variant, w, given)
    cross join lateral (
        select '' as segment
        union all
        select k || '=' || (p.segments ->> k) from unnest(verdict_rows.keys) k
        where v.variant = 'complete' and p.metric = verdict_rows.metrics[1] and p.segments ? k) s
    where v.given
    union all
    -- Agreement waits for no label: every pair that can be compared counts, also beside metrics that need labels.
    select 'agreement', s.segment, 'complete', p.day, p.unit, p.w, p.w, p.w, p.w * p.same::integer, p.w
    from gnomon_estimators.verdict_pairs(verdict_rows.stream, verdict_rows.deployment, verdict_rows.since, verdict_rows.until,
                                 null, verdict_rows.time_zone) p
    cross join lateral (
        select '' as segment
        union all
        select k || '=' || (p.segments ->> k) from unnest(verdict_rows.keys) k
        where verdict_rows.metrics[1] = 'agreement' and p.segments ? k) s
    where 'agreement' = any (verdict_rows.metrics) and p.same is not null
$$;

create function gnomon_estimators.verdict_sums(stream text, deployment text, since timestamptz, until timestamptz,
                                       horizon interval, time_zone text, metrics text[], keys text[])
    returns table (metric text, segment text, variant text, day date, n bigint, live_y float8, live_x float8,
                   shadow_y float8, shadow_x float8)
    language sql stable parallel safe set enable_nestloop = off as
$$
    select r.metric, r.segment, r.variant, r.day, count(*), sum(r.live_y), sum(r.live_x), sum(r.shadow_y),
           sum(r.shadow_x)
    from gnomon_estimators.verdict_rows(verdict_sums.stream, verdict_sums.deployment, verdict_sums.since, verdict_sums.until,
                                verdict_sums.horizon, verdict_sums.time_zone, verdict_sums.metrics,
                                verdict_sums.keys) r
    group by 1, 2, 3, 4 order by 1, 2, 3, 4
$$;

-- The variances that clusters add to the difference, over the days before each look: between clusters, and between
-- clusters within days, each with n/(n - 1) (Cameron, Gelbach and Miller 2011), of the residuals linearised as in
-- docs/statistics.md. Of rmse the residual is that of the root.
create function gnomon_estimators.verdict_clusters(stream text, deployment text, since timestamptz, until timestamptz,
                                           horizon interval, time_zone text, metrics text[], keys text[], looks date[])
    returns table (metric text, segment text, variant text, look date, by_cluster float8, by_cluster_and_day float8)
    language sql stable parallel safe set enable_nestloop = off as
$$
    with cells as materialized (
        select r.metric, r.segment, r.variant, r.day, r.unit, sum(r.live_y) as live_y, sum(r.live_x) as live_x,
               sum(r.shadow_y) as shadow_y, sum(r.shadow_x) as shadow_x
        from gnomon_estimators.verdict_rows(verdict_clusters.stream, verdict_clusters.deployment, verdict_clusters.since,
                                    verdict_clusters.until, verdict_clusters.horizon, verdict_clusters.time_zone,
                                    verdict_clusters.metrics, verdict_clusters.keys) r
        group by 1, 2, 3, 4, 5
    ),
    totals as (
        select c.metric, c.segment, c.variant, l.look, sum(live_y) / nullif(sum(live_x), 0) as live,
               nullif(sum(live_x), 0) as live_x, sum(shadow_y) / nullif(sum(shadow_x), 0) as shadow,
               nullif(sum(shadow_x), 0) as shadow_x
        from cells c cross join unnest(verdict_clusters.looks) l(look)
        where c.day < l.look group by 1, 2, 3, 4
    ),
    residuals as (
        select t.metric, t.segment, t.variant, t.look, c.unit,
               (c.shadow_y - t.shadow * c.shadow_x) / t.shadow_x
                   / case when t.metric = 'rmse' then nullif(2 * sqrt(t.shadow), 0) else 1 end
               - (c.live_y - t.live * c.live_x) / t.live_x
                   / case when t.metric = 'rmse' then nullif(2 * sqrt(t.live), 0) else 1 end as r
        from cells c join totals t using (metric, segment, variant) where c.day < t.look
    ),
    clusters as (
        select metric, segment, variant, look, unit, sum(r) as r, sum(r * r) as r2, count(*) as n
        from residuals group by 1, 2, 3, 4, 5
    )
    select metric, segment, variant, look, sum(r * r) * count(*) / nullif(count(*) - 1, 0),
           sum(r2) * sum(n)::float8 / nullif(sum(n) - 1, 0)::float8
    from clusters group by 1, 2, 3, 4
$$;

-- Units (a cluster on a day) by which side failed in them, and the share of the traffic that both sides answered.
create function gnomon_estimators.verdict_errors(stream text, deployment text, since timestamptz, until timestamptz,
                                         time_zone text)
    returns table (n bigint, units bigint, shadow_failed bigint, shadow_only bigint, live_only bigint, answered float8,
                   clustered boolean)
    language sql stable parallel safe as
$$
    with units as (
        select count(*) as n, bool_or(p.outcome <> 'scored') as shadow_failed,
               bool_or(p.outcome <> 'scored' and p.live_error_kind is null) as shadow_alone,
               bool_or(p.outcome = 'scored' and p.live_error_kind is not null) as live_alone, sum(p.weight) as w,
               coalesce(sum(p.weight) filter (where p.outcome = 'scored' and p.live_error_kind is null), 0) as both_answered,
               bool_or(p.cluster is not null) as clustered
        from gnomon_estimators.pairs_of(verdict_errors.stream, verdict_errors.deployment, verdict_errors.since,
                                verdict_errors.until, null) p
        group by (p.event_time at time zone verdict_errors.time_zone)::date,
                 coalesce(p.cluster, p.source_partition || ':' || p.source_offset)
    )
    select coalesce(sum(n), 0)::bigint, count(*), count(*) filter (where shadow_failed),
           count(*) filter (where shadow_alone and not live_alone), count(*) filter (where live_alone and not shadow_alone),
           sum(both_answered) / sum(w), coalesce(bool_or(clustered), false)
    from units
$$;

-- Answered requests by both decisions and the truth, with how much of them is labelled.
create function gnomon_estimators.verdict_cells(stream text, deployment text, since timestamptz, until timestamptz,
                                        horizon interval, time_zone text)
    returns table (live_label text, shadow_label text, truth_label text, n bigint, known bigint, weight float8,
                   known_weight float8, known_weight_squared float8)
    language sql stable parallel safe set enable_nestloop = off as
$$
    select p.live_label, p.shadow_label, p.truth_label, count(*), count(*) filter (where p.known), sum(p.w),
           coalesce(sum(p.w) filter (where p.known), 0), coalesce(sum(p.w * p.w) filter (where p.known), 0)
    from gnomon_estimators.verdict_pairs(verdict_cells.stream, verdict_cells.deployment, verdict_cells.since,
                                 verdict_cells.until, verdict_cells.horizon, verdict_cells.time_zone) p
    group by 1, 2, 3
$$;

-- By local day, how many requests that were scored alone took longer than a limit, with the weights of the latency
-- report.
create function gnomon_estimators.verdict_latency(stream text, deployment text, since timestamptz, until timestamptz,
                                          time_zone text, limit_us float8)
    returns table (day date, n bigint, weight float8, slow float8)
    language sql stable parallel safe as
$$
    select (p.event_time at time zone verdict_latency.time_zone)::date, count(*),
           sum(1 / (p.capture_probability * p.probe_probability)),
           coalesce(sum(1 / (p.capture_probability * p.probe_probability))
                    filter (where p.shadow_latency_us > verdict_latency.limit_us), 0)
    from gnomon_estimators.pairs_of(verdict_latency.stream, verdict_latency.deployment, verdict_latency.since,
                            verdict_latency.until, null) p
    where p.probe_probability is not null and p.shadow_latency_us is not null and p.outcome = 'scored'
    group by 1 order by 1
$$;

-- The versions of the live model, by when they answered last; the last one is the current one.
create function gnomon_estimators.verdict_live_versions(stream text, deployment text, until timestamptz, time_zone text)
    returns table (name text, version text, first_day date, last_day date, n bigint)
    language sql stable parallel safe as
$$
    select p.live_model_name, p.live_model_version,
           (min(p.event_time) at time zone verdict_live_versions.time_zone)::date,
           (max(p.event_time) at time zone verdict_live_versions.time_zone)::date, count(*)
    from gnomon_estimators.pairs_of(verdict_live_versions.stream, verdict_live_versions.deployment, null,
                            verdict_live_versions.until, null) p
    group by 1, 2 order by max(p.event_time), 1, 2
$$;

-- The features on which requests that a deployment answers as live does differ most from those that it does not: by the
-- distance of their means in standard deviations, or the largest difference of a value's share.
create function gnomon_estimators.verdict_disagreeing_features(stream text, deployment text, since timestamptz,
                                                       until timestamptz)
    returns table (feature text, distance float8)
    language sql stable as
$$
    with pairs as (
        select p.agrees, f.name, f.kind, case when f.kind = 'numeric' then p.features_numeric[f.position] end as x,
               case when f.kind = 'text' then p.features_text[f.position] end as t
        from gnomon_estimators.pairs_of(verdict_disagreeing_features.stream, verdict_disagreeing_features.deployment,
                                verdict_disagreeing_features.since, verdict_disagreeing_features.until, null) p
        join gnomon_estimators.feature_columns f on f.stream_id = p.stream_id
        where p.agrees is not null
    ),
    numeric_distance as (
        select name, abs(avg(x) filter (where agrees) - avg(x) filter (where not agrees)) / nullif(stddev_samp(x), 0) as d
        from pairs where kind = 'numeric' and x > '-infinity' and x < 'infinity' group by name
    ),
    totals as (select name, nullif(count(*) filter (where agrees), 0)::float8 as same,
                      nullif(count(*) filter (where not agrees), 0)::float8 as other
               from pairs where kind = 'text' group by name),
    text_distance as (
        select p.name, max(abs(p.same / t.same - p.other / t.other)) as d
        from (select name, t, count(*) filter (where agrees) as same, count(*) filter (where not agrees) as other
              from pairs where kind = 'text' group by name, t) p
        join totals t using (name) group by p.name
    )
    select name, d from (select * from numeric_distance union all select * from text_distance) found
    where d > 0.2 order by d desc, name limit 3
$$;
