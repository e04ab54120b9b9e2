-- Drift of every feature and of both models' answers against a frozen reference.
--
-- psi = Σ (q - p) ln(q / p) over the frozen bins, one of them for null and NaN, each with half a pseudo-row. Under no
-- drift its mean is about (B - 1)(1/n_ref + 1/n), B the bins that are not empty on both sides, and psi_threshold is that
-- scale times the 95% quantile of χ² with B - 1 degrees of freedom (Yurdakul and Naranjo 2020); psi_low, psi_high: psi less
-- that mean, and 1.96 standard errors by the delta method to either side. js: Jensen-Shannon divergence over the same
-- bins, in nats (at most ln 2). ks, wasserstein: largest distance and area between the weighted distribution functions of
-- the finite values. unseen_share: of a category that the reference does not know. n_effective is Kish's: rows count as
-- independent here, so the threshold is too low where clusters or days share a shift.
create function report_v1.drift(stream text, deployment text default null, since timestamptz default null,
                                until timestamptz default null, segment jsonb default null,
                                reference text default null)
    returns table (stream text, deployment text, role text, reference text, feature text, kind text, n bigint,
                   n_effective float8, psi float8, psi_threshold float8, psi_low float8, js float8, ks float8,
                   wasserstein float8, reference_null_share float8, null_share float8, nan_share float8,
                   unseen_share float8, status text, psi_high float8)
    language sql stable as
$$
    with profiles as materialized (
        select r.*, cardinality(r.shares) + 1 as bins from report_v1.reference_profiles r
        where r.stream = drift.stream and r.name = gnomon_estimators.reference_of(drift.stream, drift.reference)
    ),
    counted as materialized (
        select o.deployment_id, o.profile, o.feature, o.kind, o.x, o.t, count(*) as n, sum(o.w) as w,
               sum(o.w * o.w) as w2
        from gnomon_estimators.observed(drift.stream, drift.deployment, drift.since, drift.until, drift.segment) o
        where exists (select from profiles p where p.deployment = o.profile and p.feature = o.feature
                                               and p.kind = o.kind)
        group by 1, 2, 3, 4, 5, 6
    ),
    placed as (
        select c.*, p.bins, p.complete,
               c.x = 'NaN' or c.x in ('infinity', '-infinity') as odd,
               case when c.kind = 'numeric' and c.x > '-infinity' and c.x < 'infinity'
                    then width_bucket(c.x, p.edges) + 1
                    when c.kind = 'text' and c.t is not null
                    then coalesce(array_position(p.categories, c.t), cardinality(p.shares))
                    else p.bins end as bin
        from counted c
        join profiles p on p.deployment = c.profile and p.feature = c.feature and p.kind = c.kind
    ),
    totals as (
        select deployment_id, profile, feature, kind, sum(n)::bigint as n, sum(w) as w, sum(w) ^ 2 / sum(w2) as n_eff,
               sum(w) filter (where bin < bins) as w_valid,
               coalesce(sum(w) filter (where coalesce(x::text, t) is null), 0) / sum(w) as null_share,
               coalesce(sum(w) filter (where odd), 0) / sum(w) as nan_share,
               case when kind = 'text' and bool_and(complete)
                    then coalesce(sum(w) filter (where t is not null and bin = bins - 1), 0) / sum(w) end as unseen
        from placed group by 1, 2, 3, 4
    ),
    bins as (select deployment_id, profile, feature, kind, bin, sum(w) as w from placed group by 1, 2, 3, 4, 5),
    compared as (
        select t.deployment_id, t.profile, t.feature, t.kind, t.n_eff, p.n_effective as n_ref, p.bins,
               (p.n_effective * case when b.bin = p.bins then p.null_share + p.nan_share
                                     else p.shares[b.bin] * (1 - p.null_share - p.nan_share) end + 0.5)
                   / (p.n_effective + 0.5 * p.bins) as p,
               coalesce(q.w, 0) > 0 or case when b.bin = p.bins then p.null_share + p.nan_share
                                            else p.shares[b.bin] end > 0 as filled,
               (t.n_eff * coalesce(q.w, 0) / t.w + 0.5) / (t.n_eff + 0.5 * p.bins) as q
        from totals t
        join profiles p on p.deployment = t.profile and p.feature = t.feature and p.kind = t.kind
        cross join lateral generate_series(1, p.bins) b(bin)
        left join bins q on q.deployment_id = t.deployment_id and q.profile = t.profile and q.feature = t.feature
                        and q.kind = t.kind and q.bin = b.bin
    ),
    divergences as (
        select deployment_id, profile, feature, kind, sum((q - p) * ln(q / p)) as psi,
               greatest(count(*) filter (where filled) - 1, 1) * (1 / min(n_ref) + 1 / min(n_eff)) as bias,
               gnomon_estimators.chi2_quantile(0.95, greatest(count(*) filter (where filled) - 1, 1)) * (1 / min(n_ref) + 1 / min(n_eff)) as threshold,
               (sum(q * (ln(q / p) + 1 - p / q) ^ 2) - sum(q * (ln(q / p) + 1 - p / q)) ^ 2) / min(n_eff)
                   + (sum(p * (ln(p / q) + 1 - q / p) ^ 2) - sum(p * (ln(p / q) + 1 - q / p)) ^ 2) / min(n_ref) as v,
               sum(p * ln(2 * p / (p + q)) + q * ln(2 * q / (p + q))) / 2 as js
        from compared group by 1, 2, 3, 4
    ),
    steps as (
        select c.deployment_id, c.feature, c.x, c.w / t.w_valid as now, 0::float8 as before
        from placed c join totals t using (deployment_id, profile, feature, kind)
        where c.kind = 'numeric' and c.bin < c.bins
        union all
        select t.deployment_id, t.feature, r.point, 0, r.mass
        from totals t
        join profiles p on p.deployment = t.profile and p.feature = t.feature and p.kind = t.kind
        cross join lateral unnest(p.points, p.masses) r(point, mass)
        where t.kind = 'numeric' and t.w_valid > 0
    ),
    curves as (
        select g.deployment_id, g.feature, g.x,
               abs(sum(g.d) over (partition by g.deployment_id, g.feature order by g.x)) as gap,
               lead(g.x) over (partition by g.deployment_id, g.feature order by g.x) - g.x as width
        from (select deployment_id, feature, x, sum(now) - sum(before) as d from steps group by 1, 2, 3) g
    ),
    distances as (
        select c.deployment_id, c.feature, max(c.gap) as ks, coalesce(sum(c.gap * c.width), 0) as area
        from curves c
        where exists (select from profiles p where p.feature = c.feature and cardinality(p.points) > 0)
        group by 1, 2
    )
    select c.stream, c.deployment, c.role, gnomon_estimators.reference_of(drift.stream, drift.reference), p.feature, p.kind,
           coalesce(t.n, 0), t.n_eff, v.psi, v.threshold, v.psi - v.bias - gnomon_estimators.reach(null) * sqrt(greatest(v.v, 0)), v.js, d.ks,
           d.area, p.null_share, t.null_share, t.nan_share, t.unseen,
           case when c.problem is not null then c.problem
                when p.feature is null then 'no reference: run `gnomon reference build`'
                when t.n is null then 'no value in this period'
                when t.w_valid is null then 'every value is missing or NaN'
                when v.psi > v.threshold then 'differs from the reference'
                else 'ok' end,
           v.psi - v.bias + gnomon_estimators.reach(null) * sqrt(greatest(v.v, 0))
    from gnomon_estimators.scope(drift.stream, drift.deployment) c
    left join profiles p on p.deployment in ('', c.deployment)
    left join totals t on t.deployment_id = c.deployment_id and t.profile = p.deployment and t.feature = p.feature
                      and t.kind = p.kind
    left join divergences v on v.deployment_id = t.deployment_id and v.profile = t.profile and v.feature = t.feature
                           and v.kind = t.kind
    left join distances d on d.deployment_id = t.deployment_id and d.feature = t.feature and t.kind = 'numeric'
    order by c.role, c.deployment, v.psi desc nulls last, p.feature
