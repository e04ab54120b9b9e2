-- Plans, seals, verdicts, promotions and their events. The day sums of a verdict come from functions of
-- gnomon_estimators (migrations, 600_verdict.sql).

-- name: deployments
select * from report_v1.deployments where stream = %(stream)s order by deployment

-- name: streams
select name from report_v1.streams order by name

-- name: controls
select * from report_v1.deployments where stream = %(stream)s and role = 'control' order by deployment_id

-- name: control_agreement
-- What report_v1.agreement says of agreement; kappa and the differences of values would take longer than all else.
select n, estimate as agreement, high
from gnomon_estimators.estimates(%(stream)s, %(deployment)s, %(since)s, %(until)s, metrics => '{agreement}', exact => null)
where side = 'pair'

-- name: now
select now() as at

-- name: lock_plans
select pg_advisory_xact_lock(hashtextextended('gnomon.plans', %(id)s))

-- name: stored_plans
select plan_id, plan, sha256, process, evidence_from, recorded_at from report_v1.plans
where deployment_id = %(id)s and recorded_at <= coalesce(%(as_of)s::timestamptz, 'infinity')
order by plan_id

-- name: read_only
-- Until the transaction ends or the savepoint is rolled back.
select set_config('transaction_read_only', 'on', true)

-- name: check_expression
-- It reads no pair: the expression is only planned.
select count(*) from gnomon_estimators.verdict_compared(
    stream => '', deployment => '', since => 'infinity', until => '-infinity', joined_by => null, time_zone => 'UTC',
    keys => '{}', clustered => false, compare => 'sql', tolerance => null, k => null, expression => %(expression)s)

-- name: captured_until
select max(last_captured_at) as at from gnomon_estimators.windows where deployment_id = %(id)s

-- name: add_plan
insert into gnomon.plans (deployment_id, sha256, process, plan, evidence_from)
values (%(id)s, %(sha256)s, %(process)s, %(plan)s, %(since)s)

-- name: sealed_cohort
select until, cohort_id from gnomon_estimators.sealed_cohorts
where deployment_id = %(id)s and horizon = %(horizon)s::interval
  and sealed_at <= coalesce(%(as_of)s::timestamptz, 'infinity')
order by until desc limit 1

-- name: joined_until
-- The event time up to which every partition had been joined by a time; it serves as the seal if no label is needed.
select min(w.reached) as until
from (select max(last_captured_at) as reached from gnomon_estimators.windows
      where deployment_id = %(id)s and applied_at <= coalesce(%(as_of)s::timestamptz, 'infinity')
      group by source_partition) w

-- name: horizons
select horizons from report_v1.streams where name = %(stream)s

-- name: replayed_until
-- The last capture, and whether windows opened long after it, which shows that the past is replayed.
select max(last_captured_at) as last, min(opened_at - last_captured_at) > interval '1 day' as past
from gnomon_estimators.windows
where deployment_id = %(id)s and last_captured_at is not null

-- name: segments
-- Equal segment objects are expanded once.
select s.key, array_agg(distinct s.value) as values
from (select distinct p.segments
      from gnomon_estimators.pairs_of(%(stream)s, %(deployment)s, %(since)s, %(until)s, null) p) found
cross join lateral jsonb_each_text(found.segments) s
group by 1 order by 1

-- name: ledger_differences
select gnomon_estimators.verdict_ledger_differences(%(id)s) as n

-- name: standing_former
-- The model that was live before the stream's newest promotion that was in effect at a time.
select p.former from report_v1.promotions p
join report_v1.deployments d using (stream)
where d.deployment_id = %(id)s and p.undoes is null
  and p.decided_at <= coalesce(%(as_of)s::timestamptz, 'infinity')
  and not exists (select from report_v1.promotions u
                  where u.undoes = p.promotion_id and u.decided_at <= coalesce(%(as_of)s::timestamptz, 'infinity'))
order by p.promotion_id desc limit 1

-- name: first_rejection
-- The verdict by which a process was rejected before a time.
select v.verdict_id, v.days, v.decided_at, v.verdict from report_v1.verdicts v
where v.deployment_id = %(id)s and v.decision = 'REJECT' and v.plan_id >= %(since_plan)s
  and v.decided_at < coalesce(%(as_of)s::timestamptz, 'infinity')
order by v.verdict_id limit 1

-- name: lock_verdicts
select pg_advisory_xact_lock(hashtextextended('gnomon.verdicts', %(id)s))

-- name: last_verdict
select verdict_id, plan_id, as_of, decision, evidence from gnomon.verdicts
where deployment_id = %(id)s
order by verdict_id desc limit 1

-- name: add_verdict
insert into gnomon.verdicts (deployment_id, plan_id, cohort_id, as_of, decision, sentence, days, look, verdict,
    evidence, evidence_sha256, decided_by)
values (%(deployment_id)s, %(plan_id)s, %(cohort_id)s, %(as_of)s, %(decision)s, %(sentence)s, %(days)s, %(look)s,
    %(verdict)s, %(evidence)s, %(sha256)s, %(by)s)
