-- Drift of every feature and of both models' answers against a frozen reference.
--
-- psi = Σ (q - p) ln(q / p) over the frozen bins, one of them for null and NaN, each with half a pseudo-row. Without
-- drift its mean is Σ V_b / q_b, where V_b is the variance of the share of bin b by rows, increased by clusters (in 100
-- groups) and days, plus (B - 1) / n_ref of the reference, where B is the number of bins that are not empty on both
-- sides. psi_threshold is the 95% quantile of a sum of squares with this mean (`squares_quantile`; Rao and Scott 1981).
-- psi_low, psi_high: psi minus that mean, and t standard errors by the delta method to either side, for days like
-- these. js: Jensen-Shannon divergence over the same bins, in nats (at most ln 2). ks, wasserstein: largest distance
-- and area between the weighted distribution functions of the finite values. unseen_share: for a category, the share
-- that the reference does not contain. n: the pairs that were read, out of `pairs` (`drawn`); n_effective: Kish's.
create function report_v1.drift(stream text, deployment text default null, since timestamptz default null,
                                until timestamptz default null, segment jsonb default null,
                                reference text default null, exact boolean default null, time_zone text default 'UTC')
    returns table (stream text, deployment text, role text, reference text, feature text, kind text, n bigint,
                   n_effective float8, psi float8, psi_threshold float8, psi_low float8, js float8, ks float8,
                   wasserstein float8, reference_null_share float8, null_share float8, nan_share float8,
                   unseen_share float8, status text, psi_high float8, pairs bigint)
    language sql stable set work_mem = '128MB' set enable_nestloop = off as -- planner notes 5, 6
