-- Area under the ROC curve of both sides and their difference, on one cohort of labelled pairs.
--
-- A = Σ_pos w [W_neg(< s) + ½ W_neg(= s)] / (W⁺ W⁻). Its residual is made of the placements V10 = share of negatives
-- below a positive's score (ties half) and V01 = share of positives above a negative's score: r = w (V10 - A) / W⁺ for
-- a positive, w (V01 - A) / W⁻ for a negative (Hanley and McNeil 1983; DeLong, DeLong and Clarke-Pearson 1988; by
-- cluster as in Obuchowski 1997). The difference of the sides differences the placements first. Without weights and
-- clusters, and with m/(m-1) a class, this is DeLong's variance.
--
-- The pairs of a deployment are read once and sorted once by either side's score: one deployment at a time, so that the
-- score alone is what is sorted by.
create function report_v1.auc(stream text, deployment text default null, since timestamptz default null,
                              until timestamptz default null, segment jsonb default null,
                              horizon interval default '1 day', time_zone text default 'UTC',
                              slice text default 'all')
    returns table (deployment_id integer, value text, side text, n bigint, n_effective float8, weight float8,
                   clusters bigint, days bigint, positives bigint, negatives bigint, estimate float8, se_row float8,
                   se_cluster float8, se_day float8, standard_error float8, low float8, high float8, status text)
    language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan set work_mem = '128MB'
    set enable_nestloop = off as
$$
#variable_conflict use_column
declare
    one_by_one boolean := report_v1.holds_little(auc.stream, auc.deployment, auc.since, auc.until);
    versions boolean := not one_by_one and report_v1.has_versions(auc.stream);
    subject record;
begin
    for subject in select d.deployment_id as id, d.deployment as name from report_v1.deployments d
                   where d.stream = auc.stream and (auc.deployment is null or d.deployment = auc.deployment)
    loop
    return query
    with said as (
        select report_v1.slice_of(auc.slice, p.event_time, p.stratum, p.segments, auc.time_zone) as value,
               p.cluster, (p.event_time at time zone auc.time_zone)::date as day, p.weight as w,
               p.live_value as live, p.shadow_value as shadow, p.truth_value = 1 as positive,
               case when p.truth_value = 1 then p.weight else 0 end as w_pos,
               case when p.truth_value = 1 then 0 else p.weight end as w_neg
        from report_v1.labelled(auc.stream, subject.name, auc.since, auc.until, auc.segment, auc.horizon, one_by_one,
                                versions) p
        where p.truth_value in (0, 1) and p.live_label is not null and p.shadow_label is not null
          and p.live_value > '-infinity' and p.live_value < 'infinity'
          and p.shadow_value > '-infinity' and p.shadow_value < 'infinity'
    ),
    -- Weight of the other class below, ties half: the running sum counts ties whole, half of them is taken back.
    below as (
        select s.value, s.cluster, s.day, s.w, s.positive,
               case when s.positive then sum(s.w_neg) over live_order - 0.5 * sum(s.w_neg) over live_ties
                    else sum(s.w_pos) over live_order - 0.5 * sum(s.w_pos) over live_ties end as live,
               case when s.positive then sum(s.w_neg) over shadow_order - 0.5 * sum(s.w_neg) over shadow_ties
                    else sum(s.w_pos) over shadow_order - 0.5 * sum(s.w_pos) over shadow_ties end as shadow
        from said s
        window live_order as (partition by s.value order by s.live),
               live_ties as (partition by s.value, s.live),
               shadow_order as (partition by s.value order by s.shadow),
               shadow_ties as (partition by s.value, s.shadow)
    ),
    placed as materialized (select * from below),
    areas as (
        select value, count(*) as n, sum(w) as weight, sum(w) ^ 2 / sum(w * w) as kish,
               count(*) filter (where positive) as positives, count(*) filter (where not positive) as negatives,
               sum(w) filter (where positive) as w_pos, sum(w) filter (where not positive) as w_neg,
               sum(w * live) filter (where positive)
                   / (sum(w) filter (where positive) * sum(w) filter (where not positive)) as live,
               sum(w * shadow) filter (where positive)
                   / (sum(w) filter (where positive) * sum(w) filter (where not positive)) as shadow
        from placed group by 1
    ),
    weighted as not materialized (
        select a.value, p.cluster, p.day,
               case when p.positive then p.w * (p.live / a.w_neg - a.live) / a.w_pos
                    else p.w * (1 - p.live / a.w_pos - a.live) / a.w_neg end as live,
               case when p.positive then p.w * (p.shadow / a.w_neg - a.shadow) / a.w_pos
                    else p.w * (1 - p.shadow / a.w_pos - a.shadow) / a.w_neg end as shadow
        from placed p join areas a using (value) offset 0
    ),
    residuals as (
        select value, cluster, true as by_cluster, sum(live) as live, sum(shadow) as shadow,
               sum(live * live) as live_rows, sum(shadow * shadow) as shadow_rows,
               sum((shadow - live) * (shadow - live)) as difference_rows, count(*) as n
        from weighted group by value, cluster
        union all
        select value, null, false, sum(live), sum(shadow), null, null, null, count(*) from weighted group by value, day
    ),
    variances as (
        select value, e.side, sum(e.rows) filter (where by_cluster) as v_row,
               sum(case when cluster is null then e.rows else e.total * e.total end) filter (where by_cluster)
                   as v_cluster,
               case when count(*) filter (where not by_cluster) > 1
                    then sum(e.total * e.total) filter (where not by_cluster) end as v_day,
               sum(case when cluster is null then n else 1 end) filter (where by_cluster)::bigint as clusters,
               count(*) filter (where not by_cluster) as days
        from residuals
        cross join lateral (values ('live', live, live_rows), ('shadow', shadow, shadow_rows),
                                   ('difference', shadow - live, difference_rows)) e(side, total, rows)
        group by 1, 2
    )
    select subject.id, a.value, v.side, a.n, a.kish, a.weight, v.clusters, v.days, a.positives, a.negatives,
           x.estimate, sqrt(v.v_row), sqrt(v.v_cluster), sqrt(v.v_day), sqrt(v.v_cluster + coalesce(v.v_day, 0)), i.low,
           i.high, case when a.w_pos is null or a.w_neg is null then 'one class only' else 'ok' end
    from areas a
    join variances v using (value)
    cross join lateral (select case v.side when 'live' then a.live when 'shadow' then a.shadow
                                           else a.shadow - a.live end as estimate) x
    cross join lateral report_v1.interval95(case when v.side = 'difference' then 'mean' else 'share' end, x.estimate,
                                            v.v_cluster + coalesce(v.v_day, 0), least(a.kish, v.clusters)) i;
    end loop;
end
$$;
