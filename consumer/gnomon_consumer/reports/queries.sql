-- The queries of the reports in addition to their functions in report_v1.

-- name: time_zone
select time_zone from report_v1.streams where name = %s

-- name: now_in_zone
-- Fails for an unknown time zone, even without rows.
select now() at time zone %s

-- name: streams
select name from report_v1.streams order by 1

-- name: deployments
select deployment from report_v1.deployments where stream = %s order by 1

-- name: horizons
select unnest(horizons) from report_v1.streams where name = %s order by 1

-- name: segments
-- From the newest pairs only, because a query of all pairs would scan all of them.
select distinct k.key, k.value
from (
    select p.segments
    from gnomon_estimators.pairs_of(%s, %s, null, null, null) p
    order by p.event_time desc
    limit 10000) newest
cross join lateral jsonb_each_text(newest.segments) k

-- name: live_versions
-- From the newest pairs, as above.
select distinct newest.live_model_version
from (
    select p.live_model_version
    from gnomon_estimators.pairs_of(%s, %s, null, null, null) p
    order by p.event_time desc
    limit 10000) newest
order by 1

-- name: live_versions_within
-- Ten pairs of every hour with captures, by the index: a look at every pair would take longer than a report from the
-- rollups. A version that answered few requests of few hours may be missing.
select distinct v.live_model_version
from (select distinct deployment_id, hour from report_v1.rollups
      where deployment_id = any (gnomon_estimators.deployment_ids(%(stream)s, %(deployment)s))
        and hour >= date_trunc('hour', coalesce(%(since)s::timestamptz, '-infinity'))
        and hour < coalesce(%(until)s::timestamptz, 'infinity')) h
cross join lateral (
    select p.live_model_version
    from report_v1.pairs p
    where p.deployment_id = h.deployment_id
      and p.event_time >= greatest(h.hour, %(since)s::timestamptz)
      and p.event_time < least(h.hour + interval '1 hour', %(until)s::timestamptz)
    order by p.event_time
    limit 10) v
where v.live_model_version is not null
order by 1

-- name: captured
-- The first and last hour with captures, and the number of such hours in a period; from the rollups, which are few.
select min(hour), max(hour) + interval '1 hour',
       count(*) filter (where hour >= date_trunc('hour', %(since)s::timestamptz) and hour < %(until)s)
from report_v1.rollups
where deployment_id = any (gnomon_estimators.deployment_ids(%(stream)s, %(deployment)s))

-- name: feature_columns
select name, kind, position from report_v1.feature_columns where stream = %s order by name

-- name: tail
select * from report_v1.tail(%s, %s, %s)

-- A file of features recomputed offline, with which `report_v1.skew` compares the pairs.

-- name: make_offline_columns
-- {fields}: a column for each feature of the file.
create temporary table offline_columns (request_id text, {fields})

-- name: make_offline_features
-- {numbers}, {texts}: arrays with each feature at its position in `pairs`.
create temporary table offline_features as
select request_id, {numbers}::float8[] as numbers, {texts}::text[] as texts from offline_columns

-- name: drop_offline_columns
drop table offline_columns

-- name: index_offline_features
create unique index on offline_features (request_id)

-- name: analyze_offline_features
analyze offline_features
