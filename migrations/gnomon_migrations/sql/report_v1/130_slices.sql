-- Where the answers differ: agreement, error rates and mean answers of each value of each segment key (or of the
-- requested one). The keys are read from the newest 10,000 pairs; @live_version is added if they hold several versions
-- of the live model.
create function report_v1.segments(stream text, deployment text default null, since timestamptz default null,
                                   until timestamptz default null, key text default null,
                                   time_zone text default 'UTC', exact boolean default null)
    returns table (stream text, deployment text, role text, key text, value text, metric text, side text, n bigint,
                   n_effective float8, weight float8, estimate float8, se_row float8, se_cluster float8,
                   se_day float8, standard_error float8, low float8, high float8, status text, compares text,
                   read_share float8)
    language sql stable parallel safe as
$$
    with recent as materialized (
        select p.segments, p.live_model_version
        from gnomon_estimators.pairs_of(segments.stream, segments.deployment, segments.since, segments.until, null) p
        where segments.key is null order by p.event_time desc limit 10000
    ),
    keys as (
        select segments.key where segments.key is not null
        union
        select k.key from recent cross join lateral jsonb_object_keys(recent.segments) k(key)
        union
        select '@live_version' from recent having count(distinct live_model_version) > 1
    ),
    shares as materialized (
        select t.* from gnomon_estimators.shares(segments.stream, segments.deployment, segments.since, segments.until,
                                                 null, segments.exact) t
    ),
    measured as materialized (
        select substr(e.slice, 9) as key, e.*
        from (select array_agg('segment:' || k.key order by k.key) as slices from keys k having count(*) > 0) a
        cross join shares t
        cross join lateral gnomon_estimators.estimates(segments.stream, segments.deployment, segments.since, segments.until,
                                               null, a.slices, '{agreement,error,value}', null,
                                               segments.time_zone, true, t.ids, t.shares) e
    )
    select c.stream, c.deployment, c.role, m.key, m.value, m.metric, m.side, coalesce(m.n, 0), m.n_effective, m.weight,
           m.estimate, m.se_row, m.se_cluster, m.se_day, m.standard_error, m.low, m.high,
           coalesce(c.problem, m.status, 'no segment in this period'), o.compares,
           case when m.n > 0 then gnomon_estimators.share_of(c.deployment_id, r.ids, r.shares) end
    from gnomon_estimators.scope(segments.stream, segments.deployment) c
    cross join shares r
    left join measured m on m.deployment = c.deployment
    left join lateral gnomon_estimators.compares(c.deployment_id) o on true
    order by c.role, c.deployment, m.key, m.value, m.metric, m.side
$$;

-- Agreement, errors and mean answers by local hour of the day and by weekday, so that a Sunday is not mistaken for a
-- trend.
create function report_v1.time_of_day(stream text, deployment text default null, since timestamptz default null,
                                      until timestamptz default null, segment jsonb default null,
                                      slice text default 'hour', time_zone text default 'UTC',
                                      exact boolean default null)
    returns table (stream text, deployment text, role text, slice text, value text, metric text, side text, n bigint,
                   n_effective float8, weight float8, estimate float8, se_row float8, se_cluster float8,
                   se_day float8, standard_error float8, low float8, high float8, status text, compares text,
                   read_share float8)
    language sql stable parallel safe as
$$
    with kinds as materialized (
        select c.deployment, c.deployment_id, o.compares
        from gnomon_estimators.scope(time_of_day.stream, time_of_day.deployment) c
        left join lateral gnomon_estimators.compares(c.deployment_id) o on true
    ),
    shares as materialized (
        select t.* from gnomon_estimators.shares(time_of_day.stream, time_of_day.deployment, time_of_day.since,
                                                 time_of_day.until, time_of_day.segment, time_of_day.exact) t
    )
    select e.stream, e.deployment, e.role, e.slice, e.value, e.metric, e.side, e.n, e.n_effective, e.weight,
           e.estimate, e.se_row, e.se_cluster, e.se_day, e.standard_error, e.low, e.high, e.status, k.compares,
           case when e.n > 0 then gnomon_estimators.share_of(k.deployment_id, t.ids, t.shares) end
    from shares t
    cross join lateral gnomon_estimators.estimates(time_of_day.stream, time_of_day.deployment, time_of_day.since, time_of_day.until,
                             time_of_day.segment, array[time_of_day.slice], '{agreement,error,value}', null,
                             time_of_day.time_zone, true, t.ids, t.shares) e
    left join kinds k using (deployment)
    order by e.role, e.deployment, e.value, e.metric, array_position(array['live', 'shadow', 'pair', 'difference'], e.side)
$$;

-- The pairs that differ most, for a person to read: both answers, the features by name, the truth, and the control's
-- answer to the same request, if it was sampled too (its own distance is the noise floor). Values that differ by no
-- more than the stream's tolerance count as equal. A list: its first three items, best first.
create function report_v1.disagreements(stream text, deployment text default null, since timestamptz default null,
                                        until timestamptz default null, segment jsonb default null,
                                        top integer default 20)
    returns table (stream text, deployment text, role text, place bigint, event_time timestamptz, request_id text,
                   difference float8, live_value float8, live_label text, shadow_value float8, shadow_label text,
                   control_value float8, control_label text, truth_value float8, truth_label text, weight float8,
                   segments jsonb, features jsonb, status text, live_list text[], shadow_list text[],
                   control_list text[], truth_list text[])
    language sql stable parallel safe as
