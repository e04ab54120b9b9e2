-- The demo's queries while the pipeline runs.

-- name: declare_stream
insert into gnomon.streams (name, replay_from, replay_until) values (%s, %s, %s)

-- name: joined
select d.name, sum(p.next_source_offset)::bigint
from gnomon.join_progress p
join gnomon.deployments d using (deployment_id)
group by d.name

-- name: labels_read
select coalesce(sum(next_offset), 0)::bigint from gnomon.label_watermarks

-- name: next_by_partition
-- The next offset of the slowest joiner.
select source_partition, min(next_source_offset) from gnomon.join_progress group by source_partition

-- name: seal_cohorts
select gnomon.seal_cohorts(stream_id) from gnomon.streams where name = %s

-- name: labels
select count(*) from gnomon.labels
