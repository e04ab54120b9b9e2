-- The first k items of a ranking as a sorted list, the same in any order; all items of a shorter one. Null if there are
-- no items.
create function gnomon_estimators.first_items(items text[], scores float8[], k integer) returns text[]
    language sql immutable parallel safe as
$$
    select array_agg(i.item order by i.item collate "C")
    from unnest((gnomon_estimators.ranked(first_items.items, first_items.scores))[1:first_items.k]) i(item)
$$;

-- Whether two answers match by a comparison of the question; null if it finds nothing to compare. Inlined, so that only
-- the requested comparison is computed.
create function gnomon_estimators.answers_match(compare text, tolerance float8, k integer, live_label text,
                                                shadow_label text, live_value float8, shadow_value float8,
                                                live_items text[], shadow_items text[], live_scores float8[],
                                                shadow_scores float8[])
    returns boolean language sql immutable parallel safe as
$$
    select case compare
        when 'label' then live_label = shadow_label
        when 'absolute' then
            case when live_value > '-infinity' and live_value < 'infinity'
                      and shadow_value > '-infinity' and shadow_value < 'infinity'
                 then gnomon_estimators.close_values(live_value, shadow_value, tolerance, 0) end
        when 'relative' then
            case when live_value > '-infinity' and live_value < 'infinity'
                      and shadow_value > '-infinity' and shadow_value < 'infinity'
                 then gnomon_estimators.close_values(live_value, shadow_value, 0, tolerance) end
        when 'top-k' then gnomon_estimators.first_items(live_items, live_scores, k)
                          = gnomon_estimators.first_items(shadow_items, shadow_scores, k) end
$$;

-- Raises 22023 for a comparison that does not exist, or whose arguments make no sense.
create function gnomon_estimators.check_comparison(compare text, tolerance float8, k integer, expression text)
    returns void language plpgsql immutable as
$$
declare
    by_value boolean := check_comparison.compare in ('absolute', 'relative');
begin
    if check_comparison.compare is null
            or check_comparison.compare not in ('label', 'absolute', 'relative', 'top-k', 'sql') then
        raise exception using errcode = '22023', message = format(
            'there is no comparison %L; there are label, absolute, relative, top-k and sql', check_comparison.compare);
    elsif by_value
            and not coalesce(check_comparison.tolerance >= 0 and check_comparison.tolerance < 'infinity', false) then
        raise exception using errcode = '22023', message = format(
            'comparison %s needs a tolerance of at least 0', check_comparison.compare);
    elsif check_comparison.compare = 'top-k' and coalesce(check_comparison.k, 0) < 1 then
        raise exception using errcode = '22023', message = 'comparison top-k needs k, at least 1';
    elsif check_comparison.compare = 'sql' and coalesce(btrim(check_comparison.expression), '') = '' then
        raise exception using errcode = '22023', message = 'comparison sql needs an expression';
    elsif (check_comparison.tolerance is not null and not by_value)
            or (check_comparison.k is not null and check_comparison.compare <> 'top-k')
            or (check_comparison.expression is not null and check_comparison.compare <> 'sql') then
        raise exception using errcode = '22023', message = format(
            'comparison %s reads neither of the others'' parameters: tolerance is for absolute and relative, k for top-k,'
            ' expression for sql', check_comparison.compare);
    end if;
end
$$;

-- The sums of `report_v1.matches` (report_v1/055_matches.sql), by deployment. Its statement is composed only for
-- {expression}, the caller's condition over the columns of gnomon_estimators.pairs; with null it can be run as it is.
create function gnomon_estimators.matched(stream text, deployment text, since timestamptz, until timestamptz,
                                          segment jsonb, compare text, tolerance float8, k integer, expression text,
                                          time_zone text)
    returns table (deployment_id integer, n bigint, kish float8, w float8, share float8, clusters bigint, days bigint,
                   cells bigint, v_row float8, v_cluster float8, v_day float8, v_both float8, pairs bigint,
                   other_label bigint, other_value bigint, other_ranking bigint)
    language plpgsql stable set enable_nestloop = off as -- planner note 6
