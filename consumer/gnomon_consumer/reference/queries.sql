-- The sources of a reference, and its storage.

-- name: pairs_by_deployment
select deployment, count(*)
from gnomon_estimators.pairs_of(%(stream)s, null, %(since)s, %(until)s, null)
group by 1
order by 2 desc, 1

-- name: features
select name, kind, position from report_v1.feature_columns where stream = %s order by kind, position

-- name: feature_values
-- {features}: the array of the feature's kind.
select {features}[%(position)s], weight
from gnomon_estimators.pairs_of(%(stream)s, %(deployment)s, %(since)s, %(until)s, null)

-- name: live_answers
-- {answer}: the live value or label.
select {answer}, weight
from gnomon_estimators.pairs_of(%(stream)s, %(deployment)s, %(since)s, %(until)s, null)
where live_error_kind is null

-- name: shadow_answers
-- {answer}: the deployment's value or label.
select {answer}, weight
from gnomon_estimators.pairs_of(%(stream)s, %(deployment)s, %(since)s, %(until)s, null)
where outcome = 'scored'

-- name: stream_id
select stream_id from gnomon.streams where name = %s

-- name: add_profile
-- {columns}: those of a Profile; {values}: a placeholder for each.
insert into gnomon.reference_profiles ({columns}) values ({values})

-- name: references
-- The newest first.
select name, source, count(*), max(n), max(built_at)
from report_v1.reference_profiles
where stream = %s
group by 1, 2
order by 5 desc
