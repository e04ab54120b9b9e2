-- The evidence of a verdict, by whole local days of sealed cohorts (docs/verdict.md). The client requests each part;
-- the decision itself is not made in SQL. A role that can only read may decide and verify, so the views that it needs
-- are here.

create view gnomon_estimators.view_versions as select name, sha256 from gnomon.view_versions;

create view gnomon_estimators.sealed_cohorts as
select cohort_id, deployment_id, horizon, until, sealed_at, source_offsets, label_offsets, load_ids from gnomon.cohorts;

create view gnomon_estimators.joined_partitions as
select deployment_id, source_partition, start_offset, topic_id, seed, policy from gnomon.join_progress;

-- The number of differences in the ledger of a deployment. With the owner's rights, because it reads the tables.
create function gnomon_estimators.verdict_ledger_differences(deployment integer) returns bigint
    language sql stable security definer set search_path = pg_catalog, pg_temp as
$$
    select count(*) from gnomon.ledger_differences(verdict_ledger_differences.deployment)
$$;

-- The pairs of sealed cohorts that both sides answered, grouped by everything that has few different values; weights,
-- values and units are arrays of the same length, one element a pair, so that the client sums them as vectors, and each
-- pair is read once. A unit is the hash of a cluster; a request without one is its own unit; null if no request has a
-- cluster. A missing value is NaN. watched: the values of the requested segment keys, null: of all of them. ranked: with
-- the NDCG of both lists of each pair, in the order of `ndcg_metrics`.
create function gnomon_estimators.verdict_pairs(stream text, deployment text, since timestamptz, until timestamptz,
                                        horizon interval, time_zone text, keys text[], clustered boolean,
                                        ranked boolean)
    returns table (day date, watched jsonb, live_label text, shadow_label text, truth_label text, known boolean,
                   weights float8[], live_values float8[], shadow_values float8[], truths float8[], units bigint[],
                   live_lists float8[], shadow_lists float8[])
    -- planner notes 4 (here a sort would also carry the arrays of the groups), 5, 6
    language plpgsql stable set enable_nestloop = off set enable_sort = off set work_mem = '128MB' as
$$
begin
    -- Planned for this question: the join depends on whether labels have several versions.
    return query execute $sql$
    select (p.event_time at time zone $6)::date,
           case when $7 is null then p.segments
                else (select jsonb_object_agg(k, p.segments -> k) from unnest($7) k where p.segments ? k) end,
           p.live_label, p.shadow_label, p.truth_label, p.known, array_agg(p.weight),
           array_agg(coalesce(p.live_value, 'NaN'::float8)), array_agg(coalesce(p.shadow_value, 'NaN'::float8)),
           array_agg(coalesce(p.truth_value, 'NaN'::float8)),
           case when $8 then array_agg(gnomon_estimators.unit_of(p.cluster, p.source_partition, p.source_offset)) end,
           case when $10 then array_agg(gnomon_estimators.verdict_ndcgs(p.live_items, p.live_scores, p.relevance_items,
                                                                        p.relevance)) end,
           case when $10 then array_agg(gnomon_estimators.verdict_ndcgs(p.shadow_items, p.shadow_scores,
                                                                        p.relevance_items, p.relevance)) end
    from gnomon_estimators.labelled($1, $2, $3, $4, null, $5, false, $9) p
    where p.live_error_kind is null and p.outcome = 'scored'
    group by 1, 2, 3, 4, 5, 6
    $sql$ using verdict_pairs.stream, verdict_pairs.deployment, verdict_pairs.since, verdict_pairs.until,
                verdict_pairs.horizon, verdict_pairs.time_zone, verdict_pairs.keys, verdict_pairs.clustered,
                gnomon_estimators.has_versions(verdict_pairs.stream), verdict_pairs.ranked;
end
$$;

-- The NDCG of a list in the order of `ndcg_metrics`; NaN if it is not defined.
create function gnomon_estimators.verdict_ndcgs(items text[], scores float8[], relevant_items text[], relevance float8[])
    returns float8[] language sql immutable parallel safe as
$$
    select coalesce(
        case when array_position(verdict_ndcgs.relevance, 'NaN') is null
             then array_replace(gnomon_estimators.ndcgs(
                      gnomon_estimators.ranked(verdict_ndcgs.items, verdict_ndcgs.scores),
                      verdict_ndcgs.relevant_items, verdict_ndcgs.relevance), null, 'NaN') end,
        array_fill('NaN'::float8, array[cardinality(gnomon_estimators.ndcg_metrics())]))
$$;

-- The number of a pair's cluster: equal for equal clusters, unique for a pair without a cluster.
create function gnomon_estimators.unit_of(cluster text, source_partition integer, source_offset bigint) returns bigint
    language sql immutable parallel safe as
