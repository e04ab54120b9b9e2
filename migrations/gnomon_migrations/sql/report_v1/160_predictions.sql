-- The answers of both sides, whatever the truth: range, mean, rate an hour, and the share of each class. not_finite
-- counts NaN, infinity and numbers beyond 1e70, which no other number includes. A row with a label is that class alone;
-- a row without one is the whole side.
create function report_v1.predictions(stream text, deployment text default null, since timestamptz default null,
                                      until timestamptz default null, segment jsonb default null)
    returns table (stream text, deployment text, role text, side text, label text, n bigint, n_effective float8,
                   weight float8, share float8, share_low float8, share_high float8, lowest float8, highest float8,
                   mean float8, deviation float8, not_finite bigint, per_hour float8, status text)
    language sql stable parallel safe set work_mem = '64MB' as -- planner note 5
$$
    -- Squares are summed around one of the side's own values, which lies near the others.
    with near as materialized (
        select d.deployment_id, v.side,
               (select gnomon_estimators.flushed(case v.side when 'live' then q.live_value else q.shadow_value end)
                from gnomon_estimators.pairs q
                where q.deployment_id = d.deployment_id
                  and case v.side when 'live' then q.live_value > -1e70 and q.live_value < 1e70 and q.live_error_kind is null
                                  else q.shadow_value > -1e70 and q.shadow_value < 1e70 and q.outcome = 'scored' end
                order by q.event_time desc limit 1) as value
        from gnomon_estimators.deployments d
        cross join (values ('live'), ('shadow')) v(side)
        where d.stream = predictions.stream and (predictions.deployment is null or d.deployment = predictions.deployment)
    ),
    said as (
        select p.deployment_id, v.side, v.label, grouping(v.label) = 1 as whole, count(*) as n, sum(p.weight) as w,
               sum(p.weight) ^ 2 / sum(p.weight * p.weight) as kish, sum(p.weight * p.weight) as w2,
               min(v.value) filter (where f.finite) as lowest, max(v.value) filter (where f.finite) as highest,
               sum(p.weight * gnomon_estimators.flushed(v.value)) filter (where f.finite)
                   / nullif(sum(p.weight) filter (where f.finite), 0) as mean,
               sqrt(greatest(
                   sum(p.weight * gnomon_estimators.square(f.off)) filter (where f.finite)
                       / nullif(sum(p.weight) filter (where f.finite), 0)
                   - gnomon_estimators.square(sum(p.weight * f.off) filter (where f.finite)
                                              / nullif(sum(p.weight) filter (where f.finite), 0)),
                   0)) as deviation,
               count(*) filter (where not f.finite) as not_finite, min(p.event_time) as first_at,
               max(p.event_time) as last_at
        from gnomon_estimators.pairs_of(predictions.stream, predictions.deployment, predictions.since, predictions.until,
                                predictions.segment) p
        cross join lateral (values ('live', p.live_label, p.live_value, p.live_error_kind is null),
                                   ('shadow', p.shadow_label, p.shadow_value, p.outcome = 'scored')
                           ) v(side, label, value, answered)
        left join near c on c.deployment_id = p.deployment_id and c.side = v.side
        cross join lateral (select v.value > -1e70 and v.value < 1e70 as finite,
                                   gnomon_estimators.flushed(gnomon_estimators.flushed(v.value) - c.value) as off) f
        where v.answered
        group by grouping sets ((p.deployment_id, v.side), (p.deployment_id, v.side, v.label))
    ),
    placed as (
        select s.*, s.w / t.w as share,
               (s.w2 * (1 - s.w / t.w) ^ 2 + (t.w2 - s.w2) * (s.w / t.w) ^ 2) / t.w ^ 2 as v, t.kish as kish_all,
               t.w / nullif(extract(epoch from t.last_at - t.first_at) / 3600, 0)::float8 as per_hour
        from said s
        join said t on t.deployment_id = s.deployment_id and t.side = s.side and t.whole
        where s.whole or s.label is not null
    )
    select c.stream, c.deployment, c.role, p.side, p.label, coalesce(p.n, 0), p.kish, p.w, p.share, i.low, i.high, p.lowest,
           p.highest, p.mean, p.deviation, p.not_finite, case when p.whole then p.per_hour end,
           coalesce(c.problem, case when p.n is null then 'no answer in this period' else 'ok' end)
    from gnomon_estimators.scope(predictions.stream, predictions.deployment) c
    left join placed p using (deployment_id)
    left join lateral gnomon_estimators.share_interval(p.share, p.v, p.kish_all, null, null) i on not p.whole
    order by c.role, c.deployment, p.side, p.label nulls first
$$;
