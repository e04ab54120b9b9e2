-- Every captured request in exactly one bucket: seen = sampled_out + scored + failed + timed_out + dead_lettered +
-- orphaned. unaccounted is the remainder, miscounted the difference between the scorer's claims and the joiner's own
-- count, holes and overlaps the number of offsets that the windows of a partition leave out or contain twice; all four
-- are 0 in a closed ledger. gaps: windows that record what was lost before it could be read.
create function report_v1.ledger(stream text, deployment text default null, since timestamptz default null,
                                 until timestamptz default null)
    returns table (stream text, deployment text, role text, windows bigint, seen bigint, sampled_out bigint,
                   sampled bigint, paired bigint, scored bigint, failed bigint, timed_out bigint,
                   dead_lettered bigint, orphaned bigint, gaps bigint, lost bigint, unaccounted bigint,
                   miscounted bigint, holes bigint, overlaps bigint, erased bigint, expired bigint,
                   balanced boolean, status text)
    language sql stable parallel safe as
$$
    with windows as (
        select w.deployment_id, w.source_partition, w.start_offset, w.gap_reason, w.gap_lost, w.seen, w.joined_seen,
               w.joined_missing,
               w.start_offset - lag(w.end_offset) over (partition by w.deployment_id, w.source_partition
                                                        order by w.start_offset) as step
        from report_v1.windows w
        where w.deployment_id = any (gnomon_estimators.deployment_ids(ledger.stream, ledger.deployment))
          and w.at >= coalesce(ledger.since, '-infinity') and w.at < coalesce(ledger.until, 'infinity')
    ),
    by_window as (
        select deployment_id, count(*) as windows, sum(seen) as seen, count(gap_reason) as gaps, sum(gap_lost) as lost,
               sum(abs(seen - joined_seen - joined_missing)) as miscounted,
               -- A period cuts the sequence of windows, so only the whole sequence can prove a hole.
               case when ledger.since is null and ledger.until is null
                    then sum(greatest(step, 0)) end as holes,
               case when ledger.since is null and ledger.until is null
                    then sum(greatest(-step, 0)) end as overlaps
        from windows group by 1
    ),
    by_cell as (
        select w.deployment_id, sum(k.seen) as seen, sum(k.sampled) as sampled, sum(k.joined_scored) as scored,
               sum(k.joined_failed) as failed, sum(k.joined_timed_out) as timed_out,
               sum(k.joined_dead_lettered) as dead_lettered, sum(k.joined_orphaned) as orphaned,
               sum(k.erased) as erased, sum(k.expired) as expired
        from windows w
        join report_v1.cells k using (deployment_id, source_partition, start_offset)
        group by 1
    ),
    whole as (
        select w.*, coalesce(k.sampled, 0) as sampled, coalesce(k.scored, 0) as scored,
               coalesce(k.failed, 0) as failed, coalesce(k.timed_out, 0) as timed_out,
               coalesce(k.dead_lettered, 0) as dead_lettered, coalesce(k.orphaned, 0) as orphaned,
               coalesce(k.erased, 0) as erased, coalesce(k.expired, 0) as expired,
               w.seen - coalesce(k.seen, 0) as not_in_cells
        from by_window w left join by_cell k using (deployment_id)
    ),
    sums as (select *, scored + failed + timed_out as paired, seen - sampled as sampled_out from whole),
    checked as (select *, seen - sampled_out - paired - dead_lettered - orphaned as unaccounted from sums)
    select c.stream, c.deployment, c.role, coalesce(k.windows, 0), coalesce(k.seen, 0)::bigint, k.sampled_out::bigint,
           k.sampled::bigint, k.paired::bigint, k.scored::bigint, k.failed::bigint, k.timed_out::bigint,
           k.dead_lettered::bigint, k.orphaned::bigint, k.gaps, k.lost::bigint, k.unaccounted::bigint,
           (k.miscounted + abs(k.not_in_cells))::bigint, k.holes::bigint, k.overlaps::bigint, k.erased::bigint,
           k.expired::bigint, b.balanced,
           coalesce(c.problem, case when k.windows is null then 'no window in this period'
                                    when b.balanced then 'ok' else 'the ledger does not close' end)
    from gnomon_estimators.scope(ledger.stream, ledger.deployment) c
    left join checked k using (deployment_id)
    left join lateral (select k.unaccounted = 0 and k.miscounted = 0 and k.not_in_cells = 0
                              and coalesce(k.holes, 0) = 0 and coalesce(k.overlaps, 0) = 0 as balanced) b on true
    order by c.role, c.deployment
$$;
