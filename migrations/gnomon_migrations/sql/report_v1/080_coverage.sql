-- The numbers of seen, sampled and scored requests. slice all, stratum and limit (why windows did not sample all
-- captures) come from the ledger's cells, hour and day from the rollups, segment:KEY from the pairs themselves (seen is
-- then the weighted estimate, which no ledger checks).
--
-- coverage is relative to what was offered: it includes dead letters, orphans, gaps (lost), and what the live services
-- report as offered and nobody received (unreceived). The time of a run's losses is unknown: if a run extends beyond
-- the period, the row reports it (undated) and does not count its losses. Gaps and runs have no stratum and no hour:
-- they count in the total.
create function report_v1.coverage(stream text, deployment text default null, since timestamptz default null,
                                   until timestamptz default null, slice text default 'all',
                                   time_zone text default 'UTC')
    returns table (stream text, deployment text, role text, slice text, value text, seen bigint, sampled bigint,
                   scored bigint, failed bigint, timed_out bigint, dead_lettered bigint, orphaned bigint,
                   lost bigint, unreceived bigint, undated bigint, weight float8, sampling_fraction float8,
                   scored_share float8, coverage float8, status text)
    language sql stable parallel safe as
$$
    with asked as (select gnomon_estimators.deployment_ids(coverage.stream, coverage.deployment) as ids),
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
        select r.deployment_id, gnomon_estimators.slice_of(coverage.slice, r.hour, r.stratum, '{}', null, coverage.time_zone),
               sum(r.seen), sum(r.sampled), sum(r.scored), sum(r.failed), sum(r.timed_out), sum(r.dead_lettered),
               sum(r.orphaned), sum(r.weight)
        from report_v1.rollups r
        where coverage.slice in ('hour', 'weekday', 'day')
          and r.deployment_id = any ((select ids from asked)::integer[])
          and r.hour >= coalesce(coverage.since, '-infinity') and r.hour < coalesce(coverage.until, 'infinity')
        group by 1, 2
        union all
        select p.deployment_id, gnomon_estimators.slice_of(coverage.slice, p.event_time, p.stratum, p.segments, p.live_model_version,
                                                   coverage.time_zone),
               round(sum(p.weight)::numeric), count(*), count(*) filter (where p.outcome = 'scored'),
               count(*) filter (where p.outcome = 'failed'), count(*) filter (where p.outcome = 'timed_out'),
               0, 0, sum(p.weight)
        from gnomon_estimators.pairs_of(coverage.stream, coverage.deployment, coverage.since, coverage.until, null) p
        where coverage.slice like 'segment:%' or coverage.slice = 'live_version'
        group by 1, 2
    ),
    gaps as (select deployment_id, coalesce(sum(gap_lost), 0)::bigint as lost from windows group by 1),
    runs as (
        select p.deployment_id, p.missing + coalesce(p.tail, 0) as n,
               p.first_captured_at >= coalesce(coverage.since, '-infinity')
                   and p.last_captured_at < coalesce(coverage.until, 'infinity') as inside
        from report_v1.producer_runs p
        where p.deployment_id = any ((select ids from asked)::integer[])
          and p.last_captured_at >= coalesce(coverage.since, '-infinity')
          and p.first_captured_at < coalesce(coverage.until, 'infinity')
    ),
    unreceived as (select deployment_id, coalesce(sum(n) filter (where inside), 0)::bigint as n,
                          coalesce(sum(n) filter (where not inside), 0)::bigint as undated
                   from runs group by 1)
    select c.stream, c.deployment, c.role, coverage.slice, x.value, coalesce(x.seen, 0)::bigint, x.sampled::bigint,
           x.scored::bigint, x.failed::bigint, x.timed_out::bigint, x.dead_lettered::bigint, x.orphaned::bigint,
           l.lost, l.unreceived, l.undated, x.weight, x.sampled / nullif(x.seen, 0)::float8,
           x.scored / nullif(x.seen, 0)::float8,
           1 - (x.dead_lettered + x.orphaned + coalesce(l.lost + l.unreceived, 0))
               / nullif(x.seen + coalesce(l.lost + l.unreceived, 0), 0)::float8,
           coalesce(c.problem, case when coalesce(x.seen, 0) = 0 then 'nothing captured in this period'
                                    when l.undated > 0 then 'producers lost captures, when is not known'
                                    else 'ok' end)
    from gnomon_estimators.scope(coverage.stream, coverage.deployment) c
    left join counted x using (deployment_id)
    left join lateral (select g.lost, coalesce(u.n, 0) as unreceived, coalesce(u.undated, 0) as undated
                       from gaps g left join unreceived u using (deployment_id)
                       where g.deployment_id = c.deployment_id and coverage.slice = 'all') l on true
    order by c.role, c.deployment, x.value
$$;
