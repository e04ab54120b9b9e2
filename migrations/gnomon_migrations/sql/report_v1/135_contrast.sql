-- A challenger against the control, or against another challenger, on the requests that both scored: the mean
-- difference of each metric, first minus second, request by request, with its 95% interval. If the two do not have the
-- same sample (replay --like creates one), a request is weighted by the smaller of its two probabilities, which is
-- correct for samples with one seed over similar windows, and the status reports the share of the first's requests that
-- both have.
create function report_v1.contrast(stream text, deployment text default null, since timestamptz default null,
                                   until timestamptz default null, segment jsonb default null,
                                   against text default null, horizon interval default '1 day',
                                   time_zone text default 'UTC')
    returns table (stream text, deployment text, role text, against text, metric text, n bigint, n_effective float8,
                   weight float8, clusters bigint, days bigint, first float8, second float8, difference float8,
                   se_row float8, se_cluster float8, se_day float8, standard_error float8, low float8, high float8,
                   status text)
    language sql stable parallel safe set enable_nestloop = off as -- planner note 6
$$
    with couples as (
        select a.deployment_id as id, a.deployment, a.role, b.deployment_id as other_id, b.deployment as other
        from gnomon_estimators.deployments a
        join gnomon_estimators.deployments b on b.stream = a.stream and b.deployment_id <> a.deployment_id
        where a.stream = contrast.stream and (contrast.deployment is null or a.deployment = contrast.deployment)
          and case when contrast.against is null then b.role = 'control' and a.role is distinct from 'control'
                   else b.deployment = contrast.against end
    ),
    seconds as materialized (
        select p.* from gnomon_estimators.pairs_of(contrast.stream, null, contrast.since, contrast.until,
                                                   contrast.segment) p
        where p.deployment_id in (select other_id from couples)
    ),
    truths as materialized (
        select l.deployment_id, l.source_partition, l.source_offset, l.event_time, l.truth_label, l.truth_value
        from gnomon_estimators.labelled(contrast.stream, contrast.deployment, contrast.since, contrast.until,
                                        contrast.segment, contrast.horizon) l
        where l.known and l.deployment_id in (select id from couples)
    ),
    firsts as (select p.* from gnomon_estimators.pairs_of(contrast.stream, contrast.deployment, contrast.since,
                                                          contrast.until, contrast.segment) p
               where p.deployment_id in (select id from couples)),
    shared as materialized (
        select c.id, c.other_id, a.cluster, (a.event_time at time zone contrast.time_zone)::date as day,
               greatest(a.weight, b.weight) as w, a.outcome = 'scored' and b.outcome = 'scored'
                                                  and a.live_error_kind is null as answered,
               a.outcome <> 'scored' as a_failed, b.outcome <> 'scored' as b_failed, a.agrees as a_agrees,
               b.agrees as b_agrees, a.live_value as live, a.shadow_value as a_value, b.shadow_value as b_value,
               a.shadow_label as a_label, b.shadow_label as b_label, t.truth_label, t.truth_value
        from couples c
        join firsts a on a.deployment_id = c.id
        join seconds b on b.deployment_id = c.other_id and b.source_partition = a.source_partition
                      and b.source_offset = a.source_offset and b.event_time = a.event_time
        left join truths t on t.deployment_id = c.id and t.source_partition = a.source_partition
                          and t.source_offset = a.source_offset and t.event_time = a.event_time
    ),
    sizes as (
        select c.id, c.other_id, coalesce(o.n, 0) as own, coalesce(s.n, 0) as both
        from couples c
        left join (select deployment_id as id, count(*) as n from firsts group by 1) o using (id)
        left join (select id, other_id, count(*) as n from shared group by 1, 2) s using (id, other_id)
    ),
    measured as materialized (
        select s.id, s.other_id, s.cluster, s.day, s.w, m.metric, m.x, m.y
        from shared s
        cross join lateral (select s.live > -1e70 and s.live < 1e70 and s.a_value > -1e70 and s.a_value < 1e70
                                   and s.b_value > -1e70 and s.b_value < 1e70 as finite) f
        cross join lateral (values
            ('error', s.a_failed::integer::float8, s.b_failed::integer::float8),
            ('agreement', s.a_agrees::integer, s.b_agrees::integer),
            ('absolute_difference', case when s.answered and f.finite then abs(gnomon_estimators.flushed(s.a_value - s.live)) end,
             case when s.answered and f.finite then abs(gnomon_estimators.flushed(s.b_value - s.live)) end),
            ('accuracy', case when s.answered then (s.a_label = s.truth_label)::integer end,
             case when s.answered then (s.b_label = s.truth_label)::integer end),
            ('absolute_error', case when s.answered and f.finite and s.a_label is null and s.b_label is null
                                         and s.truth_value > -1e70 and s.truth_value < 1e70
                                    then abs(gnomon_estimators.flushed(s.a_value - s.truth_value)) end,
             case when s.answered and f.finite and s.a_label is null and s.b_label is null
                       and s.truth_value > -1e70 and s.truth_value < 1e70
                  then abs(gnomon_estimators.flushed(s.b_value - s.truth_value)) end),
            ('brier', case when s.answered and s.a_label is not null and s.truth_value in (0, 1)
                           then gnomon_estimators.flushed(gnomon_estimators.probability(s.a_value) - s.truth_value) ^ 2 end,
             case when s.answered and s.b_label is not null and s.truth_value in (0, 1)
                  then gnomon_estimators.flushed(gnomon_estimators.probability(s.b_value) - s.truth_value) ^ 2 end)) m(metric, x, y)
        where m.x is not null and m.y is not null
    ),
    totals as (
        select id, other_id, metric, count(*) as n, sum(w) as w, sum(w) ^ 2 / sum(w * w) as kish,
               sum(w * x) / sum(w) as x, sum(w * y) / sum(w) as y, sum(w * (x - y)) / sum(w) as d,
               count(distinct cluster) + count(*) filter (where cluster is null) as clusters,
               count(distinct day) as days
        from measured group by 1, 2, 3
    ),
    crossed as (
        select m.id, m.other_id, m.metric, m.cluster, m.day, count(*) as n, sum(z.z) as total, sum(z.z * z.z) as rows
        from measured m
        join totals t using (id, other_id, metric)
        cross join lateral (select m.w * (m.x - m.y - t.d) / t.w as z) z
        group by 1, 2, 3, 4, 5
    ),
    groups as (
        select id, other_id, metric, 'both' as by, cluster is null as alone, n, total, rows from crossed
        union all
        select id, other_id, metric, 'cluster', cluster is null, sum(n), sum(total), sum(rows)
        from crossed group by id, other_id, metric, cluster
        union all
        select id, other_id, metric, 'day', false, sum(n), sum(total), sum(rows) from crossed group by id, other_id, metric, day
    ),
    variances as (
        select id, other_id, metric, sum(rows) filter (where by = 'day') as v_row,
               sum(case when alone then rows else total ^ 2 end) filter (where by = 'cluster') as v_cluster,
               sum(total ^ 2) filter (where by = 'day') as v_day,
               sum(case when alone then rows else total ^ 2 end) filter (where by = 'both') as v_both,
               sum(case when alone then n else 1 end) filter (where by = 'both')::bigint as cells
        from groups group by 1, 2, 3
    ),
    fit as materialized (
        select f.deployment_id, coalesce(f.problem, f.mismatch) as fault
        from gnomon_estimators.label_fit(contrast.stream, contrast.deployment, contrast.since, contrast.until,
                                         contrast.segment, contrast.horizon) f
    )
    select contrast.stream, c.deployment, c.role, c.other, t.metric, coalesce(t.n, 0), t.kish, t.w, t.clusters, t.days,
           case when e.fault is null then t.x end, case when e.fault is null then t.y end,
           case when e.fault is null then t.d end, b.se_row, b.se_cluster, b.se_day, b.standard_error, b.low, b.high,
           case when e.fault is not null then e.fault
                when t.metric is null then 'no request was scored by both in this period'
                when z.both < 0.99 * z.own
                then concat_ws('; ', format('the two share %s%% of these requests: use replay --like',
                                            round(100.0 * z.both / z.own, 1)), nullif(b.status, 'ok'))
                else b.status end
    from couples c
    join sizes z on z.id = c.id and z.other_id = c.other_id
    left join totals t on t.id = c.id and t.other_id = c.other_id
    left join variances v on v.id = t.id and v.other_id = t.other_id and v.metric = t.metric
    left join fit f on f.deployment_id = c.id
    cross join lateral (select case when t.metric in ('accuracy', 'brier', 'absolute_error')
                                    then coalesce(f.fault, case when t.d = 'NaN' then gnomon_estimators.no_probabilities()
                                                           end) end as fault) e
    left join lateral gnomon_estimators.bounded('mean', t.d, v.v_row, v.v_cluster, v.v_day, v.v_both, t.n, t.clusters,
                                                t.days, v.cells, t.kish) b on t.metric is not null and e.fault is null
    union all
    select s.stream, s.deployment, s.role, contrast.against, null, 0, null, null, null, null, null, null, null, null, null,
           null, null, null, null,
           coalesce(s.problem, case when contrast.against is null then 'there is no control on this stream'
                                    else 'nothing to compare with: name another deployment (against)' end)
    from gnomon_estimators.scope(contrast.stream, contrast.deployment) s
    where not exists (select from couples)
    order by 3, 2, 4, 5
$$;
