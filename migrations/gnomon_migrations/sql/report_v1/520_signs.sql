-- The numbers that bounds are set on, one row each, over a period of event time. `part` is the class of a class share,
-- '' otherwise. A number that nothing is known of is null, and its status says why; n is how many pairs stand behind it.
--   captures_per_second, agreement, shadow_error_rate, live_error_rate, value_difference (mean, shadow less live),
--   shadow_value_min/max/mean, live_value_min/max/mean, shadow_nan_share, live_nan_share, shadow_class_share,
--   live_class_share, sampling_fraction, coverage, ledger_closes (1 or 0)
create function report_v1.signs(stream text, deployment text, since timestamptz, until timestamptz)
    returns table (stream text, deployment text, role text, number text, part text, value float8, n bigint, status text)
    language sql stable as
$$
    with pairs as materialized (
        select p.deployment_id, p.weight as w, p.comparable, p.agrees, p.outcome, p.live_error_kind, p.live_label,
               p.shadow_label, p.live_value, p.shadow_value,
               p.live_value > '-infinity' and p.live_value < 'infinity' as live_finite,
               p.shadow_value > '-infinity' and p.shadow_value < 'infinity' as shadow_finite
        from report_v1.pairs_of(signs.stream, signs.deployment, signs.since, signs.until, null) p
    ),
    sums as (
        select p.deployment_id, count(*) as n, sum(p.w) / extract(epoch from signs.until - signs.since)::float8 as rate,
               sum(p.w) filter (where p.agrees) as agreed, sum(p.w) filter (where p.comparable) as comparable,
               count(*) filter (where p.comparable) as comparable_n, sum(p.w) as w,
               coalesce(sum(p.w) filter (where p.outcome <> 'scored'), 0) as failed,
               coalesce(sum(p.w) filter (where p.live_error_kind is not null), 0) as live_failed,
               sum(p.w * (p.shadow_value - p.live_value)) filter (where p.live_finite and p.shadow_finite)
                   / nullif(sum(p.w) filter (where p.live_finite and p.shadow_finite), 0) as difference,
               min(p.shadow_value) filter (where p.shadow_finite) as s_min,
               max(p.shadow_value) filter (where p.shadow_finite) as s_max,
               sum(p.w * p.shadow_value) filter (where p.shadow_finite)
                   / nullif(sum(p.w) filter (where p.shadow_finite), 0) as s_mean,
               min(p.live_value) filter (where p.live_finite) as l_min,
               max(p.live_value) filter (where p.live_finite) as l_max,
               sum(p.w * p.live_value) filter (where p.live_finite)
                   / nullif(sum(p.w) filter (where p.live_finite), 0) as l_mean,
               coalesce(sum(p.w) filter (where not p.shadow_finite), 0)
                   / nullif(sum(p.w) filter (where p.shadow_value is not null), 0) as s_nan,
               coalesce(sum(p.w) filter (where not p.live_finite), 0)
                   / nullif(sum(p.w) filter (where p.live_value is not null), 0) as l_nan
        from pairs p group by 1
    ),
    classes as (
        select p.deployment_id, k.number, k.label, count(*) as n,
               sum(p.w) / sum(sum(p.w)) over (partition by p.deployment_id, k.number) as share
        from pairs p
        cross join lateral (values ('shadow_class_share', p.shadow_label), ('live_class_share', p.live_label))
            k(number, label)
        where k.label is not null
        group by 1, 2, 3
    ),
    books as (
        select l.deployment, case when l.balanced then 1 when not l.balanced then 0 end::float8 as closes, l.windows,
               v.coverage, v.sampling_fraction
        from report_v1.ledger(signs.stream, signs.deployment, signs.since, signs.until) l
        left join report_v1.coverage(signs.stream, signs.deployment, signs.since, signs.until) v
          on v.deployment = l.deployment
    )
    select c.stream, c.deployment, c.role, x.number, x.part, x.value, coalesce(x.n, 0),
           coalesce(c.problem, case when x.value is null then 'nothing is known of it in this period' else 'ok' end)
    from report_v1.scope(signs.stream, signs.deployment) c
    left join sums s using (deployment_id)
    left join books b on b.deployment = c.deployment
    left join lateral (
        select v.number, '' as part, v.value, v.n
        from (values ('captures_per_second', case when c.problem is null then coalesce(s.rate, 0) end, s.n),
                     ('agreement', coalesce(s.agreed, 0) / nullif(s.comparable, 0), s.comparable_n),
                     ('shadow_error_rate', s.failed / s.w, s.n), ('live_error_rate', s.live_failed / s.w, s.n),
                     ('value_difference', s.difference, s.n),
                     ('shadow_value_min', s.s_min, s.n), ('shadow_value_max', s.s_max, s.n),
                     ('shadow_value_mean', s.s_mean, s.n), ('live_value_min', s.l_min, s.n),
                     ('live_value_max', s.l_max, s.n), ('live_value_mean', s.l_mean, s.n),
                     ('shadow_nan_share', s.s_nan, s.n), ('live_nan_share', s.l_nan, s.n),
                     ('sampling_fraction', b.sampling_fraction, b.windows), ('coverage', b.coverage, b.windows),
                     ('ledger_closes', b.closes, b.windows)) v(number, value, n)
        union all
        select k.number, k.label, k.share, k.n from classes k where k.deployment_id = c.deployment_id) x on true
    order by c.role, c.deployment, x.number, x.part
$$;