$$
    select case when cluster is null then hashint8extended(source_offset, source_partition)
                else hashtextextended(cluster, 0) end
$$;

-- The pairs that both sides answered, joined by a time, by whether they match: by the stream's own rule ('stream') or
-- by one of report_v1.matches, whose {expression} is null unless the rule is one. same: null if the rule finds nothing to compare. For parts that the rule does not read
-- (label, value, ranking), the pairs in which they differ are counted. The rest as above.
create function gnomon_estimators.verdict_compared(stream text, deployment text, since timestamptz, until timestamptz,
                                           joined_by timestamptz, time_zone text, keys text[], clustered boolean,
                                           compare text, tolerance float8, k integer, expression text)
    returns table (day date, watched jsonb, same boolean, other_label bigint, other_value bigint, other_ranking bigint,
                   weights float8[], units bigint[])
    -- planner notes 4 (here a sort would also carry the arrays of the groups), 5, 6
    language plpgsql stable set enable_nestloop = off set enable_sort = off set work_mem = '128MB' as
$$
begin
    if verdict_compared.compare is distinct from 'stream' then
        perform gnomon_estimators.check_comparison(verdict_compared.compare, verdict_compared.tolerance,
                                                   verdict_compared.k, verdict_compared.expression);
    end if;
    return query execute replace($sql$
    select (p.event_time at time zone $6)::date,
           case when $7 is null then p.segments
                else (select jsonb_object_agg(k, p.segments -> k) from unnest($7) k where p.segments ? k) end,
           s.same, count(*) filter (where p.live_label is distinct from p.shadow_label),
           count(*) filter (where p.live_value is distinct from p.shadow_value),
           count(*) filter (where (p.live_items, p.live_scores) is distinct from (p.shadow_items, p.shadow_scores)),
           array_agg(p.weight),
           case when $8 then array_agg(gnomon_estimators.unit_of(p.cluster, p.source_partition, p.source_offset)) end
    from gnomon_estimators.pairs_of($1, $2, $3, $4, null) p
    cross join lateral (select ({expression}
                               )::boolean as matches from (select p.*) pair) e -- it may end with a comment
    cross join lateral (select case $9 when 'stream' then p.agrees when 'sql' then e.matches
                                       else gnomon_estimators.answers_match(
                                           $9, $10, $11, p.live_label, p.shadow_label, p.live_value, p.shadow_value,
                                           p.live_items, p.shadow_items, p.live_scores, p.shadow_scores) end as same) s
    where p.live_error_kind is null and p.outcome = 'scored' and p.joined_at <= coalesce($5, 'infinity')
    group by 1, 2, 3
    $sql$, '{expression}', coalesce(verdict_compared.expression, 'null'))
    using verdict_compared.stream, verdict_compared.deployment, verdict_compared.since, verdict_compared.until,
          verdict_compared.joined_by, verdict_compared.time_zone, verdict_compared.keys, verdict_compared.clustered,
          verdict_compared.compare, verdict_compared.tolerance, verdict_compared.k;
exception when others then
    if verdict_compared.compare = 'sql' and left(sqlstate, 2) in ('22', '42', '0A', '25') and sqlstate <> '22023' then
        raise exception using errcode = '22023', message = format('the expression: %s', sqlerrm);
    end if;
    raise;
end
$$;

-- Units (a cluster on a day) by which side failed in them, and the share of the traffic that both sides answered. Only
-- clusters take a group a unit; failures are few, and workers share the scan of everything else.
create function gnomon_estimators.verdict_errors(stream text, deployment text, since timestamptz, until timestamptz,
                                         time_zone text)
    returns table (n bigint, units bigint, shadow_failed bigint, shadow_only bigint, live_only bigint, answered float8,
                   clustered boolean)
    language sql stable parallel safe as
$$
    with whole as materialized (
        select count(*) as n, sum(p.weight) as w, coalesce(bool_or(p.cluster is not null), false) as clustered,
               coalesce(sum(p.weight) filter (where p.outcome = 'scored' and p.live_error_kind is null), 0) as both_answered
        from gnomon_estimators.pairs_of(verdict_errors.stream, verdict_errors.deployment, verdict_errors.since,
                                verdict_errors.until, null) p
    ),
    failed as (
        select bool_or(p.outcome <> 'scored') as shadow,
               bool_or(p.outcome <> 'scored' and p.live_error_kind is null) as shadow_alone,
               bool_or(p.outcome = 'scored') as live_alone
        from gnomon_estimators.pairs_of(verdict_errors.stream, verdict_errors.deployment, verdict_errors.since,
                                verdict_errors.until, null) p
        where p.outcome <> 'scored' or p.live_error_kind is not null
        group by (p.event_time at time zone verdict_errors.time_zone)::date,
                 gnomon_estimators.unit_of(p.cluster, p.source_partition, p.source_offset)
    ),
    counted as (
        select count(*) filter (where shadow) as shadow, count(*) filter (where shadow_alone and not live_alone) as shadow_only,
               count(*) filter (where live_alone and not shadow_alone) as live_only
        from failed
    ),
    grouped as (
        select count(*) as units from (
            select from gnomon_estimators.pairs_of(verdict_errors.stream, verdict_errors.deployment, verdict_errors.since,
                                           verdict_errors.until, null) p
            where (select clustered from whole)
            group by (p.event_time at time zone verdict_errors.time_zone)::date,
                     gnomon_estimators.unit_of(p.cluster, p.source_partition, p.source_offset)) u
    )
    select w.n, case when w.clustered then g.units else w.n end, c.shadow, c.shadow_only, c.live_only,
           w.both_answered / w.w, w.clustered
    from whole w cross join counted c cross join grouped g