returning verdict_id

-- name: verdict
select v.*, p.plan, p.sha256 as plan_sha256
from report_v1.verdicts v
join report_v1.plans p using (plan_id)
where v.verdict_id = %(id)s

-- name: known_verdicts
select min(verdict_id) as low, max(verdict_id) as high from report_v1.verdicts

-- name: cohort_of_evidence
select cohort_id, until, source_offsets, label_offsets, load_ids from gnomon_estimators.sealed_cohorts
where deployment_id = %(id)s and horizon = %(horizon)s::interval
  and sealed_at <= coalesce(%(as_of)s::timestamptz, 'infinity')
order by until desc limit 1

-- name: partitions
select source_partition, start_offset, topic_id, seed, policy from gnomon_estimators.joined_partitions
where deployment_id = %(id)s
order by 1

-- name: features
select f.name, f.avro_type from gnomon_estimators.feature_columns f
join report_v1.deployments d using (stream)
where d.deployment_id = %(id)s and f.added_at <= coalesce(%(as_of)s::timestamptz, 'infinity')
order by 1

-- name: view_versions
select name, sha256 from gnomon_estimators.view_versions order by 1

-- name: cpu_a_row
select sum(w.cpu_us)::float8 / nullif(sum(c.sampled), 0)::float8 as us
from gnomon_estimators.windows w
join gnomon_estimators.cells c using (deployment_id, source_partition, start_offset)
where w.deployment_id = %(id)s and w.cpu_us is not null

-- name: add_event
insert into gnomon.events (event_id, deployment_id, kind, data) values (%s, %s, %s, %s)

-- name: waiting_events
-- Two senders never get the same event.
select e.event_id, e.kind, e.data, e.created_at, d.stream, d.deployment from gnomon.events e
join report_v1.deployments d using (deployment_id)
where e.delivered_at is null
order by e.created_at, e.event_id
limit %(most)s
for update of e skip locked

-- name: event_was_sent
update gnomon.events
set attempts = attempts + 1, problem = %(problem)s,
    delivered_at = case when %(problem)s::text is null then now() end
where event_id = %(id)s

-- name: lock_promotions
select pg_advisory_xact_lock(hashtextextended('gnomon.promotions.' || %(stream)s, 0))

-- name: standing_promotion
-- The newest promotion of a stream that was not undone.
select p.* from gnomon.promotions p
join gnomon.streams s using (stream_id)
where s.name = %(stream)s and p.undoes is null
  and not exists (select from gnomon.promotions u where u.undoes = p.promotion_id)
order by p.promotion_id desc limit 1

-- name: live_model
select live_model_name, live_model_version from gnomon.pairs
where deployment_id = %(id)s
order by event_time desc limit 1

-- name: newest_verdict
-- With the newest plan, and the newest seal of the verdict's horizon.
select v.verdict_id, v.decision, v.plan_id, v.cohort_id, (v.evidence ->> 'sealed_until')::timestamptz as sealed_until,
       (select max(p.plan_id) from gnomon.plans p where p.deployment_id = v.deployment_id) as newest_plan,
       (select c.cohort_id from gnomon.cohorts c
        where c.deployment_id = v.deployment_id
          and c.horizon = (select h.horizon from gnomon.cohorts h where h.cohort_id = v.cohort_id)
        order by c.until desc limit 1) as newest_cohort
from gnomon.verdicts v
where v.deployment_id = %(id)s
order by v.verdict_id desc limit 1

-- name: open_intent
-- An intent that began and has not ended.
select i.*, d.name as deployment, s.name as stream from gnomon.promotion_intents i
join gnomon.deployments d using (deployment_id)
join gnomon.streams s on s.stream_id = i.stream_id
where s.name = %(stream)s and i.outcome is null

-- name: add_intent
-- Under the number that the promotion will have.
insert into gnomon.promotion_intents (promotion_id, stream_id, deployment_id, verdict_id, undoes, override, way_back,
    former, promoted, decided_by)
select nextval(pg_get_serial_sequence('gnomon.promotions', 'promotion_id')), stream_id, %(id)s, %(verdict)s, %(undoes)s,
    %(override)s, %(way_back)s, %(former)s, %(promoted)s, %(by)s
from gnomon.deployments where deployment_id = %(id)s
returning promotion_id

-- name: resolve_intent
-- Returns no row if another process has resolved it.
update gnomon.promotion_intents set outcome = %(outcome)s, resolved_at = now()
where promotion_id = %(promotion)s and outcome is null
returning *

-- name: add_promotion
insert into gnomon.promotions (promotion_id, stream_id, deployment_id, verdict_id, undoes, override, way_back, former,
    promoted, decided_by)
overriding system value
select promotion_id, stream_id, deployment_id, verdict_id, undoes, override, way_back, former, promoted, decided_by
from gnomon.promotion_intents where promotion_id = %(promotion)s
