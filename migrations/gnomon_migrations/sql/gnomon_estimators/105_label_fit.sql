-- Decisions and the truth: every (live decision, shadow decision, truth) of the pairs of one horizon, once for each
-- slice. A side that failed has no decision. The confusion against the truth, the bounds for missing labels and the
-- check of the vocabularies are computed from it.
create type gnomon_estimators.truth_cell as (
    deployment_id integer, value text, live_label text, shadow_label text, truth_label text, known boolean,
    label_derived boolean, answered_by_both boolean, n bigint, weight float8, lowest float8, highest float8, lists bigint,
    bad_lists bigint, truth_value float8);

create function gnomon_estimators.truth_cells(stream text, deployment text, since timestamptz, until timestamptz,
                                              segment jsonb, horizon interval, slice text, time_zone text,
                                              ids integer[] default '{}', shares float8[] default '{}',
                                              versions boolean default null)
    returns setof gnomon_estimators.truth_cell
    -- planner notes 5, 6
    language sql stable parallel safe set work_mem = '128MB' set enable_nestloop = off as
$$
    select p.deployment_id,
           gnomon_estimators.slice_of(truth_cells.slice, p.event_time, p.stratum, p.segments, p.live_model_version,
                                      truth_cells.time_zone),
           case when p.live_error_kind is null then p.live_label end,
           case when p.outcome = 'scored' then p.shadow_label end,
           p.truth_label, p.known, p.label_derived, p.live_error_kind is null and p.outcome = 'scored', count(*),
           sum(p.weight / s.share), min(least(v.live, v.shadow)), max(greatest(v.live, v.shadow)),
           count(*) filter (where p.live_items is not null or p.shadow_items is not null),
           count(*) filter (where array_position(p.relevance, 'NaN') is not null or array_position(p.relevance, null) is not null
                              or 0 > any (p.relevance)),
           case when p.truth_value in (0, 1) then p.truth_value end
    from gnomon_estimators.labelled(truth_cells.stream, truth_cells.deployment, truth_cells.since, truth_cells.until,
                                    truth_cells.segment, truth_cells.horizon, null, truth_cells.versions) p
    cross join lateral (
        select case when p.live_value > '-infinity' and p.live_value < 'infinity' then p.live_value end as live,
               case when p.shadow_value > '-infinity' and p.shadow_value < 'infinity' then p.shadow_value end as shadow
    ) v
    cross join lateral (select gnomon_estimators.share_of(p.deployment_id, truth_cells.ids, truth_cells.shares) as share) s
    where gnomon_estimators.within_share(p.request_id, s.share)
    group by 1, 2, 3, 4, 5, 6, 7, 8, 15
$$;

-- The first four of some names, in words.
create function gnomon_estimators.some_names(names text[]) returns text language sql immutable parallel safe as
$$
    select string_agg(n.name, ', ' order by n.name) filter (where n.place <= 4)
           || case when count(*) > 4 then format(' and %s more', count(*) - 4) else '' end
    from (select d.name, row_number() over (order by d.name) as place
          from (select distinct u.name from unnest(names) u(name) where u.name is not null) d) n
$$;

-- Whether the labels, the answers and the stream's declaration fit together, by deployment, from the cells above.
-- problem: they do not, so that no metric has a meaning; mismatch: no metric of the decisions has one; remark: the
-- numbers hold, but not for all.
create function gnomon_estimators.fit_of(cells gnomon_estimators.truth_cell[])
    returns table (deployment_id integer, problem text, mismatch text, remark text)
    language sql stable parallel safe as
