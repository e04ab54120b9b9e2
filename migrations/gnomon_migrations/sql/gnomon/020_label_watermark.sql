-- The label watermark of each stream: every label observed before it is stored. It is the lowest observed time of the
-- label partitions that are not idle (if every one is idle, the highest of all), or the time that the load of a file
-- stated. Null: nothing is known yet.
create or replace view gnomon.label_progress as
select s.stream_id, s.name as stream,
       greatest((select case when bool_or(not w.idle and w.observed_until is null) then null
                             when bool_and(w.idle) then max(w.observed_until)
                             else min(w.observed_until) filter (where not w.idle) end
                 from gnomon.label_watermarks w where w.stream_id = s.stream_id),
                (select max(l.complete_until) from gnomon.label_loads l where l.stream_id = s.stream_id)) as watermark
from gnomon.streams s;

create or replace function gnomon.label_watermark(stream integer) returns timestamptz
    language sql stable set search_path = pg_catalog, pg_temp as
$$
    select watermark from gnomon.label_progress where stream_id = label_watermark.stream
$$;
