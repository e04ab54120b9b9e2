-- The source of every other report: names in place of numbers, and the one rule for comparing two answers.
create view gnomon_estimators.streams as
select stream_id, name, created_at, value_tolerance, label_kind, label_choice, label_grace, horizons, relative_tolerance,
       task, positive_class, negative_class, classes, time_zone
from gnomon.streams;

create view gnomon_estimators.deployments as
select d.deployment_id, s.name as stream, d.name as deployment, d.role, d.model_name, d.model_version, d.model_sha256,
       d.status, d.created_at
from gnomon.deployments d
join gnomon.streams s using (stream_id);

-- Items from the best score to the worst, equal scores by name; in their own order if they have no scores. Null if they
-- are not a ranking: no items, another number of scores, a score that is not a number. The joiner's rollups use the
-- same rule.
create function gnomon_estimators.ranked(items text[], scores float8[]) returns text[]
    language sql immutable parallel safe as
$$
    select case when items is null or scores is null then items
                when cardinality(items) <> cardinality(scores) or array_position(scores, 'NaN') is not null
                     or array_position(scores, null) is not null then null
                else (select coalesce(array_agg(r.item order by r.score desc, r.item collate "C"), '{}')
                      from unnest(items, scores) r(item, score)) end
$$;

-- a - b of finite numbers, the largest double instead of more; null if one is null. PostgreSQL ends a statement whose
-- result overflows.
create function gnomon_estimators.difference(a float8, b float8) returns float8 language sql immutable parallel safe as
$$
    select case when a is null or b is null then null
                when (a > 0) = (b > 0) or abs(a) <= 1.7976931348623157e308 - abs(b) then a - b
                when a > 0 then 1.7976931348623157e308 else -1.7976931348623157e308 end
$$;

-- Whether two finite values differ by no more than a tolerance, or than a share of the larger one. A product that could
-- leave the range of a double is avoided by a quotient; that of two different doubles is never below 1e-16.
create function gnomon_estimators.close_values(a float8, b float8, tolerance float8, relative float8) returns boolean
    language sql immutable parallel safe as
$$
    select case when a = b then true
                when abs(gnomon_estimators.difference(a, b)) <= tolerance then true
                when relative between 1e-100 and 1 and greatest(abs(a), abs(b)) > 1e-150
                then abs(gnomon_estimators.difference(a, b)) <= relative * greatest(abs(a), abs(b))
                else abs(gnomon_estimators.difference(a, b)) / greatest(abs(a), abs(b)) <= relative end
$$;

-- comparable: both answers have a label and no value that is not finite, or neither has a label and both have a finite
-- value, or neither has either and both are rankings. agrees: equal labels, values that differ by no more than the
-- stream's tolerance or its share of the larger one, equal rankings. NaN sorts above infinity in PostgreSQL, so the two
-- bounds of "finite" exclude it.
create view gnomon_estimators.pairs as
select s.name as stream, d.name as deployment, d.role, p.deployment_id, s.stream_id, p.event_time, p.source_partition,
       p.source_offset, p.request_id, p.cluster, p.stratum, p.segments, p.features_numeric, p.features_text,
       p.live_value, p.live_label, p.live_scores, p.live_items, p.live_error_kind, p.live_error_message,
       p.live_latency_us, p.live_feature_version, p.live_cache_hits, p.live_cache_misses, p.live_model_name,
       p.live_model_version,
       p.shadow_value, p.shadow_label, p.shadow_scores, p.shadow_items, p.shadow_error_kind, p.shadow_error_message,
       p.shadow_latency_us, p.shadow_feature_version, p.shadow_cache_hits, p.shadow_cache_misses, p.shadow_batch_size,
       p.shadow_queued_us, p.scored_at, p.outcome, p.capture_probability, p.inclusion_probability, p.weight, p.rank,
       p.window_id, p.producer_id, p.producer_sequence, p.replayed, p.joined_at, p.probe_probability,
       c.comparable,
       case when not c.comparable then null
            when p.live_label is not null then p.live_label = p.shadow_label
            when p.live_value is not null
            then gnomon_estimators.close_values(p.live_value, p.shadow_value, s.value_tolerance, s.relative_tolerance)
            else gnomon_estimators.ranked(p.live_items, p.live_scores) = gnomon_estimators.ranked(p.shadow_items, p.shadow_scores)
            end as agrees