$$
    with cells as materialized (select c.* from unnest(fit_of.cells) c),
    names as (
        select c.deployment_id, array_agg(distinct u.name) filter (where u.decision) as decisions,
               array_agg(distinct u.name) filter (where not u.decision) as labels,
               array_agg(distinct u.name) filter (where not u.decision and c.label_derived) as derived
        from cells c
        cross join lateral (values (c.live_label, true), (c.shadow_label, true), (c.truth_label, false)) u(name, decision)
        where u.name is not null
        group by 1
    ),
    sums as (
        select c.deployment_id, sum(c.weight) filter (where c.answered_by_both) / sum(c.weight) as both,
               min(c.lowest) as lowest, max(c.highest) as highest, sum(c.lists) as lists, sum(c.bad_lists) as bad_lists
        from cells c group by 1
    ),
    facts as (
        select x.*, n.decisions, n.labels, n.derived, s.task,
               coalesce(s.classes, case when s.positive_class is not null
                                        then array[s.positive_class, s.negative_class] end) as declared
        from sums x
        left join names n using (deployment_id)
        join gnomon_estimators.deployments d using (deployment_id)
        join gnomon_estimators.streams s on s.name = d.stream
    )
    select f.deployment_id,
           case when f.task = 'regression' and f.decisions is not null
                then format('the task is regression, but the answers are classes: %s', e.decisions)
                when f.task = 'ranking' and f.lists = 0 then 'the task is ranking, but no answer is a list'
                when f.task in ('binary', 'multiclass') and f.decisions is null and f.lists > 0
                then format('the task is %s, but the answers are lists', f.task)
                when f.task = 'multiclass' and f.decisions is null
                then 'the task is multiclass, but the answers name no class'
                when f.task = 'binary' and f.decisions is null and (f.lowest < 0 or f.highest > 1)
                then format('the task is binary, but the answers are values from %s to %s and name no class',
                            f.lowest, f.highest)
                when not f.decisions && f.declared
                then format('the declared classes never occur: %s; the decisions are %s',
                            gnomon_estimators.some_names(f.declared), e.decisions) end,
           case when f.declared is null and f.derived is not null and not f.decisions <@ '{0,1}'
                then format('the decisions are %s, and labels are the numbers %s: declare the positive and the negative'
                            ' class (gnomon streams set)', e.decisions, gnomon_estimators.some_names(f.derived))
                when not f.decisions && f.labels and not coalesce(f.labels <@ f.declared, false)
                then format('no decision ever equals a label: the decisions are %s, the labels %s', e.decisions,
                            gnomon_estimators.some_names(f.labels)) end,
           nullif(concat_ws('; ',
               case when f.both < 0.99
                    then format('only %s%% of these requests were answered by both sides', round((100 * f.both)::numeric, 1))
               end,
               case when f.declared is null and f.decisions && f.labels and x.decisions <> '{}' and x.labels <> '{}'
                    then format('two vocabularies? never a label: %s; never a decision: %s',
                                gnomon_estimators.some_names(x.decisions), gnomon_estimators.some_names(x.labels)) end,
               case when f.bad_lists > 0
                    then format('%s lists with a relevance that is below 0 or no number are left out', f.bad_lists) end,
               case when not f.labels || f.decisions <@ f.declared
                    then format('none of the declared classes: %s', gnomon_estimators.some_names(
                        array(select u.name from unnest(f.labels || f.decisions) u(name)
                              where u.name <> all (f.declared)))) end), '')
    from facts f
    cross join lateral (select gnomon_estimators.some_names(f.decisions) as decisions) e
    cross join lateral (select array(select u.name from unnest(f.decisions) u(name) where u.name <> all (f.labels)) as decisions,
                               array(select u.name from unnest(f.labels) u(name) where u.name <> all (f.decisions)) as labels) x
$$;

create function gnomon_estimators.label_fit(stream text, deployment text, since timestamptz, until timestamptz,
                                            segment jsonb, horizon interval, ids integer[] default '{}',
                                            shares float8[] default '{}', versions boolean default null)
    returns table (deployment_id integer, problem text, mismatch text, remark text)
    language sql stable parallel safe as
$$
    select f.*
    from gnomon_estimators.fit_of(array(
        select c from gnomon_estimators.truth_cells(label_fit.stream, label_fit.deployment, label_fit.since,
                                                    label_fit.until, label_fit.segment, label_fit.horizon, 'all', 'UTC',
                                                    label_fit.ids, label_fit.shares, label_fit.versions) c)) f
$$;

-- Why no pair of a deployment has labels of a horizon that can be judged: no label is stored, nothing states until when
-- the labels are complete, or the first request is too young (with the time until which it is).
create function gnomon_estimators.immaturity(stream text, deployment_id integer, horizon interval) returns text
    language sql stable parallel safe set enable_seqscan = off as -- planner note 10
$$
    select case when not exists (select from gnomon_estimators.label_versions v where v.stream_id = s.stream_id limit 1)
                     and g.watermark is null then 'no labels stored yet'
                when g.watermark is null
                then 'labels are stored, but it is unknown until when they are complete'
                when f.first_at is null then 'no pair in this period'
                when f.first_at + immaturity.horizon + s.label_grace < g.watermark
                then 'no pair is old enough for this horizon'
                else format('not mature yet: labels are complete until %s UTC, and the first request matures at %s UTC',
                            to_char(g.watermark at time zone 'UTC', 'YYYY-MM-DD HH24:MI'),
                            to_char((f.first_at + immaturity.horizon + s.label_grace) at time zone 'UTC',
                                    'YYYY-MM-DD HH24:MI')) end
    from gnomon_estimators.streams s
    join gnomon_estimators.label_progress g using (stream_id)
    cross join lateral (select min(w.first_captured_at) as first_at from gnomon_estimators.windows w
                        where w.deployment_id = immaturity.deployment_id) w
    cross join lateral (
        select coalesce(w.first_at, (select min(p.event_time) from gnomon_estimators.pairs p
                                     where p.deployment_id = immaturity.deployment_id)) as first_at) f
    where s.name = immaturity.stream
$$;
