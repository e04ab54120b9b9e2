-- The frozen profiles; for a question that names none, the newest of its stream.
create view gnomon_estimators.reference_profiles as
select r.stream_id, s.name as stream, r.name, r.deployment, r.feature, r.kind, r.n, r.n_effective, r.null_share,
       r.nan_share, r.edges, r.categories, r.complete, r.shares, r.points, r.masses, r.source, r.built_at
from gnomon.reference_profiles r
join gnomon.streams s using (stream_id);

-- The pairs that the reports on features read: those of `read_for_features`, or with exact all of them. bucket: one
-- of 100 groups; all pairs of a cluster are in one.
create function gnomon_estimators.drawn(stream text, deployment text, since timestamptz, until timestamptz,
                                        segment jsonb, exact boolean, time_zone text)
    returns table (deployment_id integer, deployment text, pairs bigint, bucket integer, day date, w float8,
                   numbers float8[], texts text[], live_value float8, live_label text, shadow_value float8,
                   shadow_label text, live_answered boolean, shadow_answered boolean)
    language sql stable parallel safe rows 60000 as -- planner note 9
$$
    with sizes as materialized (
        select p.deployment_id, count(*) as pairs
        from gnomon_estimators.pairs_of(drawn.stream, drawn.deployment, drawn.since, drawn.until, drawn.segment) p
        group by 1
    )
    select p.deployment_id, p.deployment, s.pairs,
           abs(hashtextextended(coalesce('c' || p.cluster, 'r' || p.source_partition || ':' || p.source_offset), 0)
               % 100)::integer,
           (p.event_time at time zone drawn.time_zone)::date, p.weight, p.features_numeric, p.features_text, p.live_value,
           p.live_label, p.shadow_value, p.shadow_label, p.live_error_kind is null, p.outcome = 'scored'
    from gnomon_estimators.pairs_of(drawn.stream, drawn.deployment, drawn.since, drawn.until, drawn.segment) p
    join sizes s using (deployment_id)
    where drawn.exact is true or gnomon_estimators.read_for_features(p.request_id, s.pairs)
$$;

-- The 95% quantile of a sum of squares whose parts have the means `whole` (of so many `squares`) and by_cluster and
-- by_day (of one square each, estimated from so many groups): a multiple of an F distribution (Satterthwaite 1946; Rao
-- and Scott 1981; Thomas and Rao 1987).
create function gnomon_estimators.squares_quantile(whole float8, by_cluster float8, by_day float8, squares float8,
                                                   clusters bigint, days bigint)
    returns float8 language sql immutable parallel safe as
$$
    select t.mean * m.free * x / (f.free * (1 - x))
    from (select whole + by_cluster + by_day as mean) t
    cross join lateral (select t.mean ^ 2 / (whole ^ 2 / squares + (by_cluster + by_day) ^ 2) as free) f
    cross join lateral (select coalesce(least(t.mean ^ 2 / nullif(
                            coalesce(by_cluster ^ 2 / nullif(clusters - 1, 0), 0)
                            + coalesce(by_day ^ 2 / nullif(days - 1, 0), 0), 0), 1000), 1000) as free) m
    cross join lateral gnomon_estimators.beta_quantile(0.95, f.free / 2, m.free / 2) x
    where t.mean > 0
$$;

-- The profile of a question: the named one, or the newest.
create function gnomon_estimators.reference_of(stream text, reference text) returns text language sql stable as
$$
    select r.name from gnomon_estimators.reference_profiles r
    where r.stream = reference_of.stream and (reference_of.reference is null or r.name = reference_of.reference)
    order by r.built_at desc limit 1
$$;