$$;

-- By local day, the number of requests scored alone that took longer than a limit, with the weights of the latency
-- report.
create function gnomon_estimators.verdict_latency(stream text, deployment text, since timestamptz, until timestamptz,
                                          time_zone text, limit_us float8)
    returns table (day date, n bigint, weight float8, slow float8)
    language sql stable parallel safe as
$$
    select (p.event_time at time zone verdict_latency.time_zone)::date, count(*),
           sum(1 / (p.capture_probability * p.probe_probability)),
           coalesce(sum(1 / (p.capture_probability * p.probe_probability))
                    filter (where p.shadow_latency_us > verdict_latency.limit_us), 0)
    from gnomon_estimators.pairs_of(verdict_latency.stream, verdict_latency.deployment, verdict_latency.since,
                            verdict_latency.until, null) p
    where p.probe_probability is not null and p.shadow_latency_us is not null and p.outcome = 'scored'
    group by 1 order by 1
$$;

-- The versions of the live model, ordered by their last answer; the last one is the current one.
create function gnomon_estimators.verdict_live_versions(stream text, deployment text, until timestamptz, time_zone text)
    returns table (name text, version text, first_day date, last_day date, n bigint)
    language sql stable parallel safe as
$$
    select p.live_model_name, p.live_model_version,
           (min(p.event_time) at time zone verdict_live_versions.time_zone)::date,
           (max(p.event_time) at time zone verdict_live_versions.time_zone)::date, count(*)
    from gnomon_estimators.pairs_of(verdict_live_versions.stream, verdict_live_versions.deployment, null,
                            verdict_live_versions.until, null) p
    group by 1, 2 order by max(p.event_time), 1, 2
$$;

-- The features in which requests that a deployment answers as live does differ most from the others: by the distance of
-- their means in standard deviations, or the largest difference of a value's share. Of many pairs
-- those of `read_for_features` are read.
create function gnomon_estimators.verdict_disagreeing_features(stream text, deployment text, since timestamptz,
                                                       until timestamptz)
    returns table (feature text, distance float8)
    language sql stable as
$$
    with counted as materialized (
        select count(*) as pairs
        from gnomon_estimators.pairs_of(verdict_disagreeing_features.stream, verdict_disagreeing_features.deployment,
                                verdict_disagreeing_features.since, verdict_disagreeing_features.until, null) p
    ),
    pairs as (
        select p.agrees, f.name, f.kind, case when f.kind = 'numeric' then p.features_numeric[f.position] end as x,
               case when f.kind = 'text' then p.features_text[f.position] end as t
        from gnomon_estimators.pairs_of(verdict_disagreeing_features.stream, verdict_disagreeing_features.deployment,
                                verdict_disagreeing_features.since, verdict_disagreeing_features.until, null) p
        join gnomon_estimators.feature_columns f on f.stream_id = p.stream_id
        cross join counted c
        where p.agrees is not null
          and gnomon_estimators.read_for_features(p.request_id, c.pairs)
    ),
    numeric_distance as (
        select name, abs(avg(x) filter (where agrees) - avg(x) filter (where not agrees)) / nullif(stddev_samp(x), 0) as d
        from pairs where kind = 'numeric' and x > -1e70 and x < 1e70 group by name
    ),
    totals as (select name, nullif(count(*) filter (where agrees), 0)::float8 as same,
                      nullif(count(*) filter (where not agrees), 0)::float8 as other
               from pairs where kind = 'text' group by name),
    text_distance as (
        select p.name, max(abs(p.same / t.same - p.other / t.other)) as d
        from (select name, t, count(*) filter (where agrees) as same, count(*) filter (where not agrees) as other
              from pairs where kind = 'text' group by name, t) p
        join totals t using (name) group by p.name
    )
    select name, d from (select * from numeric_distance union all select * from text_distance) found
    where d > 0.2 order by d desc, name limit 3
$$;
