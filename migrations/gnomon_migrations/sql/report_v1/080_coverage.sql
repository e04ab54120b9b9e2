-- What was seen, sampled and scored. slice all, stratum and limit (why windows did not sample all that they saw) come
-- from the ledger's cells, hour and day from the rollups, segment:KEY from the pairs themselves (seen is then the
-- weighted estimate, with no ledger to check it).
create function report_v1.coverage(stream text, deployment text default null, since timestamptz default null,
                                   until timestamptz default null, slice text default 'all',
                                   time_zone text default 'UTC')
    returns table (stream text, deployment text, role text, slice text, value text, seen bigint, sampled bigint,
                   scored bigint, failed bigint, timed_out bigint, dead_lettered bigint, orphaned bigint,
                   lost bigint, weight float8, sampling_fraction float8, scored_share float8, coverage float8,
                   status text)
    language sql stable parallel safe as
$$
    with asked as (select report_v1.deployment_ids(coverage.stream, coverage.deployment) as ids),
    windows as (
        select w.deployment_id, w.source_partition, w.start_offset, w.gap_lost, w.seen, w.limited_by
        from report_v1.windows w
        where w.deployment_id = any ((select ids from asked)::integer[])
          and w.at >= coalesce(coverage.since, '-infinity') and w.at < coalesce(coverage.until, 'infinity')
    ),
    counted as (
        select w.deployment_id, case coverage.slice when 'all' then '' when 'limit' then coalesce(w.limited_by, '(none)')
                                     else k.stratum end as value,
               sum(k.seen) as seen, sum(k.sampled) as sampled, sum(k.joined_scored) as scored,
               sum(k.joined_failed) as failed, sum(k.joined_timed_out) as timed_out,
               sum(k.joined_dead_lettered) as dead_lettered, sum(k.joined_orphaned) as orphaned,
               null::float8 as weight
        from windows w
        join report_v1.cells k using (deployment_id, source_partition, start_offset)
        where coverage.slice in ('all', 'stratum', 'limit')
        group by 1, 2
        union all
        select r.deployment_id, report_v1.slice_of(coverage.slice, r.hour, r.stratum, '{}', coverage.time_zone),
               sum(r.seen), sum(r.sampled), sum(r.scored), sum(r.failed), sum(r.timed_out), sum(r.dead_lettered),
               sum(r.orphaned), sum(r.weight)
        from report_v1.rollups r
        where coverage.slice in ('hour', 'weekday', 'day')
          and r.deployment_id = any ((select ids from asked)::integer[])
          and r.hour >= coalesce(coverage.since, '-infinity') and r.hour < coalesce(coverage.until, 'infinity')
        group by 1, 2
        union all
        select p.deployment_id, report_v1.slice_of(coverage.slice, p.event_time, p.stratum, p.segments,
                                                   coverage.time_zone),
               round(sum(p.weight)::numeric), count(*), count(*) filter (where p.outcome = 'scored'),
               count(*) filter (where p.outcome = 'failed'), count(*) filter (where p.outcome = 'timed_out'),
               0, 0, sum(p.weight)
        from report_v1.pairs_of(coverage.stream, coverage.deployment, coverage.since, coverage.until, null) p
        where coverage.slice like 'segment:%'
        group by 1, 2
    ),
    gaps as (select deployment_id, sum(gap_lost) as lost from windows group by 1)
    select c.stream, c.deployment, c.role, coverage.slice, x.value, coalesce(x.seen, 0)::bigint, x.sampled::bigint,
           x.scored::bigint, x.failed::bigint, x.timed_out::bigint, x.dead_lettered::bigint, x.orphaned::bigint,
           l.lost, x.weight, x.sampled / nullif(x.seen, 0)::float8, x.scored / nullif(x.seen, 0)::float8,
           1 - (x.dead_lettered + x.orphaned + coalesce(l.lost, 0)) / nullif(x.seen + coalesce(l.lost, 0), 0)::float8,
           coalesce(c.problem, case when coalesce(x.seen, 0) = 0 then 'nothing captured in this period'
                                    else 'ok' end)
    from report_v1.scope(coverage.stream, coverage.deployment) c
    left join counted x using (deployment_id)
    -- A gap has no stratum: it counts in the whole only.
    left join lateral (select g.lost::bigint from gaps g
                       where g.deployment_id = c.deployment_id and coverage.slice = 'all') l on true
    order by c.role, c.deployment, x.value
$$;