$$
begin
    perform gnomon_estimators.check_comparison(matched.compare, matched.tolerance, matched.k, matched.expression);
    return query execute replace($sql$
    with compared as materialized (
        select p.deployment_id, p.cluster, (p.event_time at time zone $6)::date as day, p.weight as w,
               case when p.live_error_kind is null and p.outcome = 'scored' then
                   case $7 when 'sql' then e.matches
                           else gnomon_estimators.answers_match(
                               $7, $8, $9, p.live_label, p.shadow_label, p.live_value, p.shadow_value, p.live_items,
                               p.shadow_items, p.live_scores, p.shadow_scores) end end as same,
               p.live_label is distinct from p.shadow_label as label,
               p.live_value is distinct from p.shadow_value as value,
               (p.live_items, p.live_scores) is distinct from (p.shadow_items, p.shadow_scores) as ranking
        from gnomon_estimators.pairs_of($1, $2, $3, $4, $5) p
        cross join lateral (select ({expression}
                                   )::boolean as matches from (select p.*) pair) e -- it may end with a comment
    ),
    totals as (
        select deployment_id, count(same) as n, sum(w) filter (where same is not null) as w,
               sum(w) filter (where same is not null) ^ 2
                   / nullif(sum(w * w) filter (where same is not null), 0) as kish,
               sum(w) filter (where same) as matched,
               count(distinct cluster) filter (where same is not null)
                   + count(*) filter (where cluster is null and same is not null) as clusters,
               count(distinct day) filter (where same is not null) as days, count(*) as pairs,
               count(*) filter (where same is not null and label) as label,
               count(*) filter (where same is not null and value) as value,
               count(*) filter (where same is not null and ranking) as ranking
        from compared group by 1
    ),
    crossed as (
        select c.deployment_id, c.cluster, c.day, count(*) as n, sum(z.z) as total, sum(z.z * z.z) as rows
        from compared c
        join totals t using (deployment_id)
        cross join lateral (select c.w * (c.same::integer - coalesce(t.matched, 0) / t.w) / t.w as z) z
        where c.same is not null
        group by 1, 2, 3
    ),
    groups as (
        select deployment_id, 'both' as by, cluster is null as alone, n, total, rows from crossed
        union all
        select deployment_id, 'cluster', cluster is null, sum(n), sum(total), sum(rows) from crossed
        group by deployment_id, cluster
        union all
        select deployment_id, 'day', false, sum(n), sum(total), sum(rows) from crossed group by deployment_id, day
    ),
    variances as (
        select deployment_id, sum(rows) filter (where by = 'day') as v_row,
               sum(case when alone then rows else total ^ 2 end) filter (where by = 'cluster') as v_cluster,
               sum(total ^ 2) filter (where by = 'day') as v_day,
               sum(case when alone then rows else total ^ 2 end) filter (where by = 'both') as v_both,
               sum(case when alone then n else 1 end) filter (where by = 'both')::bigint as cells
        from groups group by 1
    )
    select t.deployment_id, t.n, t.kish, t.w, coalesce(t.matched, 0) / t.w, t.clusters, t.days, v.cells, v.v_row,
           v.v_cluster, v.v_day, v.v_both, t.pairs, t.label, t.value, t.ranking
    from totals t left join variances v using (deployment_id)
    $sql$, '{expression}', coalesce(matched.expression, 'null'))
    using matched.stream, matched.deployment, matched.since, matched.until, matched.segment, matched.time_zone,
          matched.compare, matched.tolerance, matched.k;
exception when others then
    -- PostgreSQL's error for the caller's own expression: its class is that of the statement or of the data.
    if matched.compare = 'sql' and left(sqlstate, 2) in ('22', '42', '0A') and sqlstate <> '22023' then
        raise exception using errcode = '22023', message = format('the expression: %s', sqlerrm);
    end if;
    raise;
end
$$;