$$
    with profiles as materialized (
        select row_number() over () as id, r.deployment, r.feature, r.kind, r.n_effective as n_ref, r.null_share,
               r.nan_share, r.edges, r.categories, r.complete, r.shares, r.points, r.masses, f.position,
               cardinality(r.shares) + 1 as bins
        from gnomon_estimators.reference_profiles r
        left join gnomon_estimators.feature_columns f
            on f.stream_id = r.stream_id and f.name = r.feature and f.kind = r.kind and r.deployment = ''
        where r.stream = drift.stream and r.name = gnomon_estimators.reference_of(drift.stream, drift.reference)
    ),
    categories as materialized (
        select p.id, c.name, c.bin from profiles p
        cross join lateral unnest(p.categories) with ordinality c(name, bin) where p.kind = 'text'
    ),
    pairs as materialized (
        select * from gnomon_estimators.drawn(drift.stream, drift.deployment, drift.since, drift.until, drift.segment,
                                              drift.exact, drift.time_zone)
    ),
    -- As a table by deployment, so that pairs are hashed to their profiles; there are profiles of every deployment's answers.
    watched as materialized (
        select n.deployment_id, p.id, p.kind, p.feature, p.position, p.edges, p.bins
        from (select distinct d.deployment_id, d.deployment from pairs d) n
        join profiles p on p.deployment in ('', n.deployment)
    ),
    -- One row a pair and feature.
    placed as materialized (
        select d.deployment_id, p.id, d.bucket, d.day, d.w, v.x, v.x is null and v.t is null as missing,
               case when v.x > '-infinity' and v.x < 'infinity' then width_bucket(v.x, p.edges) + 1
                    when v.t is not null then coalesce(c.bin::integer, p.bins - 1)
                    else p.bins end as bin
        from pairs d
        join watched p using (deployment_id)
        cross join lateral (
            select case when p.kind = 'text' then null when p.position is not null then d.numbers[p.position]
                        when p.feature = '@live.value' then d.live_value else d.shadow_value end as x,
                   case when p.kind = 'numeric' then null when p.position is not null then d.texts[p.position]
                        when p.feature = '@live.label' then d.live_label else d.shadow_label end as t) v
        left join categories c on c.id = p.id and c.name = v.t
        where p.position is not null or p.feature in ('@live.value', '@live.label') and d.live_answered
           or p.feature in ('@shadow.value', '@shadow.label') and d.shadow_answered
    ),
    by_bucket as materialized (
        select deployment_id, id, bin, bucket, count(*) as n, sum(w) as w, sum(w * w) as w2,
               sum(w) filter (where missing) as missing, sum(w) filter (where not missing) as given
        from placed group by 1, 2, 3, 4
    ),
    by_day as materialized (
        select deployment_id, id, bin, day, sum(w) as w from placed group by 1, 2, 3, 4
    ),
    bins as materialized (
        select deployment_id, id, bin, sum(n) as n, sum(w) as w, sum(w2) as w2, sum(missing) as missing,
               sum(given) as given
        from by_bucket group by 1, 2, 3
    ),
    totals as materialized (
        select b.deployment_id, b.id, sum(b.n)::bigint as n, sum(b.w) as w, sum(b.w) ^ 2 / sum(b.w2) as n_eff,
               sum(b.w) filter (where b.bin < p.bins) as w_valid,
               coalesce(sum(b.missing), 0) / sum(b.w) as null_share,
               coalesce(sum(b.given) filter (where b.bin = p.bins), 0) / sum(b.w) as nan_share,
               case when p.kind = 'text' and p.complete
                    then coalesce(sum(b.w) filter (where b.bin = p.bins - 1), 0) / sum(b.w) end as unseen
        from bins b join profiles p using (id) group by 1, 2, p.kind, p.complete
    ),
    compared as materialized (
        select t.deployment_id, t.id, b.bin, t.n_eff, p.n_ref,
               (p.n_ref * r.share + 0.5) / (p.n_ref + 0.5 * p.bins) as p,
               (t.n_eff * coalesce(q.w, 0) / t.w + 0.5) / (t.n_eff + 0.5 * p.bins) as q,
               q.w > 0 or r.share > 0 as filled, coalesce(q.w, 0) / t.w as share, q.w2 / t.w ^ 2 as v
        from totals t
        join profiles p using (id)
        cross join lateral generate_series(1, p.bins) b(bin)
        cross join lateral (select case when b.bin = p.bins then p.null_share + p.nan_share
                                        else p.shares[b.bin] * (1 - p.null_share - p.nan_share) end as share) r
        left join bins q on q.deployment_id = t.deployment_id and q.id = t.id and q.bin = b.bin
    ),
    -- score: the amount that a row of this bin adds to psi, minus the mean of the rows.
    scored as materialized (
        select c.*, g.score - sum(c.share * g.score) over (partition by c.deployment_id, c.id) as score
        from compared c cross join lateral (select ln(q / p) + 1 - p / q as score) g
    ),
    divergences as (
        select deployment_id, id, sum((q - p) * ln(q / p)) as psi, min(n_ref) as n_ref,
               greatest(count(*) filter (where filled) - 1, 1) as squares,
               sum(p * ln(2 * p / (p + q)) + q * ln(2 * q / (p + q))) / 2 as js,
               sum(v * score ^ 2) as v_row, sum(v / nullif(share, 0)) - sum(v) as noise,
               (sum(p * (ln(p / q) + 1 - q / p) ^ 2) - sum(p * (ln(p / q) + 1 - q / p)) ^ 2) / min(n_ref) as v_reference
        from scored group by 1, 2
    ),
    -- Σ r² of a group's share of psi, and Σ (Σ_b w_b² / q_b - w²), which is Σ_b of its squared residuals divided by
    -- q_b.
    groups as (
        select b.deployment_id, b.id, true as by_cluster, b.bucket as one, sum(b.w / t.w * s.score) as r,
               greatest(sum((b.w / t.w) ^ 2 / s.share) - sum(b.w / t.w) ^ 2, 0) as noise
        from by_bucket b join totals t using (deployment_id, id) join scored s using (deployment_id, id, bin)
        group by 1, 2, b.bucket
        union all
        select b.deployment_id, b.id, false, 0, sum(b.w / t.w * s.score),
               greatest(sum((b.w / t.w) ^ 2 / s.share) - sum(b.w / t.w) ^ 2, 0)
        from by_day b join totals t using (deployment_id, id) join scored s using (deployment_id, id, bin)
        group by 1, 2, b.day
    ),
    variances as (
        select deployment_id, id, count(*) filter (where by_cluster) as clusters,
               count(*) filter (where not by_cluster) as days, sum(r ^ 2) filter (where by_cluster) as v_cluster,
               sum(r ^ 2) filter (where not by_cluster) as v_day, sum(noise) filter (where by_cluster) as noise_cluster,
               sum(noise) filter (where not by_cluster) as noise_day
        from groups group by 1, 2
    ),
    judged as materialized (
        select d.deployment_id, d.id, d.psi, d.js, m.whole + m.by_cluster + m.by_day as mean,
               -- A row or two vary in nothing, so that everything would differ from the reference.
               case when t.n_eff >= 3
                    then gnomon_estimators.squares_quantile(m.whole, m.by_cluster, m.by_day, d.squares, v.clusters, v.days)
                    end as threshold, v.clusters, v.days,
               case when s.variance > 1e-26 and t.n_eff >= 3
                    then sqrt(s.t ^ 2 * s.variance + gnomon_estimators.reach(null) ^ 2 * greatest(d.v_reference, 0)) end as reach
        from divergences d
        join variances v using (deployment_id, id)
        join totals t using (deployment_id, id)
        -- The amount that clusters and days add to that of rows alone.
        cross join lateral (
            select d.noise + d.squares / d.n_ref as whole,
                   greatest(coalesce(v.noise_cluster * v.clusters / nullif(v.clusters - 1, 0)::float8 - d.noise, 0), 0)
                       as by_cluster,
                   greatest(coalesce(v.noise_day * v.days / nullif(v.days - 1, 0)::float8 - d.noise, 0), 0) as by_day) m
        cross join lateral gnomon_estimators.spread(d.v_row, v.v_cluster, v.v_day, null, t.n, v.clusters, v.days, null) s
    ),
    steps as (
        select v.deployment_id, v.id, v.x, v.w / t.w_valid as step
        from placed v join totals t using (deployment_id, id) join profiles p using (id)
        where v.x is not null and v.bin < p.bins
        union all
        select t.deployment_id, t.id, r.point, -r.mass
        from totals t join profiles p using (id)
        cross join lateral unnest(p.points, p.masses) r(point, mass)
        where t.w_valid > 0
    ),
    curves as (
        select deployment_id, id, abs(sum(step) over up) as gap, lead(x) over up - x as width
        from steps window up as (partition by deployment_id, id order by x)
    ),
    distances as (
        select c.deployment_id, c.id, max(c.gap) as ks, coalesce(sum(c.gap * c.width), 0) as area
        from curves c join profiles p using (id) where cardinality(p.points) > 0 group by 1, 2
    )
    select c.stream, c.deployment, c.role, gnomon_estimators.reference_of(drift.stream, drift.reference), p.feature, p.kind,
           coalesce(t.n, 0), t.n_eff, j.psi, j.threshold, j.psi - j.mean - j.reach, j.js, d.ks, d.area, p.null_share,
           t.null_share, t.nan_share, t.unseen,
           case when c.problem is not null then c.problem
                when p.feature is null then 'no reference: run `gnomon reference build`'
                when t.n is null then 'no value in this period'
                when t.w_valid is null then 'every value is missing or NaN'
                when j.threshold is null then 'too few rows to compare with the reference'
                when j.psi > j.threshold
                then 'differs from the reference'
                     || case when j.clusters = 1 then ': one cluster only, which may be unlike the others'
                             when j.days = 1 then ': one day only, which may be unlike others' else '' end
                else 'ok' end,
           j.psi - j.mean + j.reach, coalesce(n.pairs, 0)
    from gnomon_estimators.scope(drift.stream, drift.deployment) c
    left join profiles p on p.deployment in ('', c.deployment)
    left join (select distinct deployment_id, pairs from pairs) n using (deployment_id)
    left join totals t on t.deployment_id = c.deployment_id and t.id = p.id
    left join judged j on j.deployment_id = t.deployment_id and j.id = t.id
    left join distances d on d.deployment_id = t.deployment_id and d.id = t.id
    order by c.role, c.deployment, j.psi desc nulls last, p.feature
