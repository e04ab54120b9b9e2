-- The doctor's queries about one stream.

-- name: origins
-- The cluster and topic of the stored rows, by deployment and for the labels.
select distinct d.name, 'live', p.cluster_id, p.topic_id
from gnomon.streams s
join gnomon.deployments d using (stream_id)
join gnomon.join_progress p using (deployment_id)
where s.name = %(stream)s
union
select distinct 'the labels', 'labels', w.cluster_id, w.topic_id
from gnomon.streams s
join gnomon.label_watermarks w using (stream_id)
where s.name = %(stream)s
order by 1

-- name: roles
select rolname from pg_roles where rolname = any (%s)

-- name: orphans
-- Captures that Kafka had deleted before they were joined, and before they were counted.
select d.name, coalesce(sum(c.joined_orphaned), 0)::bigint,
       coalesce((select sum(w.joined_missing) from gnomon.windows w where w.deployment_id = d.deployment_id), 0)::bigint
from gnomon.streams s
join gnomon.deployments d using (stream_id)
left join gnomon.cells c using (deployment_id)
where s.name = %s
group by d.deployment_id, d.name
order by 1

-- name: progress
select d.name, p.source_partition, p.next_source_offset
from gnomon.streams s
join gnomon.deployments d using (stream_id)
join gnomon.join_progress p using (deployment_id)
where s.name = %s
order by 1, 2

-- name: captures
select coalesce(sum(c.seen), 0)::bigint, count(distinct d.name)
from gnomon.streams s
join gnomon.deployments d using (stream_id)
left join gnomon.cells c using (deployment_id)
where s.name = %s

-- name: producers
-- The last column: whether the run closed, or reported or captured within the last minute.
select p.producer_id, d.name, p.received - p.repeated, p.missing, p.offered,
       p.closed or coalesce(greatest(p.reported_at, p.last_captured_at) > now() - interval '1 minute', false)
from gnomon.producers p
join gnomon.streams s using (stream_id)
join gnomon.deployments d using (deployment_id)
where s.name = %s

-- name: early_labels
-- Requests with a version of their label that was observed before the capture.
select count(distinct p.request_id)
from gnomon.streams s
join gnomon.deployments d using (stream_id)
join gnomon.pairs p using (deployment_id)
join gnomon.labels l on l.stream_id = s.stream_id and l.request_id = p.request_id and l.observed_at < p.event_time
where s.name = %s
