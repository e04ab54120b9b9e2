-- Every place where the ledger of a deployment does not close: one row a difference, none if the ledger is closed.
--   tiling: windows of a partition follow each other without overlap or hole, from its start to its progress
--   length: a window has no more captures, seen or lost, than offsets (markers of transactions are offsets too)
--   seen: the scorer's count against the joiner's, without captures that expired unread
--   sampled: the scorer's sample against its own outcomes, and against the joiner's results
--   rows: the existing pairs and dead letters, against those that were joined and are neither erased nor expired
--   weights: the inclusion probability of every pair against its cell's, draw_probability * sampled / seen; in
--       billionths
create or replace function gnomon.ledger_differences(deployment integer)
    returns table (source_partition integer, start_offset bigint, kind text, expected bigint, found bigint)
    language sql stable set search_path = pg_catalog, pg_temp set enable_nestloop = off as -- planner note 6
$$
    with w as (
        select * from gnomon.windows where deployment_id = deployment
    ), c as (
        select source_partition, start_offset, sum(seen) as seen, sum(sampled) as sampled,
               sum(scored + failed + timed_out + dead_lettered) as claimed,
               sum(joined_scored + joined_failed + joined_timed_out + joined_dead_lettered) as stored,
               sum(joined_orphaned) as orphaned, sum(joined_seen) as joined_seen, sum(erased + expired) as removed
          from gnomon.cells where deployment_id = deployment group by 1, 2
    ), p as (
        select window_id, stratum, count(*) as n, min(inclusion_probability) as low, max(inclusion_probability) as high
          from gnomon.pairs where deployment_id = deployment group by 1, 2
    ), stand as (
        select w.source_partition, w.start_offset, p.n
          from (select window_id, sum(n) as n from p group by 1) p
          join w using (window_id)
        union all
        select source_partition, window_start, count(*) from gnomon.dead_letters
         where deployment_id = deployment group by 1, 2
    ), rows as (
        select source_partition, start_offset, sum(n) as n from stand group by 1, 2
    ), ends as (
        select source_partition, start_offset, end_offset,
               lag(end_offset) over (partition by source_partition order by start_offset) as before
          from w
    )
    select e.source_partition, e.start_offset, 'tiling', coalesce(e.before, p.start_offset), e.start_offset
      from ends e join gnomon.join_progress p
        on p.deployment_id = deployment and p.source_partition = e.source_partition
     where e.start_offset <> coalesce(e.before, p.start_offset)
    union all
    select p.source_partition, p.next_source_offset, 'tiling', p.next_source_offset,
           coalesce(max(w.end_offset), p.start_offset)
      from gnomon.join_progress p left join w using (source_partition)
     where p.deployment_id = deployment
     group by p.source_partition, p.next_source_offset, p.start_offset
    having p.next_source_offset <> coalesce(max(w.end_offset), p.start_offset)
    union all
    select source_partition, start_offset, 'length', end_offset - start_offset, seen + gap_lost
      from w where seen + gap_lost > end_offset - start_offset
    union all
    select w.source_partition, w.start_offset, 'seen', w.seen, w.joined_seen + w.joined_missing
      from w where w.seen <> w.joined_seen + w.joined_missing
    union all
    select w.source_partition, w.start_offset, 'seen', w.seen, coalesce(c.seen, 0)
      from w left join c using (source_partition, start_offset) where w.seen <> coalesce(c.seen, 0)
    union all
    select w.source_partition, w.start_offset, 'seen', w.joined_seen, coalesce(c.joined_seen, 0)
      from w left join c using (source_partition, start_offset) where w.joined_seen <> coalesce(c.joined_seen, 0)
    union all
    select source_partition, start_offset, 'sampled', sampled, claimed from c where sampled <> claimed
    union all
    select source_partition, start_offset, 'sampled', sampled, stored + orphaned from c
     where sampled <> stored + orphaned
    union all
    select c.source_partition, c.start_offset, 'rows', c.stored - c.removed, coalesce(r.n, 0)
      from c left join rows r using (source_partition, start_offset)
     where c.stored - c.removed <> coalesce(r.n, 0)
    union all
    select l.source_partition, l.start_offset, 'weights', round(1e9 * l.pi)::bigint,
           round(1e9 * case when abs(p.low - l.pi) > 1e-9 * l.pi then p.low else p.high end)::bigint
      from (select w.window_id, c.source_partition, c.start_offset, c.stratum,
                   c.draw_probability * c.sampled / nullif(c.seen, 0) as pi
              from gnomon.cells c join w using (source_partition, start_offset)
             where c.deployment_id = deployment) l
      join p using (window_id, stratum)
     where greatest(abs(p.low - l.pi), abs(p.high - l.pi)) > 1e-9 * l.pi
$$;
