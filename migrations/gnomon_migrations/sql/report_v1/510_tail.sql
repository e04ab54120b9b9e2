-- The current state of every deployment, for a live view: its progress, its last windows, and the answers of the pairs
-- joined in the last `seconds`. Cheap at any size: by primary key in the windows, by joined_at in the pairs. joined:
-- source offsets passed so far; two looks at it give a rate. mean_difference: shadow minus live, with its standard
-- error by row.
create function report_v1.tail(stream text, deployment text default null, seconds float8 default 60)
    returns table (stream text, deployment text, role text, joined bigint, event_time timestamptz,
                   updated_at timestamptz, caught_up boolean, seen bigint, sampled bigint, sampling_fraction float8,
                   lag_s float8, n bigint, agreement float8, shadow_error_rate float8, live_error_rate float8,
                   status text, mean_difference float8, mean_difference_se float8, compares text)
    language sql stable as
$$
    with progress as materialized (
        select p.* from report_v1.progress p
        where p.stream = tail.stream and (tail.deployment is null or p.deployment = tail.deployment)
    ),
    stands as (
        select p.deployment_id, sum(p.next_source_offset)::bigint as joined, max(p.event_time_reached) as event_time,
               max(p.updated_at) as updated_at, bool_and(p.caught_up) as caught_up
        from progress p group by 1
    ),
    windows as (
        select p.deployment_id, sum(k.seen)::bigint as seen, sum(k.sampled)::bigint as sampled,
               max(w.lag_s) filter (where w.place = 1) as lag_s
        from progress p
        cross join lateral (
            select v.start_offset, v.lag_s, row_number() over (order by v.start_offset desc) as place
            from report_v1.windows v
            where v.deployment_id = p.deployment_id and v.source_partition = p.source_partition
            order by v.start_offset desc limit 20) w
        join report_v1.cells k on k.deployment_id = p.deployment_id and k.source_partition = p.source_partition
                              and k.start_offset = w.start_offset
        group by 1
    ),
    answers as (
        select p.deployment_id, count(*) as n,
               sum(p.weight) filter (where p.agrees) / nullif(sum(p.weight) filter (where p.comparable), 0) as agreement,
               coalesce(sum(p.weight) filter (where p.outcome <> 'scored'), 0) / sum(p.weight) as failed,
               coalesce(sum(p.weight) filter (where p.live_error_kind is not null), 0) / sum(p.weight) as live_failed,
               sum(p.weight) filter (where v.finite) as w,
               sum(p.weight * v.d) filter (where v.finite) / nullif(sum(p.weight) filter (where v.finite), 0) as mean,
               sum(p.weight ^ 2) filter (where v.finite) as w2, sum(p.weight ^ 2 * v.d) filter (where v.finite) as d2,
               sum(p.weight ^ 2 * v.d ^ 2) filter (where v.finite) as dd2, count(*) filter (where v.finite) as valued,
               case when bool_or(p.live_label is not null) filter (where p.comparable) then 'decisions'
                    when bool_or(p.live_value is not null) filter (where p.comparable) then 'values'
                    when bool_or(p.comparable) then 'rankings' end as compares
        from report_v1.pairs p
        cross join lateral (select p.comparable and p.live_value > -1e70 and p.live_value < 1e70
                                   and p.shadow_value > -1e70 and p.shadow_value < 1e70 as finite,
                                   gnomon_estimators.flushed(p.shadow_value - p.live_value) as d) v
        where p.deployment_id = any (gnomon_estimators.deployment_ids(tail.stream, tail.deployment))
          and p.joined_at >= now() - make_interval(secs => tail.seconds)
        group by 1
    )
    select c.stream, c.deployment, c.role, s.joined, s.event_time, s.updated_at, s.caught_up, w.seen, w.sampled,
           w.sampled / nullif(w.seen, 0)::float8, w.lag_s, coalesce(a.n, 0), a.agreement, a.failed, a.live_failed,
           coalesce(c.problem, case when s.joined is null then 'nothing joined yet'
                                    when a.n is null then 'no pair joined lately'
                                    else 'ok' end),
           a.mean, case when a.valued > 1 then sqrt(gnomon_estimators.row_variance(a.w2, a.d2, a.dd2, a.mean, a.w)) end,
           a.compares
    from gnomon_estimators.scope(tail.stream, tail.deployment) c
    left join stands s using (deployment_id)
    left join windows w using (deployment_id)
    left join answers a using (deployment_id)
    order by c.role, c.deployment
$$;
