-- The variance that the interval of an area A is based on, of the effective numbers of positives and negatives. Few rows of
-- the rarer class may lie together by chance, so their variance is mixed with Newcombe's (2006, method 5),
-- A (1-A) (1 + N (1-A)/(2-A) + N A/(1+A)) / (m n), N = (m+n)/2 - 1, as if ten more rows of the rarer class supported
-- it; it is never below the variance itself. `rarer`: clusters of the rarer class. Without it, intervals of areas of 0.95
-- to 0.99 covered 89 to 92% with 10 to 50 positives; with it 95% and more, and with 1,000 positives they are as long as
-- before.
--
-- If nothing varies, either all scores are equal, and the area is exactly 1/2, or the scores separate the classes. An area
-- of 1 (or 0) is then taken as a tenth of a row of the rarer class away from it, because Newcombe's variance of it is 0.
-- Only differences use this: such a side has no interval of its own.
create function gnomon_estimators.area_variance(area float8, variance float8, positives float8, negatives float8,
                                                rarer bigint)
    returns float8 language sql immutable parallel safe as
$$
    select case when variance <= 1e-26 and area between 1e-9 and 1 - 1e-9 then 0
                else greatest(variance, (rarer * variance + 10 * v.newcombe) / (rarer + 10)) end
    from (select (positives + negatives) / 2 - 1 as half,
                 case when variance <= 1e-26 then least(greatest(area, 0.1 / (rarer + 1)), 1 - 0.1 / (rarer + 1))
                      else area end as a) h
    cross join lateral (select h.a * (1 - h.a) * (1 + h.half * (1 - h.a) / (2 - h.a) + h.half * h.a / (1 + h.a))
                               / (positives * negatives) as newcombe) v
$$;

-- The variance that the interval of a difference of two areas is based on: the two mixed variances m with the correlation
-- of the sides' own variances v. It is never below the variance of the difference itself. A side that does not vary is
-- not correlated with the other; without this, the difference from an area of 1 had the other side's variance alone and
-- covered 77 to 90% with 3 to 10 positives.
create function gnomon_estimators.area_difference_variance(variance float8, v_live float8, v_shadow float8, m_live float8,
                                                           m_shadow float8)
    returns float8 language sql immutable parallel safe as
$$
    select greatest(variance,
                    case when least(v_live, v_shadow) <= 1e-26 then m_live + m_shadow else
                    (sqrt(m_live) - sqrt(m_shadow)) ^ 2
                    + (variance - (sqrt(v_live) - sqrt(v_shadow)) ^ 2) * sqrt(m_live * m_shadow / (v_live * v_shadow)) end)
$$;

-- Area under the ROC curve of both sides and their difference, on one cohort of labelled pairs.
--
-- A = Σ_pos w [W_neg(< s) + ½ W_neg(= s)] / (W⁺ W⁻). Its residual is made of the placements V10 = share of negatives
-- below a positive's score (ties half) and V01 = share of positives above a negative's score: r = w (V10 - A) / W⁺ for
-- a positive, w (V01 - A) / W⁻ for a negative (Hanley and McNeil 1983; DeLong, DeLong and Clarke-Pearson 1988; by
-- cluster as in Obuchowski 1997). The difference of the sides differences the placements first. Without weights and
-- clusters, and with m/(m-1) a class, this is DeLong's variance.
--
-- An area is known no better than the rarer class: clusters and days are the numbers of those that contain rows of both
-- the positive and the negative class, whichever is smaller. With the numbers of all rows, the interval of 3 positives
-- among 1,000 rows covered 70 to 78%.
--
-- The pairs of a deployment are read once and sorted once by each side's score: one deployment at a time, so that the
-- score alone is the sort key. If only a share is read, reading takes longer than sorting: then all at once.
--
-- Intervals are based on `area_variance` and `area_difference_variance`: few positives may hardly vary by chance.
create function gnomon_estimators.auc(stream text, deployment text default null, since timestamptz default null,
                              until timestamptz default null, segment jsonb default null,
                              horizon interval default '1 day', time_zone text default 'UTC',
                              slices text[] default '{all}', ids integer[] default '{}',
                              shares float8[] default '{}', versions boolean default null)
    returns table (deployment_id integer, slice text, value text, side text, n bigint, n_effective float8, weight float8,
                   clusters bigint, days bigint, positives bigint, negatives bigint, estimate float8, se_row float8,
                   se_cluster float8, se_day float8, standard_error float8, low float8, high float8, status text,
                   se_period float8, period_low float8, period_high float8)
    -- planner notes 5, 6, 11
    language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan set work_mem = '128MB'
    set enable_nestloop = off as
