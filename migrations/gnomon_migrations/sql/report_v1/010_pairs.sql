-- What every other report reads: names in place of numbers, and the one rule of comparing two answers.
create view report_v1.streams as
select stream_id, name, created_at, value_tolerance, label_kind, label_choice, label_grace, horizons from gnomon.streams;

comment on view report_v1.streams is 'The streams and how their labels are read.';

create view report_v1.deployments as
select d.deployment_id, s.name as stream, d.name as deployment, d.role, d.model_name, d.model_version, d.model_sha256,
       d.status, d.created_at
from gnomon.deployments d
join gnomon.streams s using (stream_id);

comment on view report_v1.deployments is 'The challengers and controls of every stream.';

-- comparable: both answers have a label, or neither has one and both have a finite value, or neither has either and
-- both have items. agrees: equal labels, values within the stream's tolerance, equal lists. NaN sorts above infinity
-- in PostgreSQL, so the two bounds of "finite" leave it out.
create view report_v1.pairs as
select s.name as stream, d.name as deployment, d.role, p.deployment_id, s.stream_id, p.event_time, p.source_partition,
       p.source_offset, p.request_id, p.cluster, p.stratum, p.segments, p.features_numeric, p.features_text,
       p.live_value, p.live_label, p.live_scores, p.live_items, p.live_error_kind, p.live_error_message,
       p.live_latency_us, p.live_feature_version, p.live_cache_hits, p.live_cache_misses, p.live_model_name,
       p.live_model_version,
       p.shadow_value, p.shadow_label, p.shadow_scores, p.shadow_items, p.shadow_error_kind, p.shadow_error_message,
       p.shadow_latency_us, p.shadow_feature_version, p.shadow_cache_hits, p.shadow_cache_misses, p.shadow_batch_size,
       p.shadow_queued_us, p.scored_at, p.outcome, p.capture_probability, p.inclusion_probability, p.weight, p.rank,
       p.window_id, p.producer_id, p.producer_sequence, p.replayed, p.joined_at,
       c.comparable,
       case when not c.comparable then null
            when p.live_label is not null then p.live_label = p.shadow_label
            when p.live_value is not null then abs(p.live_value - p.shadow_value) <= s.value_tolerance
            else p.live_items = p.shadow_items end as agrees
from gnomon.pairs p
join gnomon.deployments d on d.deployment_id = p.deployment_id
join gnomon.streams s on s.stream_id = d.stream_id
cross join lateral (select p.live_error_kind is null and p.outcome = 'scored' and coalesce(
    case when p.live_label is not null or p.shadow_label is not null
         then p.live_label is not null and p.shadow_label is not null
         when p.live_value is not null or p.shadow_value is not null
         then p.live_value > '-infinity' and p.live_value < 'infinity'
              and p.shadow_value > '-infinity' and p.shadow_value < 'infinity'
         else p.live_items is not null and p.shadow_items is not null end, false) as comparable) c;

comment on view report_v1.pairs is
    'One row a pair: the live answer beside the shadow''s, with the weight that makes it stand for all live traffic.';

create view report_v1.label_versions as
select l.stream_id, s.name as stream, l.request_id, l.observed_at, l.value, l.label, l.relevance, l.items,
       l.occurred_at, l.source, l.label_partition, l.label_offset, l.load_id, l.stored_at
from gnomon.labels l
join gnomon.streams s using (stream_id);

comment on view report_v1.label_versions is 'Every version of every label as it arrived.';

-- The deployments that a question is about; exactly one row with a problem in words when there are none.
create function report_v1.scope(stream text, deployment text default null)
    returns table (deployment_id integer, stream text, deployment text, role text, problem text)
    language sql stable parallel safe rows 3 as
$$
    with known as (select s.stream_id, s.name from report_v1.streams s where s.name = scope.stream),
         found as (select d.deployment_id, d.stream, d.deployment, d.role, null::text as problem
                   from report_v1.deployments d
                   where d.stream = scope.stream
                     and (scope.deployment is null or d.deployment = scope.deployment))
    select * from found
    union all
    select null, scope.stream, scope.deployment, null,
           case when not exists (select from known) then 'unknown stream'
                when scope.deployment is null then 'no deployment on this stream yet'
                else 'unknown deployment' end
    where not exists (select from found)
$$;

create function report_v1.deployment_ids(stream text, deployment text default null)
    returns integer[] language sql stable parallel safe as
$$
    select coalesce(array_agg(d.deployment_id), '{}') from report_v1.deployments d
    where d.stream = deployment_ids.stream
      and (deployment_ids.deployment is null or d.deployment = deployment_ids.deployment)
$$;

-- The pairs of a question. Inlined by the planner, so that event_time prunes partitions. The deployments are looked up
-- once, before the scan, which workers may share then.
create function report_v1.pairs_of(stream text, deployment text, since timestamptz, until timestamptz, segment jsonb)
    returns setof report_v1.pairs language sql stable parallel safe rows 100000 as
$$
    select p.* from report_v1.pairs p
    where p.deployment_id = any ((select report_v1.deployment_ids(pairs_of.stream, pairs_of.deployment))::integer[])
      and p.event_time >= coalesce(pairs_of.since, '-infinity')
      and p.event_time < coalesce(pairs_of.until, 'infinity')
      and (pairs_of.segment is null or p.segments @> pairs_of.segment)
$$;
