-- The frozen profiles; a question that names none is answered by the newest of its stream.
create view gnomon_estimators.reference_profiles as
select r.stream_id, s.name as stream, r.name, r.deployment, r.feature, r.kind, r.n, r.n_effective, r.null_share,
       r.nan_share, r.edges, r.categories, r.complete, r.shares, r.points, r.masses, r.source, r.built_at
from gnomon.reference_profiles r
join gnomon.streams s using (stream_id);

-- Every feature and answer of the pairs of a question, one row a value: x of a numeric one, t of a text one.
create function gnomon_estimators.observed(stream text, deployment text, since timestamptz, until timestamptz, segment jsonb)
    returns table (deployment_id integer, stream_id integer, profile text, feature text, kind text, x float8, t text,
                   w float8)
    language sql stable rows 1000000 as -- planner note 9
$$
    select p.deployment_id, p.stream_id, v.profile, v.feature, v.kind, v.x, v.t, p.weight
    from gnomon_estimators.pairs_of(observed.stream, observed.deployment, observed.since, observed.until, observed.segment) p
    cross join lateral (
        select '' as profile, f.name as feature, f.kind,
               case when f.kind = 'numeric' then p.features_numeric[f.position] end as x,
               case when f.kind = 'text' then p.features_text[f.position] end as t
        from gnomon_estimators.feature_columns f where f.stream_id = p.stream_id
        union all select '', '@live.value', 'numeric', p.live_value, null where p.live_error_kind is null
        union all select '', '@live.label', 'text', null, p.live_label where p.live_error_kind is null
        union all select p.deployment, '@shadow.value', 'numeric', p.shadow_value, null where p.outcome = 'scored'
        union all select p.deployment, '@shadow.label', 'text', null, p.shadow_label where p.outcome = 'scored') v
$$;

-- Which profile a question means: the one it names, or the newest.
create function gnomon_estimators.reference_of(stream text, reference text) returns text language sql stable as
$$
    select r.name from gnomon_estimators.reference_profiles r
    where r.stream = reference_of.stream and (reference_of.reference is null or r.name = reference_of.reference)
    order by r.built_at desc limit 1
$$;