from gnomon.pairs p
join gnomon.deployments d on d.deployment_id = p.deployment_id
join gnomon.streams s on s.stream_id = d.stream_id
cross join lateral (select p.live_error_kind is null and p.outcome = 'scored' and coalesce(
    case when p.live_label is not null or p.shadow_label is not null
         then p.live_label is not null and p.shadow_label is not null
              and coalesce(p.live_value > '-infinity' and p.live_value < 'infinity', true)
              and coalesce(p.shadow_value > '-infinity' and p.shadow_value < 'infinity', true)
         when p.live_value is not null or p.shadow_value is not null
         then p.live_value > '-infinity' and p.live_value < 'infinity'
              and p.shadow_value > '-infinity' and p.shadow_value < 'infinity'
         else gnomon_estimators.ranked(p.live_items, p.live_scores) is not null
              and gnomon_estimators.ranked(p.shadow_items, p.shadow_scores) is not null end, false) as comparable) c;

create view gnomon_estimators.label_versions as
select l.stream_id, s.name as stream, l.request_id, l.observed_at, l.value, l.label, l.relevance, l.items,
       l.occurred_at, l.source, l.label_partition, l.label_offset, l.load_id, l.stored_at
from gnomon.labels l
join gnomon.streams s using (stream_id);

-- The deployments of a question; exactly one row with a problem in words if there are none.
create function gnomon_estimators.scope(stream text, deployment text default null)
    returns table (deployment_id integer, stream text, deployment text, role text, problem text)
    language sql stable parallel safe rows 3 as -- planner note 9
$$
    with known as (select s.stream_id, s.name from gnomon_estimators.streams s where s.name = scope.stream),
         found as (select d.deployment_id, d.stream, d.deployment, d.role, null::text as problem
                   from gnomon_estimators.deployments d
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

create function gnomon_estimators.deployment_ids(stream text, deployment text default null)
    returns integer[] language sql stable parallel safe as
$$
    select coalesce(array_agg(d.deployment_id), '{}') from gnomon_estimators.deployments d
    where d.stream = deployment_ids.stream
      and (deployment_ids.deployment is null or d.deployment = deployment_ids.deployment)
$$;

-- Whether a pair belongs to a segment. The key @live_version is the version of the live model.
create function gnomon_estimators.in_segment(segments jsonb, live_version text, segment jsonb) returns boolean
    language sql immutable parallel safe as
$$
    select in_segment.segment is null
           or in_segment.segments @> (in_segment.segment - '@live_version')
              and coalesce(in_segment.live_version = in_segment.segment ->> '@live_version',
                           not in_segment.segment ? '@live_version')
$$;

-- The pairs of a question. The planner inlines the function, so that event_time prunes partitions. The deployments are
-- looked up once, before the scan, which workers can then share.
create function gnomon_estimators.pairs_of(stream text, deployment text, since timestamptz, until timestamptz, segment jsonb)
    returns setof gnomon_estimators.pairs language sql stable parallel safe rows 100000 as -- planner note 9
$$
    select p.* from gnomon_estimators.pairs p
    where p.deployment_id = any ((select gnomon_estimators.deployment_ids(pairs_of.stream, pairs_of.deployment))::integer[])
      and p.event_time >= coalesce(pairs_of.since, '-infinity')
      and p.event_time < coalesce(pairs_of.until, 'infinity')
      and gnomon_estimators.in_segment(p.segments, p.live_model_version, pairs_of.segment)
$$;
