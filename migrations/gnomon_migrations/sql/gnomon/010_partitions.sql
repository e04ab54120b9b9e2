-- Create the partition of gnomon.pairs that holds `moment`, if the stream may have one there: within its retention, up
-- to two days ahead, or inside its declared replay range. Returns true if a separate partition holds it, false if the
-- default one does. If an extension manages the partitions, none is created. It runs with its owner's rights, so that a
-- writer needs no right to create tables; call it in a separate transaction.
create or replace function gnomon.ensure_partition(stream integer, moment timestamptz) returns boolean
    language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '3s' as
$$
declare
    permitted boolean;
    unit text;
    first_unit text;
    from_utc timestamp;
    name text;
begin
    select moment between now() - s.retention and now() + interval '2 days'
           or coalesce(moment between s.replay_from and s.replay_until, false)
      into permitted from gnomon.streams s where s.stream_id = stream;
    if permitted is not true then
        return false;
    end if;
    if exists (select from gnomon.partition_manager()) then
        return gnomon.partition_holding(moment) is not null;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('gnomon.pairs', 0));
    select granularity into first_unit from gnomon.partitioning;
    -- A month for which daily partitions exist (the granularity was changed) keeps daily partitions.
    foreach unit in array case first_unit when 'month' then array['month', 'day'] else array['day'] end loop
        from_utc := date_trunc(unit, moment at time zone 'UTC');
        if gnomon.partition_holding(moment) is not null then
            return true;
        end if;
        name := 'pairs_' || to_char(from_utc, case unit when 'month' then 'YYYY_MM' else 'YYYY_MM_DD' end);
        begin
            execute format('create table gnomon.%I (like gnomon.pairs including defaults including constraints'
                           ' including generated)', name);
            execute format('alter table gnomon.pairs attach partition gnomon.%I for values from (%L) to (%L)', name,
                           from_utc at time zone 'UTC', (from_utc + ('1 ' || unit)::interval) at time zone 'UTC');
            return true;
        exception
            when invalid_object_definition then null; -- it overlaps another partition: try the smaller unit
            when check_violation then return false;   -- the default partition holds rows of this range
        end;
    end loop;
    return false;
end
$$;

-- The name of the partition, other than the default one, that holds `moment`; null if there is none.
create or replace function gnomon.partition_holding(moment timestamptz) returns text
    language sql stable set search_path = pg_catalog, pg_temp as
$$
    select p.partition_name from gnomon.pair_partitions p where moment >= p.since and moment < p.until
$$;

-- The extension that manages the partitions of gnomon.pairs and its retention for them; no row if Gnomon manages them.
create or replace function gnomon.partition_manager() returns table (manager text, retention text)
    language plpgsql stable set search_path = pg_catalog, pg_temp as
$$
declare
    home text;
begin
    select n.nspname into home from pg_extension e join pg_namespace n on n.oid = e.extnamespace
     where e.extname = 'pg_partman';
    if home is not null then
        return query execute format('select ''pg_partman'', retention from %I.part_config where parent_table = %L',
                                    home, 'gnomon.pairs');
    end if;
end
$$;
