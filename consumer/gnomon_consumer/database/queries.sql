-- name: revision
select revision from report_v1.version

-- name: time_limits
-- In milliseconds, 0 for none. Behind a pooler `setting` may be of another user's SET.
select name, reset_val::integer from pg_settings where name in ('idle_in_transaction_session_timeout', 'lock_timeout')

-- Maintenance of the data: future and expired partitions, and the erasure of one request.

-- name: stream_id
select stream_id from gnomon.streams where name = %s

-- name: stream_ids
select stream_id from gnomon.streams order by 1

-- name: forget_cohort_estimates
select gnomon.forget_cohort_estimates(%s)

-- name: keep_cohort_estimates
select gnomon.keep_cohort_estimates()

-- name: keep_waiting
-- A server may end sessions whose transaction is idle; this one is idle while it holds the lock.
set local idle_in_transaction_session_timeout = 0

-- name: lock_maintenance
-- Held until the transaction ends.
select pg_advisory_xact_lock(hashtextextended('gnomon.maintain', 0))

-- name: give_up_soon
set local lock_timeout = '5s'

-- name: ensure_partition
select gnomon.ensure_partition(%s, %s)

-- name: partition_holding
select gnomon.partition_holding(%s)

-- name: partition_manager
select manager, retention from gnomon.partition_manager()

-- name: partitions
select partition_name, since, until from gnomon.pair_partitions

-- name: granularity
select granularity from gnomon.partitioning

-- name: is_wanted
-- Whether any stream may hold event times just below `until`; true without a stream.
select coalesce(bool_or(
    %(until)s > now() - retention
    or coalesce(%(until)s > replay_from
                and %(until)s <= date_trunc('month', replay_until) + interval '1 month', false)), true)
from gnomon.streams

-- name: waiting_in_default
-- By stream and day: pairs in the default partition with a permitted event time.
select d.stream_id, max(p.event_time), count(*)
from gnomon.pairs_default p
join gnomon.deployments d using (deployment_id)
join gnomon.streams s using (stream_id)
where p.event_time between now() - s.retention and now() + interval '2 days'
   or p.event_time between s.replay_from and s.replay_until
group by d.stream_id, date_trunc('day', p.event_time, 'UTC')
order by 2

-- name: lock_default
lock table gnomon.pairs_default in access exclusive mode

-- name: make_moved
create temp table moved (like gnomon.pairs including generated) on commit drop

-- name: out_of_default
with gone as (delete from gnomon.pairs_default where event_time >= %s and event_time < %s returning {columns})
insert into moved ({columns}) select {columns} from gone

-- name: into_pairs
insert into gnomon.pairs ({columns}) select {columns} from moved

-- name: drop_moved
drop table moved

-- name: lock_partition
lock table {partition} in access exclusive mode

-- name: count_rows
select count(*) from {partition}

-- name: drop_partition
drop table {partition}

-- name: count_removed
-- Add {rows} (deployment_id, window_id, stratum) to the {column} of their cells.
update gnomon.cells c set {column} = c.{column} + r.n
from (select w.deployment_id, w.source_partition, w.start_offset, p.stratum, count(*) as n
      from {rows} p join gnomon.windows w using (deployment_id, window_id)
      group by 1, 2, 3, 4) r
where c.deployment_id = r.deployment_id and c.source_partition = r.source_partition
  and c.start_offset = r.start_offset and c.stratum = r.stratum

-- name: ledger_differences
select d.name as deployment, l.*
from gnomon.streams s
join gnomon.deployments d using (stream_id)
cross join lateral gnomon.ledger_differences(d.deployment_id) l
where s.name = %s
order by 1, 2, 3

-- name: make_erased_rows
create temp table erased_rows (
    deployment_id int, window_id uuid, stratum text, source_partition int, source_offset bigint) on commit drop

-- name: erase_pairs
with gone as (
    delete from gnomon.pairs
    where request_id = %s and deployment_id in (select deployment_id from gnomon.deployments where stream_id = %s)
    returning *)