$$
    select c.stream, c.deployment, c.role, x.place, x.event_time, x.request_id, x.difference, x.live_value, x.live_label,
           x.shadow_value, x.shadow_label, k.shadow_value, k.shadow_label, l.value, l.label, x.weight, x.segments,
           f.features,
           coalesce(c.problem, case when x.place is null then 'no two answers differ in this period' else 'ok' end),
           case when x.live_label is null then (gnomon_estimators.ranked(x.live_items, x.live_scores))[:3] end,
           case when x.shadow_label is null then (gnomon_estimators.ranked(x.shadow_items, x.shadow_scores))[:3] end,
           case when k.shadow_label is null then (gnomon_estimators.ranked(k.shadow_items, k.shadow_scores))[:3] end,
           (gnomon_estimators.ranked(l.items, l.relevance))[:3]
    from gnomon_estimators.scope(disagreements.stream, disagreements.deployment) c
    left join report_v1.streams s on s.name = c.stream
    left join lateral (
        -- Select the first of them before numbering: if all were numbered first, all of them would be sorted.
        select t.*, row_number() over (order by t.agrees, abs(t.difference) desc nulls last, t.event_time,
                                                t.source_partition, t.source_offset) as place
        from (select p.*, gnomon_estimators.difference(p.shadow_value, p.live_value) as difference
              from gnomon_estimators.pairs_of(disagreements.stream, c.deployment, disagreements.since, disagreements.until,
                                      disagreements.segment) p
              where c.deployment_id is not null and p.comparable
                and (not p.agrees or not gnomon_estimators.close_values(p.live_value, p.shadow_value, s.value_tolerance,
                                                                    s.relative_tolerance))
              order by p.agrees, abs(gnomon_estimators.difference(p.shadow_value, p.live_value)) desc nulls last, p.event_time, p.source_partition,
                       p.source_offset
              limit disagreements.top) t) x on true
    left join lateral (
        select p.shadow_value, p.shadow_label, p.shadow_items, p.shadow_scores
        from report_v1.pairs p
        where p.stream_id = x.stream_id and p.role = 'control' and p.event_time = x.event_time
          and p.source_partition = x.source_partition and p.source_offset = x.source_offset
        limit 1) k on x.place is not null
    left join lateral (
        select v.value, v.label, v.relevance, v.items from report_v1.label_versions v
        where v.stream_id = x.stream_id and v.request_id = x.request_id
        order by v.observed_at desc limit 1) l on x.place is not null
    left join lateral (
        select jsonb_object_agg(n.name, case n.kind when 'numeric' then to_jsonb(x.features_numeric[n.position])
                                                    else to_jsonb(x.features_text[n.position]) end) as features
        from report_v1.feature_columns n
        where n.stream_id = x.stream_id
          and (n.kind = 'numeric' and x.features_numeric[n.position] is not null
               or n.kind = 'text' and x.features_text[n.position] is not null)) f on x.place is not null
    order by c.role, c.deployment, x.place
$$;

-- Did both sides read the same state? Feature-dictionary versions and cache hit ratios, live against shadow.
create function report_v1.feature_state(stream text, deployment text default null, since timestamptz default null,
                                        until timestamptz default null, segment jsonb default null)
    returns table (stream text, deployment text, role text, live_version text, shadow_version text, n bigint,
                   weight float8, share float8, live_hit_ratio float8, shadow_hit_ratio float8, agreement float8,
                   status text)
    language sql stable parallel safe as
$$
    with said as (
        select p.deployment_id, p.live_feature_version, p.shadow_feature_version, count(*) as n, sum(p.weight) as weight,
               sum(p.weight * p.live_cache_hits) / nullif(sum(p.weight * (p.live_cache_hits + p.live_cache_misses)), 0)
                   as live_ratio,
               sum(p.weight * p.shadow_cache_hits)
                   / nullif(sum(p.weight * (p.shadow_cache_hits + p.shadow_cache_misses)), 0) as shadow_ratio,
               sum(p.weight) filter (where p.agrees) / nullif(sum(p.weight) filter (where p.comparable), 0) as agreement,
               bool_or(coalesce(p.live_feature_version, p.shadow_feature_version) is not null
                       or coalesce(p.live_cache_hits, p.shadow_cache_hits) is not null) as stated
        from gnomon_estimators.pairs_of(feature_state.stream, feature_state.deployment, feature_state.since,
                                feature_state.until, feature_state.segment) p
        group by 1, 2, 3)
    select c.stream, c.deployment, c.role, s.live_feature_version, s.shadow_feature_version, coalesce(s.n, 0), s.weight,
           s.weight / sum(s.weight) over (partition by c.deployment_id), s.live_ratio, s.shadow_ratio, s.agreement,
           coalesce(c.problem, case when s.n is null then 'no pair in this period'
                                    when not s.stated then 'neither side states its feature state'
                                    when s.live_feature_version is distinct from s.shadow_feature_version
                                    then 'the two sides read different feature dictionaries'
                                    else 'ok' end)
    from gnomon_estimators.scope(feature_state.stream, feature_state.deployment) c
    left join said s using (deployment_id)
    order by c.role, c.deployment, s.weight desc
$$;