$$;

-- Whether features arrive as they should: shares that are missing, invalid (NaN or infinite), or outside what the
-- reference has seen (beyond its extremes; a category it does not know), and the extremes themselves.
create function report_v1.feature_health(stream text, deployment text default null, since timestamptz default null,
                                         until timestamptz default null, segment jsonb default null,
                                         reference text default null)
    returns table (stream text, deployment text, role text, feature text, kind text, n bigint, n_effective float8,
                   missing float8, invalid float8, out_of_range float8, lowest float8, highest float8,
                   distinct_values bigint, reference text, status text)
    language sql stable as
$$
    with profiles as materialized (
        select r.* from report_v1.reference_profiles r
        where r.stream = feature_health.stream
          and r.name = gnomon_estimators.reference_of(feature_health.stream, feature_health.reference)
    ),
    counted as (
        select o.deployment_id, o.profile, o.feature, o.kind, o.x, o.t, count(*) as n, sum(o.w) as w,
               sum(o.w * o.w) as w2, o.x > '-infinity' and o.x < 'infinity' as finite
        from gnomon_estimators.observed(feature_health.stream, feature_health.deployment, feature_health.since,
                                feature_health.until, feature_health.segment) o
        where o.feature not like '@%'
        group by 1, 2, 3, 4, 5, 6
    ),
    summed as (
        select c.deployment_id, c.feature, c.kind, sum(c.n)::bigint as n, sum(c.w) ^ 2 / sum(c.w2) as n_eff,
               coalesce(sum(c.w) filter (where c.x is null and c.t is null), 0) / sum(c.w) as missing,
               coalesce(sum(c.w) filter (where not c.finite), 0) / sum(c.w) as invalid,
               case when bool_or(p.feature is not null and (c.kind = 'numeric' or p.complete))
                    then coalesce(sum(c.w) filter (
                        where c.finite and (c.x < p.points[1] or c.x > p.points[cardinality(p.points)])
                           or c.t is not null and p.complete and not c.t = any (p.categories)), 0) / sum(c.w) end
                   as outside,
               min(c.x) filter (where c.finite) as lowest, max(c.x) filter (where c.finite) as highest,
               count(distinct coalesce(c.x::text, c.t)) as different
        from counted c
        left join profiles p on p.deployment = c.profile and p.feature = c.feature and p.kind = c.kind
        group by 1, 2, 3
    )
    select c.stream, c.deployment, c.role, s.feature, s.kind, coalesce(s.n, 0), s.n_eff, s.missing, s.invalid, s.outside,
           s.lowest, s.highest, s.different, gnomon_estimators.reference_of(feature_health.stream, feature_health.reference),
           case when c.problem is not null then c.problem
                when s.n is null then 'no value in this period'
                when s.missing = 1 then 'always missing'
                when s.missing + s.invalid >= 1 then 'every value is missing or NaN'
                when s.outside > 0 then 'values outside the reference'
                when s.different = 1 then 'one value only'
                else 'ok' end
    from gnomon_estimators.scope(feature_health.stream, feature_health.deployment) c
    left join summed s using (deployment_id)
    order by c.role, c.deployment, s.feature
$$;