$$;

-- Whether features arrive as expected: shares that are missing, invalid (NaN or infinite), or outside of the
-- reference's values (beyond its extremes; an unknown category), and the extremes themselves. n: the pairs that were
-- read, out of `pairs` (`drawn`).
create function report_v1.feature_health(stream text, deployment text default null, since timestamptz default null,
                                         until timestamptz default null, segment jsonb default null,
                                         reference text default null, exact boolean default null)
    returns table (stream text, deployment text, role text, feature text, kind text, n bigint, n_effective float8,
                   missing float8, invalid float8, out_of_range float8, lowest float8, highest float8,
                   distinct_values bigint, reference text, status text, pairs bigint)
    language sql stable set work_mem = '128MB' set enable_nestloop = off as -- planner notes 5, 6
$$
    with features as materialized (
        select row_number() over () as id, f.name, f.kind, f.position, p.points[1] as low,
               p.points[cardinality(p.points)] as high, p.complete, p.categories, p.feature is not null as known
        from gnomon_estimators.feature_columns f
        left join gnomon_estimators.reference_profiles p
            on p.stream_id = f.stream_id and p.feature = f.name and p.kind = f.kind and p.deployment = ''
           and p.name = gnomon_estimators.reference_of(feature_health.stream, feature_health.reference)
        where f.stream = feature_health.stream
    ),
    categories as materialized (
        select f.id, c.name from features f cross join lateral unnest(f.categories) c(name)
        where f.kind = 'text' and f.complete
    ),
    pairs as materialized (
        select * from gnomon_estimators.drawn(feature_health.stream, feature_health.deployment, feature_health.since,
                                              feature_health.until, feature_health.segment, feature_health.exact, 'UTC')
    ),
    -- Group equal values first.
    counted as (
        select d.deployment_id, f.id, v.x, v.t, count(*) as n, sum(d.w) as w, sum(d.w * d.w) as w2
        from pairs d
        cross join features f
        cross join lateral (
            select case when f.kind = 'numeric' then d.numbers[f.position] end as x,
                   case when f.kind = 'text' then d.texts[f.position] end as t) v
        group by 1, 2, 3, 4
    ),
    summed as (
        select c.deployment_id, f.name, f.kind, sum(c.n)::bigint as n, sum(c.w) ^ 2 / sum(c.w2) as n_eff,
               coalesce(sum(c.w) filter (where c.x is null and c.t is null), 0) / sum(c.w) as missing,
               coalesce(sum(c.w) filter (where not v.finite), 0) / sum(c.w) as invalid,
               case when f.known and (f.kind = 'numeric' or f.complete)
                    then coalesce(sum(c.w) filter (
                        where v.finite and (c.x < f.low or c.x > f.high)
                           or c.t is not null and f.complete and k.name is null), 0) / sum(c.w) end as outside,
               min(c.x) filter (where v.finite) as lowest, max(c.x) filter (where v.finite) as highest,
               count(*) filter (where c.x is not null or c.t is not null) as different
        from counted c
        join features f using (id)
        cross join lateral (select c.x > '-infinity' and c.x < 'infinity' as finite) v
        left join categories k on k.id = c.id and k.name = c.t
        group by 1, 2, 3, f.known, f.complete
    )
    select c.stream, c.deployment, c.role, s.name, s.kind, coalesce(s.n, 0), s.n_eff, s.missing, s.invalid, s.outside,
           s.lowest, s.highest, s.different, gnomon_estimators.reference_of(feature_health.stream, feature_health.reference),
           case when c.problem is not null then c.problem
                when s.n is null then 'no value in this period'
                when s.missing = 1 then 'always missing'
                when s.missing + s.invalid >= 1 then 'every value is missing or NaN'
                when s.outside > 0 then 'values outside the reference'
                when s.different = 1 then 'one value only'
                else 'ok' end,
           coalesce(n.pairs, 0)
    from gnomon_estimators.scope(feature_health.stream, feature_health.deployment) c
    left join (select distinct deployment_id, pairs from pairs) n using (deployment_id)
    left join summed s using (deployment_id)
    order by c.role, c.deployment, s.name
$$;
