-- Every label of the stream observed before this moment is stored: the lowest of the label partitions that are not idle
-- (of all, the highest, when every one is idle), or what a file load stated. Null: nothing is known yet.
create or replace function gnomon.label_watermark(stream integer) returns timestamptz
    language sql stable set search_path = pg_catalog, pg_temp as
$$
    select greatest(
        (select case
                    when bool_or(not idle and observed_until is null) then null
                    when bool_and(idle) then max(observed_until)
                    else min(observed_until) filter (where not idle)
                end
           from gnomon.label_watermarks where stream_id = stream),
        (select max(complete_until) from gnomon.label_loads where stream_id = stream))
$$;
