-- The statements of the joiner. Pairs, windows, cells and dead letters are written by COPY (sink.py).

-- name: new_stream
insert into gnomon.streams (name) values (%s) on conflict do nothing

-- name: stream_id
select stream_id from gnomon.streams where name = %s

-- name: new_deployment
insert into gnomon.deployments (stream_id, name) values (%s, %s) on conflict do nothing

-- name: deployment_id
select deployment_id from gnomon.deployments where stream_id = %s and name = %s

-- name: declare_replay
-- Event times of this past period get separate table partitions.
update gnomon.streams set replay_from = %s, replay_until = %s where stream_id = %s

-- name: progress
-- The progress of each partition, and the identity of its logs; the columns after the third are IDENTITY.
select source_partition, next_source_offset, next_shadow_offset,
       cluster_id, topic_id, start_offset, model_name, model_version, model_sha256, seed, policy, started_at
from gnomon.join_progress
where deployment_id = %s and source_partition = any(%s)

-- name: begin_partition
insert into gnomon.join_progress (
    deployment_id, source_partition,
    cluster_id, topic_id, start_offset, model_name, model_version, model_sha256, seed, policy, started_at,
    next_source_offset, next_shadow_offset)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
on conflict do nothing

-- name: describe_deployment
-- Set by the first partition that begins; the others have the same values.
update gnomon.deployments set role = %s, model_name = %s, model_version = %s, model_sha256 = %s
where deployment_id = %s and model_sha256 is null

-- name: caught_up
update gnomon.join_progress set caught_up = true, updated_at = now()
where deployment_id = %s and source_partition = any(%s)

-- name: move_progress
-- Compare and set: returns no row if another joiner has moved it.
update gnomon.join_progress
set next_source_offset = %s, next_shadow_offset = %s, event_time_reached = greatest(event_time_reached, %s),
    caught_up = false, defaulted = defaulted + %s, updated_at = now()
where deployment_id = %s and source_partition = %s and next_source_offset = %s

-- name: tolerance
-- The tolerance of the stream; locked, because a change of it recounts the rollups.
select value_tolerance, relative_tolerance from gnomon.streams where stream_id = %s for share

-- name: add_rollup
-- {columns} are counts and sums of one hour and stratum.
insert into gnomon.rollups as r (deployment_id, hour, stratum, {columns})
values (%s, %s, %s, {values})
on conflict (deployment_id, hour, stratum) do update set {added}

-- name: add_decisions
insert into gnomon.rollup_labels as r (deployment_id, hour, live_label, shadow_label, pairs, weight, weight_squared)
values (%s, %s, %s, %s, %s, %s, %s)
on conflict (deployment_id, hour, live_label, shadow_label) do update
set pairs = r.pairs + excluded.pairs, weight = r.weight + excluded.weight,
    weight_squared = r.weight_squared + excluded.weight_squared

-- name: add_tallies
-- The captures received from producer runs: arrays with one element for each partition and run. Times are UTC.
insert into gnomon.producer_tallies as t (
    deployment_id, source_partition, producer_id, received, lowest_sequence, highest_sequence, repeated,
    first_captured_at, last_captured_at)
select %s, source_partition, producer_id, received, lowest_sequence, highest_sequence, repeated,
       first_captured_at at time zone 'UTC', last_captured_at at time zone 'UTC'
from unnest(%s::integer[], %s::uuid[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::timestamp[],
            %s::timestamp[])
     as u (source_partition, producer_id, received, lowest_sequence, highest_sequence, repeated,
           first_captured_at, last_captured_at)
on conflict (deployment_id, source_partition, producer_id) do update
set received = t.received + excluded.received,
    repeated = t.repeated + excluded.repeated,
    lowest_sequence = least(t.lowest_sequence, excluded.lowest_sequence),
    highest_sequence = greatest(t.highest_sequence, excluded.highest_sequence),
    first_captured_at = least(t.first_captured_at, excluded.first_captured_at),
    last_captured_at = greatest(t.last_captured_at, excluded.last_captured_at)

-- name: lock_stream
-- One allocation of feature columns at a time.
select from gnomon.streams where stream_id = %s for no key update

-- name: feature_columns
select name, kind, position from gnomon.feature_columns where stream_id = %s

-- name: new_feature_column
insert into gnomon.feature_columns (stream_id, name, kind, position, avro_type) values (%s, %s, %s, %s, %s)

-- name: ensure_partition
select gnomon.ensure_partition(%s, %s)

-- name: lock_cohorts
select gnomon.lock_cohorts(%s)

-- name: take_dead_letter
-- Only one caller gets the row.
delete from gnomon.dead_letters
where deployment_id = %s and source_partition = %s and source_offset = %s
returning true

-- name: mark_replayed
update gnomon.pairs set replayed = true
where deployment_id = %s and event_time = %s and source_partition = %s and source_offset = %s

-- name: move_in_cell
-- Count one row of a cell as {outcome} instead of dead-lettered; returns the beginning of its window.
with moved as (
    update gnomon.cells set {outcome} = {outcome} + 1, joined_dead_lettered = joined_dead_lettered - 1
    where deployment_id = %s and source_partition = %s and start_offset = %s and stratum = %s
    returning deployment_id, source_partition, start_offset)
select coalesce(w.first_captured_at, w.opened_at)
from moved join gnomon.windows w using (deployment_id, source_partition, start_offset)
