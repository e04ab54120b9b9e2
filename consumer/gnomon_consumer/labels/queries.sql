-- The statements of a label consumer and of a load.

-- name: new_stream
insert into gnomon.streams (name) values (%s) on conflict do nothing

-- name: stream_id
select stream_id from gnomon.streams where name = %s

-- name: positions
select label_partition, next_offset, cluster_id, topic_id
from gnomon.label_watermarks
where stream_id = %s and label_partition = any(%s)

-- name: begin_partition
insert into gnomon.label_watermarks (stream_id, label_partition, cluster_id, topic_id, next_offset)
values (%s, %s, %s, %s, %s)
on conflict do nothing

-- name: move_partition
-- Compare and set: returns no row if another consumer has moved it.
update gnomon.label_watermarks
set next_offset = %s, observed_until = greatest(observed_until, %s), idle = false,
    received = received + %s, stored = stored + %s, duplicates = duplicates + %s, rejected = rejected + %s,
    updated_at = now()
where stream_id = %s and label_partition = %s and next_offset = %s

-- name: set_idle
update gnomon.label_watermarks set idle = %(idle)s, updated_at = now()
where stream_id = %(stream)s and label_partition = %(partition)s and idle <> %(idle)s

-- name: begin_load
insert into gnomon.label_loads (stream_id, file, sha256, complete_until) values (%s, %s, %s, %s) returning load_id

-- name: end_load
update gnomon.label_loads set received = %s, stored = %s, duplicates = %s, rejected = %s where load_id = %s

-- name: maturity
-- In seconds, because the text of an interval depends on the session's style.
select gnomon.label_watermark(stream_id), extract(epoch from label_grace)::float8,
       array(select extract(epoch from h)::float8 from unnest(horizons) h)
from gnomon.streams
where stream_id = %s

-- name: seal_cohorts
select gnomon.seal_cohorts(%s)

-- name: make_incoming
-- Only for this transaction, because a pooler gives the next one another session.
create temp table incoming_labels (like gnomon.labels) on commit drop

-- name: number_incoming
alter table incoming_labels alter stored_at drop not null, add arrival int8

-- name: copy_incoming
copy incoming_labels (
    stream_id, request_id, observed_at, value, label, relevance, items, occurred_at, source, label_partition,
    label_offset, load_id, arrival)
from stdin (format binary)

-- name: store
insert into gnomon.labels (
    stream_id, request_id, observed_at, value, label, relevance, items, occurred_at, source, label_partition,
    label_offset, load_id)
select stream_id, request_id, observed_at, value, label, relevance, items, occurred_at, source, label_partition,
       label_offset, load_id
from incoming_labels
order by request_id, observed_at, arrival
on conflict do nothing

-- name: forget_known
-- Versions that are stored, now or before, also as a conflict within the second after their time.
delete from incoming_labels i using gnomon.labels l
where l.stream_id = i.stream_id and l.request_id = i.request_id
  and l.observed_at >= i.observed_at and l.observed_at < i.observed_at + interval '1 second'
  and (l.value, l.label, l.relevance, l.items) is not distinct from (i.value, i.label, i.relevance, i.items)

-- name: store_conflicts
-- One conflict for each request at a time, one microsecond after the newest version.
insert into gnomon.labels (
    stream_id, request_id, observed_at, value, label, relevance, items, occurred_at, source, label_partition,
    label_offset, load_id)
select i.stream_id, i.request_id, greatest(i.observed_at, newest) + interval '1 microsecond', i.value, i.label,
       i.relevance, i.items, i.occurred_at, i.source, i.label_partition, i.label_offset, i.load_id
from (select distinct on (request_id) * from incoming_labels order by request_id, arrival) i
cross join lateral (
    select max(l.observed_at) as newest from gnomon.labels l
    where l.stream_id = i.stream_id and l.request_id = i.request_id
      and l.observed_at >= i.observed_at and l.observed_at < i.observed_at + interval '1 second') placed
on conflict do nothing

-- name: drop_incoming
drop table incoming_labels

-- name: keep_report
-- Keep the newest heartbeat of a producer run.
insert into gnomon.producer_reports as r (
    stream_id, producer_id, service, host, pid, started_at, reported_at, offered, delivered, dropped, sampled_out,
    switched_off, closed)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
on conflict (stream_id, producer_id) do update
set service = excluded.service, host = excluded.host, pid = excluded.pid, started_at = excluded.started_at,
    reported_at = excluded.reported_at, offered = excluded.offered, delivered = excluded.delivered,
    dropped = excluded.dropped, sampled_out = excluded.sampled_out, switched_off = excluded.switched_off,
    closed = excluded.closed, stored_at = now()
where r.reported_at <= excluded.reported_at