$$
#variable_conflict use_column
declare
    one_by_one boolean := gnomon_estimators.holds_little(auc.stream, auc.deployment, auc.since, auc.until);
    several boolean := not one_by_one and coalesce(auc.versions, gnomon_estimators.has_versions(auc.stream));
    subject record;
begin
    for subject in select array_agg(d.deployment_id) as ids,
                          case when count(*) = 1 then min(d.deployment) else auc.deployment end as name
                   from gnomon_estimators.deployments d
                   where d.stream = auc.stream and (auc.deployment is null or d.deployment = auc.deployment)
                   group by case when auc.ids = '{}' then d.deployment_id end
    loop
    return query
    with scored as (
        select p.deployment_id, p.slice,
               gnomon_estimators.slice_of(auc.slices[p.slice], p.event_time, p.stratum, p.segments, p.live_model_version,
                                          auc.time_zone) as value,
               hashtextextended(p.cluster, 0) as cluster, (p.event_time at time zone auc.time_zone)::date as day,
               p.weight as w, p.live_value as live, p.shadow_value as shadow, p.truth_value = 1 as positive,
               case when p.truth_value = 1 then p.weight else 0 end as w_pos,
               case when p.truth_value = 1 then 0 else p.weight end as w_neg,
               gnomon_estimators.cell_key(p.window_id, p.stratum) as cell, p.inclusion_probability as pi
        -- A row for each pair and slice.
        from (select p.deployment_id, p.event_time, p.stratum, p.segments, p.live_model_version, p.cluster,
                     p.weight / r.share as weight, p.live_value, p.shadow_value, p.truth_value, p.window_id, p.inclusion_probability,
                     generate_subscripts(auc.slices, 1) as slice
              from gnomon_estimators.labelled(auc.stream, subject.name, auc.since, auc.until, auc.segment, auc.horizon,
                                              one_by_one, several) p
        cross join lateral (select gnomon_estimators.share_of(p.deployment_id, auc.ids, auc.shares) as share) r
        where gnomon_estimators.within_share(p.request_id, r.share)
          and p.truth_value in (0, 1) and p.live_error_kind is null and p.outcome = 'scored'
          and (p.live_label is not null and p.shadow_label is not null or p.task = 'binary')
          and p.task is distinct from 'multiclass'
          and p.live_value > '-infinity' and p.live_value < 'infinity'
          and p.shadow_value > '-infinity' and p.shadow_value < 'infinity') p
    ),
    -- Weight of the other class below, ties half: the running sum counts ties whole, so half of them is subtracted.
    below as (
        select s.deployment_id, s.slice, s.value, s.cluster, s.day, s.w, s.positive, s.cell, s.pi,
               case when s.positive then sum(s.w_neg) over live_order - 0.5 * sum(s.w_neg) over live_ties
                    else sum(s.w_pos) over live_order - 0.5 * sum(s.w_pos) over live_ties end as live,
               case when s.positive then sum(s.w_neg) over shadow_order - 0.5 * sum(s.w_neg) over shadow_ties
                    else sum(s.w_pos) over shadow_order - 0.5 * sum(s.w_pos) over shadow_ties end as shadow
        from scored s
        window live_order as (partition by s.deployment_id, s.slice, s.value order by s.live),
               live_ties as (partition by s.deployment_id, s.slice, s.value, s.live),
               shadow_order as (partition by s.deployment_id, s.slice, s.value order by s.shadow),
               shadow_ties as (partition by s.deployment_id, s.slice, s.value, s.shadow)
    ),
    placed as materialized (select * from below),
    areas as (
        select deployment_id, slice, value, count(*) as n, sum(w) as weight, sum(w) ^ 2 / sum(w * w) as kish,
               count(*) filter (where positive) as positives, count(*) filter (where not positive) as negatives,
               sum(w) filter (where positive) ^ 2 / sum(w * w) filter (where positive) as kish_pos,
               sum(w) filter (where not positive) ^ 2 / sum(w * w) filter (where not positive) as kish_neg,
               sum(w) filter (where positive) as w_pos, sum(w) filter (where not positive) as w_neg,
               sum(w * live) filter (where positive)
                   / (sum(w) filter (where positive) * sum(w) filter (where not positive)) as live,
               sum(w * shadow) filter (where positive)
                   / (sum(w) filter (where positive) * sum(w) filter (where not positive)) as shadow
        from placed group by 1, 2, 3
    ),
    weighted as not materialized ( -- planner note 7
        select a.deployment_id, a.slice, a.value, p.cluster, p.day, p.cell, p.pi, p.w, p.positive,
               case when p.positive then a.positives / nullif(a.positives - 1, 0)::float8
                    else a.negatives / nullif(a.negatives - 1, 0)::float8 end as factor,
               case when p.positive then p.w * (p.live / a.w_neg - a.live) / a.w_pos
                    else p.w * (1 - p.live / a.w_pos - a.live) / a.w_neg end as live,
               case when p.positive then p.w * (p.shadow / a.w_neg - a.shadow) / a.w_pos
                    else p.w * (1 - p.shadow / a.w_pos - a.shadow) / a.w_neg end as shadow
        from placed p join areas a using (deployment_id, slice, value) offset '0' -- planner note 3
    ),
    -- DeLong's factor m/(m-1), by class, for the variance by rows only.
    residuals as materialized (
        select w.deployment_id, w.slice, w.value, w.cluster, w.day, sum(w.live) as live, sum(w.shadow) as shadow,
               sum(w.live * w.live * w.factor) as live_rows, sum(w.shadow * w.shadow * w.factor) as shadow_rows,
               sum((w.shadow - w.live) * (w.shadow - w.live) * w.factor) as difference_rows,
               sum(w.live * w.live) as live_alone, sum(w.shadow * w.shadow) as shadow_alone,
               sum((w.shadow - w.live) * (w.shadow - w.live)) as difference_alone, count(*) as n,
               count(*) filter (where w.positive) as n_pos
        from weighted w group by w.deployment_id, w.slice, w.value, w.cluster, w.day
    ),
    -- By cells of the ledger: sampling is the only error of a statement about the period itself.
    cell_sums as (
        select w.deployment_id, w.slice, w.value, w.cell, min(w.pi) as pi, count(*) as n,
               array[sum(w.live), sum(w.shadow), sum(w.shadow - w.live)] as totals,
               array[sum(w.live ^ 2), sum(w.shadow ^ 2), sum((w.shadow - w.live) ^ 2)] as squares,
               array[sum(w.live ^ 2 * (w.pi - 1 / w.w)), sum(w.shadow ^ 2 * (w.pi - 1 / w.w)),
                     sum((w.shadow - w.live) ^ 2 * (w.pi - 1 / w.w))] as kept
        from weighted w group by w.deployment_id, w.slice, w.value, w.cell
    ),
    by_cell as (
        select d.deployment_id, d.slice, d.value, e.side,
               sum(gnomon_estimators.cell_variance(d.pi, l.draw, l.sampled, d.n, d.totals[e.at], d.squares[e.at],
                                                   d.kept[e.at])) as v
        from cell_sums d
        left join gnomon_estimators.cell_sizes(subject.ids) l using (deployment_id, cell)
        cross join (values ('live', 1), ('shadow', 2), ('difference', 3)) e(side, at)
        group by 1, 2, 3, 4
    ),
    -- The three sides side by side: a row for each would be three times as many to group.
    by_both as (
        select deployment_id, slice, value, sum(case when cluster is null then n else 1 end)::bigint as cells,
               sum(live_rows) as live_rows, sum(shadow_rows) as shadow_rows, sum(difference_rows) as difference_rows,
               sum(case when cluster is null then live_alone else live * live end) as live,
               sum(case when cluster is null then shadow_alone else shadow * shadow end) as shadow,
               sum(case when cluster is null then difference_alone else (shadow - live) * (shadow - live) end) as difference
        from residuals group by 1, 2, 3
    ),
    by_cluster as (
        select deployment_id, slice, value, sum(case when cluster is null then n else 1 end)::bigint as every,
               least(sum(case when cluster is null then n_pos else sign(n_pos) end),
                     sum(case when cluster is null then n - n_pos else sign(n - n_pos) end))::bigint as clusters,
               sum(case when cluster is null then live_alone else live * live end) as live,
               sum(case when cluster is null then shadow_alone else shadow * shadow end) as shadow,
               sum(case when cluster is null then difference_alone else (shadow - live) * (shadow - live) end) as difference
        from (select deployment_id, slice, value, cluster, sum(live) as live, sum(shadow) as shadow,
                     sum(live_alone) as live_alone, sum(shadow_alone) as shadow_alone, sum(difference_alone) as difference_alone, sum(n) as n,
                     sum(n_pos) as n_pos
              from residuals group by 1, 2, 3, 4) r
        group by 1, 2, 3
    ),
    by_day as (
        select deployment_id, slice, value, count(*) as every,
               least(count(*) filter (where n_pos > 0), count(*) filter (where n > n_pos)) as days,
               sum(live * live) as live, sum(shadow * shadow) as shadow, sum((shadow - live) * (shadow - live)) as difference
        from (select deployment_id, slice, value, day, sum(live) as live, sum(shadow) as shadow, sum(n) as n,
                     sum(n_pos) as n_pos
              from residuals group by 1, 2, 3, 4) r
        group by 1, 2, 3
    ),
    estimated as (
        select a.*, x.side, x.estimate, c.clusters, t.days, d.se_row, d.se_cluster, d.se_day, d.variance, d.t,
               gnomon_estimators.area_variance(x.estimate, d.variance, a.kish_pos, a.kish_neg, c.clusters) as mixed
        from areas a
        join by_both b using (deployment_id, slice, value)
        join by_cluster c using (deployment_id, slice, value)
        join by_day t using (deployment_id, slice, value)
        cross join lateral (values ('live', a.live, b.live_rows, c.live, t.live, b.live),
                                   ('shadow', a.shadow, b.shadow_rows, c.shadow, t.shadow, b.shadow),
                                   ('difference', a.shadow - a.live, b.difference_rows, c.difference, t.difference,
                                    b.difference)) x(side, estimate, rows, cluster, day, crossed)
        -- The rows already include their factor.
        cross join lateral gnomon_estimators.spread(x.rows, x.cluster, x.day, x.crossed, null, c.every, t.every, b.cells,
                                                    c.clusters, t.days) d
    ),
    sided as (
        select e.*, max(variance) filter (where side = 'live') over both_sides as v_live,
               max(variance) filter (where side = 'shadow') over both_sides as v_shadow,
               max(mixed) filter (where side = 'live') over both_sides as m_live,
               max(mixed) filter (where side = 'shadow') over both_sides as m_shadow
        from estimated e window both_sides as (partition by deployment_id, slice, value)
    )
    select a.deployment_id, auc.slices[a.slice], a.value, a.side, a.n, a.kish, a.weight, a.clusters, a.days, a.positives,
           a.negatives, a.estimate, a.se_row, a.se_cluster, a.se_day, sqrt(a.variance),
           case o.only when 'shadow' then i.low - a.live when 'live' then a.shadow - i.high
                       else case when i.low < -1 then -1 else i.low end end,
           case o.only when 'shadow' then i.high - a.live when 'live' then a.shadow - i.low
                       else case when i.high > 1 then 1 else i.high end end,
           case when a.w_pos is null or a.w_neg is null then 'one class only'
                when least(a.positives, a.negatives) = 1 then 'one request of a class only: no interval'
                else gnomon_estimators.footing(a.clusters, a.days, i.low) end,
           sqrt(p.v), f.low, f.high
    from sided a
    -- The only side whose scores vary: the interval of the difference is this side's, less the other's 1/2.
    cross join lateral (select case when a.side <> 'difference' then null
                                    when a.v_live <= 1e-26 and a.live between 1e-9 and 1 - 1e-9 then 'shadow'
                                    when a.v_shadow <= 1e-26 and a.shadow between 1e-9 and 1 - 1e-9 then 'live' end as only) o
    left join lateral gnomon_estimators.interval95(
        -- An area of 1 has a variance of 0, which is not certainty, and it is not a share of rows either.
        case when a.side = 'difference' and o.only is null or a.variance <= 1e-26 then 'mean' else 'share' end,
        case o.only when 'shadow' then a.shadow when 'live' then a.live else a.estimate end,
        case when a.variance <= 1e-26 then a.variance
             when o.only = 'shadow' then a.m_shadow
             when o.only = 'live' then a.m_live
             when a.side = 'difference'
             then gnomon_estimators.area_difference_variance(a.variance, a.v_live, a.v_shadow, a.m_live, a.m_shadow)
             else a.mixed end,
        a.kish, a.t, a.clusters, 1) i on a.variance is not null and least(a.positives, a.negatives) > 1
    left join by_cell p on p.deployment_id = a.deployment_id and p.slice = a.slice and p.value = a.value and p.side = a.side
    left join lateral gnomon_estimators.period_interval(
        case when a.side = 'difference' or p.v <= 1e-26 then 'mean' else 'share' end, a.estimate, p.v, a.kish, a.n,
        a.weight, 1) f on least(a.positives, a.negatives) > 1 or abs(a.weight - a.n) <= 1e-9 * a.n;
    end loop;
end
$$;
