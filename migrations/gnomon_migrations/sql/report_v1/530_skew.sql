-- Compares the features of the pairs with the same features recomputed offline: a column that is wrong but plausible
-- (shifted, swapped, of the day before) has the expected distribution, so no other report can detect it.
--
-- The recomputed rows are in a temporary table of the session, which `gnomon report skew FILE` creates:
-- offline_features (request_id text, unique; numbers float8[], texts text[]), with the layout of features_numeric and
-- features_text; `features` names its columns. Two numbers differ if |file - live| > tolerance · max(1, |live|,
-- |file|), or if one is missing or not finite and the other is not the same; texts differ if they are not equal, and an
-- empty text counts as missing.
--
-- mismatch: share of all live traffic; size and shift: mean |file - live| and mean (file - live) of the numbers that
-- differ. Each is a Hájek mean with the three linearised variances of `estimates`. only_live: pairs without a row in
-- the file; only_file: rows without a pair (left out by the sampler, or from another period). The temporary table
-- exists when the function is called, but not yet when it is created.
set local check_function_bodies = off;

create function report_v1.skew(stream text, deployment text default null, since timestamptz default null,
                               until timestamptz default null, segment jsonb default null,
                               features text[] default '{}', tolerance float8 default 1e-6,
                               time_zone text default 'UTC')
    returns table (stream text, deployment text, role text, feature text, kind text, n bigint, n_effective float8,
                   weight float8, mismatch float8, se_row float8, se_cluster float8, se_day float8,
                   standard_error float8, low float8, high float8, size float8, size_se float8, size_low float8,
                   size_high float8, shift float8, shift_se float8, shift_low float8, shift_high float8,
                   largest float8, example text, example_live text, example_file text, only_live bigint,
                   only_file bigint, status text)
    language sql stable as
