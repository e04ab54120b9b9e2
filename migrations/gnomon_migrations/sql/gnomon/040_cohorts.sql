-- Seal, for every deployment and horizon of a stream, the next slice of event time that is old enough: whole days (UTC)
-- below both watermark - horizon - grace and the event time that the joiner has passed in every partition. The row
-- holds the offsets and loads that it covers, so rows that are stored later never enter. Returns the number of sealed
-- slices. It is one statement with one snapshot; the lock excludes concurrent sealing and the replay of dead letters.
create or replace function gnomon.seal_cohorts(stream integer) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp as
$$
declare
    sealed integer;
begin
    perform gnomon.lock_cohorts(stream);
    insert into gnomon.cohorts (deployment_id, horizon, since, until, watermark, grace, label_kind, label_choice,
                                source_offsets, label_offsets, load_ids)
    select d.deployment_id, h.horizon, previous.until, target.until, known.watermark, s.label_grace, s.label_kind,
           s.label_choice, joined.offsets,
           coalesce((select jsonb_object_agg(l.label_partition, l.next_offset)
                       from gnomon.label_watermarks l where l.stream_id = s.stream_id), '{}'),
           array(select l.load_id from gnomon.label_loads l where l.stream_id = s.stream_id order by l.load_id)
    from gnomon.streams s
    join gnomon.deployments d using (stream_id)
    cross join unnest(s.horizons) as h(horizon)
    cross join lateral (select gnomon.label_watermark(s.stream_id) as watermark) known
    cross join lateral (
        select jsonb_object_agg(p.source_partition, p.next_source_offset) as offsets,
               bool_or(not p.caught_up and p.event_time_reached is null) as unknown,
               min(p.event_time_reached) filter (where not p.caught_up) as passed
          from gnomon.join_progress p where p.deployment_id = d.deployment_id
    ) joined
    cross join lateral (
        select date_trunc('day', least(known.watermark - h.horizon - s.label_grace, joined.passed), 'UTC') as until
    ) target
    left join lateral (
        select max(c.until) as until from gnomon.cohorts c
         where c.deployment_id = d.deployment_id and c.horizon = h.horizon
    ) previous on true
    where s.stream_id = stream
      and known.watermark is not null
      and joined.offsets is not null
      and not joined.unknown
      and target.until > coalesce(previous.until, '-infinity')
      and (previous.until is not null or exists (
              select from gnomon.windows w
               where w.deployment_id = d.deployment_id and w.first_captured_at < target.until));
    get diagnostics sealed = row_count;
    return sealed;
end
$$;

-- Sealing cohorts of a stream, and adding pairs outside of the joiner, hold this lock until the transaction ends.
create or replace function gnomon.lock_cohorts(stream integer) returns void
    language sql set search_path = pg_catalog, pg_temp as
$$
    select pg_advisory_xact_lock(hashtextextended('gnomon.cohorts', stream))
$$;