insert into erased_rows
select deployment_id, window_id, stratum, source_partition, source_offset from gone

-- name: erase_dead_letters
with gone as (
    delete from gnomon.dead_letters
    where request_id = %s and deployment_id in (select deployment_id from gnomon.deployments where stream_id = %s)
    returning *)
insert into erased_rows
select g.deployment_id, w.window_id, g.stratum, g.source_partition, g.source_offset
from gone g
join gnomon.windows w on w.deployment_id = g.deployment_id and w.source_partition = g.source_partition
                     and w.start_offset = g.window_start

-- name: erase_labels
delete from gnomon.labels where stream_id = %s and request_id = %s

-- name: erased_coordinates
select distinct source_partition, source_offset from erased_rows order by 1, 2

-- name: dead_letters
-- Dead letters of a stream, of one deployment, or at one partition and offset; null means any.
select d.name as deployment, l.source_partition, l.source_offset, l.request_id, l.stratum, l.stage, l.reason, l.detail,
       l.size, l.window_start, w.window_id::text, l.inclusion_probability, l.rank, l.recorded_at
from gnomon.streams s
join gnomon.deployments d using (stream_id)
join gnomon.dead_letters l using (deployment_id)
join gnomon.windows w on w.deployment_id = l.deployment_id and w.source_partition = l.source_partition
                     and w.start_offset = l.window_start
where s.name = %(stream)s
  and (%(deployment)s::text is null or d.name = %(deployment)s)
  and (%(partition)s::int is null or (l.source_partition, l.source_offset) = (%(partition)s, %(offset)s))
order by d.name, l.source_partition, l.source_offset

-- name: deployment_model
select d.model_sha256, d.model_name, d.model_version
from gnomon.deployments d join gnomon.streams s using (stream_id)
where s.name = %s and d.name = %s

-- The declared settings of a stream.

-- name: new_stream
insert into gnomon.streams (name) values (%s) on conflict do nothing

-- name: stream_names
select name from gnomon.streams order by 1

-- name: locked_settings
-- {columns}: the ones that a user sets.
select {columns} from gnomon.streams where stream_id = %s for update

-- name: settings
select {columns}, replay_from, replay_until from gnomon.streams where name = %s

-- name: change_settings
-- {changes}: `column = placeholder` for each changed setting.
update gnomon.streams set {changes} where stream_id = %s

-- name: change_granularity
-- One setting for the whole database; no row is changed if it is the same.
insert into gnomon.partitioning as p (granularity)
values (%s)
on conflict (only_row) do update set granularity = excluded.granularity
where p.granularity <> excluded.granularity

-- name: recount_agreement
-- The rollups count agreement by the rule of report_v1.pairs; expired pairs keep their earlier count.
update gnomon.rollups r
set agreed = s.agreed, agreed_weight = s.weight, agreed_weight_squared = s.squared
from (select p.deployment_id, date_trunc('hour', p.event_time, 'UTC') as hour, p.stratum,
             count(*) filter (where p.agrees) as agreed,
             coalesce(sum(p.weight) filter (where p.agrees), 0) as weight,
             coalesce(sum(p.weight ^ 2) filter (where p.agrees), 0) as squared
      from report_v1.pairs p where p.stream_id = %s
      group by 1, 2, 3) s
where r.deployment_id = s.deployment_id and r.hour = s.hour and r.stratum = s.stratum

-- name: as_time_zone
-- PostgreSQL raises an error for an unknown zone.
select %s::text, now() at time zone %s

-- name: as_interval
select %s::interval

-- name: as_intervals
select %s::interval[]

-- The roles.

-- name: role
select from pg_roles where rolname = %s

-- name: create_role
create role {role} nologin

-- name: grant_roles
select gnomon.grant_roles()

-- name: owner
-- Whether the session's role may act as the owner of Gnomon's tables, and the owner's name.
select pg_has_role(nspowner, 'usage'), pg_get_userbyid(nspowner) from pg_namespace where nspname = 'gnomon'