$$
    with pairs as materialized (
        select p.deployment_id, p.request_id, p.cluster, (p.event_time at time zone skew.time_zone)::date as day,
               p.weight as w, p.features_numeric, p.features_text, o.numbers, o.texts
        from gnomon_estimators.pairs_of(skew.stream, skew.deployment, skew.since, skew.until, skew.segment) p
        join pg_temp.offline_features o on o.request_id = p.request_id
    ),
    met as (
        select a.deployment_id, a.pairs - coalesce(f.pairs, 0) as only_live,
               (select count(*) from pg_temp.offline_features) - coalesce(f.requests, 0) as only_file
        from (select p.deployment_id, count(*) as pairs
              from gnomon_estimators.pairs_of(skew.stream, skew.deployment, skew.since, skew.until, skew.segment) p
              group by 1) a
        left join (select p.deployment_id, count(*) as pairs, count(distinct p.request_id) as requests
                   from pairs p group by 1) f using (deployment_id)
    ),
    asked as materialized (
        select f.name, f.kind, f.position from report_v1.feature_columns f
        where f.stream = skew.stream and f.name = any (skew.features)
    ),
    compared as materialized (
        select p.deployment_id, p.request_id, p.cluster, p.day, p.w, f.name, c.differs,
               case when c.differs and v.plain then v.y - v.x end as d
        from pairs p
        cross join asked f
        cross join lateral (
            select case when f.kind = 'numeric' then p.features_numeric[f.position] end as x,
                   case when f.kind = 'numeric' then p.numbers[f.position] end as y,
                   case when f.kind = 'text' then nullif(p.features_text[f.position], '') end as s,
                   case when f.kind = 'text' then nullif(p.texts[f.position], '') end as t) a
        -- Beyond 1e100, squares exceed the range of a double: such numbers differ or not, and have no size.
        cross join lateral (select a.*, a.x between -1e100 and 1e100 and a.y between -1e100 and 1e100 as plain) v
        cross join lateral (
            select case when v.plain then abs(v.y - v.x) > skew.tolerance * greatest(1, abs(v.x), abs(v.y))
                        else v.x is distinct from v.y or v.s is distinct from v.t end as differs) c
    ),
    said as materialized (
        select c.deployment_id, c.cluster, c.day, c.w, c.name, m.measure, m.y
        from compared c
        cross join lateral (values (1, c.differs::integer::float8), (2, abs(c.d)), (3, c.d)) m(measure, y)
        where m.y is not null
    ),
    totals as (
        select s.deployment_id, s.name, s.measure, count(*) as n, sum(s.w) as w, sum(s.w) ^ 2 / sum(s.w * s.w) as kish,
               sum(s.w * s.y) / sum(s.w) as mean, max(s.y) as largest
        from said s group by 1, 2, 3
    ),
    residuals as (
        select t.deployment_id, t.name, t.measure, s.cluster, s.day, grouping(s.day) = 1 as by_cluster,
               sum(r.r) as total, sum(r.r * r.r) as rows, count(*) as n
        from said s
        join totals t using (deployment_id, name, measure)
        cross join lateral (select s.w * (s.y - t.mean) / t.w as r) r
        group by grouping sets ((t.deployment_id, t.name, t.measure, s.cluster),
                                (t.deployment_id, t.name, t.measure, s.day))
    ),
    variances as (
        select r.deployment_id, r.name, r.measure, sum(r.rows) filter (where not r.by_cluster) as v_row,
               sum(case when r.cluster is null then r.rows else r.total ^ 2 end) filter (where r.by_cluster) as v_cluster,
               sum(r.total ^ 2) filter (where not r.by_cluster) as v_day,
               count(*) filter (where not r.by_cluster) as days,
               sum(case when r.cluster is null then r.n else 1 end) filter (where r.by_cluster)::bigint as clusters
        from residuals r group by 1, 2, 3
    ),
    measured as materialized (
        select t.*, s.se_row, s.se_cluster, s.se_day, s.variance as v, v.clusters, v.days, i.low, i.high
        from totals t
        join variances v using (deployment_id, name, measure)
        cross join lateral gnomon_estimators.spread(v.v_row, v.v_cluster, v.v_day, null, t.n, v.clusters, v.days,
                                                    null) s
        left join lateral gnomon_estimators.interval95(case t.measure when 1 then 'share' else 'mean' end, t.mean,
                                                       s.variance, t.kish, s.t, v.clusters, 0) i
            on s.variance is not null
    ),
    examples as (
        select distinct on (e.deployment_id, e.name) e.deployment_id, e.name, e.request_id
        from compared e where e.differs
        order by e.deployment_id, e.name, abs(e.d) desc nulls last, e.request_id
    ),
    shown as (
        select distinct on (e.deployment_id, e.name) e.deployment_id, e.name,
               case a.kind when 'numeric' then p.features_numeric[a.position]::text
                           else p.features_text[a.position] end as live,
               case a.kind when 'numeric' then p.numbers[a.position]::text else p.texts[a.position] end as file
        from examples e
        join asked a using (name)
        join pairs p using (deployment_id, request_id)
        order by e.deployment_id, e.name
    )
    select c.stream, c.deployment, c.role, a.name, a.kind, coalesce(m.n, 0), m.kish, m.w, m.mean, m.se_row,
           m.se_cluster, m.se_day, sqrt(m.v), m.low, m.high, z.mean, sqrt(z.v), z.low, z.high, b.mean,
           sqrt(b.v), b.low, b.high, z.largest, e.request_id, x.live, x.file, coalesce(o.only_live, 0),
           coalesce(o.only_file, (select count(*) from pg_temp.offline_features)),
           coalesce(c.problem, case when o.deployment_id is null then 'no pair in this period'
                                    when m.n is null then 'no request of the file is among the pairs'
                                    else gnomon_estimators.footing(m.clusters, m.days, m.low) end)
    from gnomon_estimators.scope(skew.stream, skew.deployment) c
    left join asked a on c.problem is null
    left join met o on o.deployment_id = c.deployment_id
    left join measured m on m.deployment_id = c.deployment_id and m.name = a.name and m.measure = 1
    left join measured z on z.deployment_id = c.deployment_id and z.name = a.name and z.measure = 2
    left join measured b on b.deployment_id = c.deployment_id and b.name = a.name and b.measure = 3
    left join examples e on e.deployment_id = c.deployment_id and e.name = a.name
    left join shown x on x.deployment_id = c.deployment_id and x.name = a.name
    order by c.role, c.deployment, m.mean desc nulls last, a.name
$$;

set local check_function_bodies = on;
