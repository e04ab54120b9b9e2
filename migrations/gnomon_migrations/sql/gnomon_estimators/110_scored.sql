-- Every metric of quality on the pairs of one horizon, computed from them. If labels, answers and the stream's
-- declaration do not fit together, there is no number, and the status gives the reason (label_fit).
create function gnomon_estimators.scored(stream text, deployment text, since timestamptz, until timestamptz, segment jsonb,
                                 horizon interval, slices text[], time_zone text, ids integer[] default '{}',
                                 shares float8[] default '{}', versions boolean default null)
    returns table (deployment_id integer, slice text, value text, metric text, side text, n bigint, n_effective float8,
                   weight float8, clusters bigint, days bigint, estimate float8, se_row float8, se_cluster float8,
                   se_day float8, standard_error float8, low float8, high float8, status text, se_period float8,
                   period_low float8, period_high float8)
    language sql stable parallel safe as
$$
    with estimated as materialized (
        select * from gnomon_estimators.estimates(
            scored.stream, scored.deployment, scored.since, scored.until, scored.segment, scored.slices,
            '{label_coverage,answered,accuracy,precision,recall,f1,log_loss,brier,rmse,mae,ndcg@10}', scored.horizon,
            scored.time_zone, true, scored.ids, scored.shares, scored.versions)
        where n > 0
    ),
    -- The other nine of NDCG only if there are lists, because every requested metric costs time for each pair.
    ranked as materialized (
        select x.* from (select from estimated e where e.metric = 'ndcg@10' limit 1) lists
        cross join lateral gnomon_estimators.estimates(
            scored.stream, scored.deployment, scored.since, scored.until, scored.segment, scored.slices, '{ndcg}',
            scored.horizon, scored.time_zone, true, scored.ids, scored.shares, scored.versions) x
        where x.n > 0
    ),
    measured as (
    select d.deployment_id, e.slice, e.value, e.metric, e.side, e.n, e.n_effective, e.weight, e.clusters, e.days, e.estimate,
           e.se_row, e.se_cluster, e.se_day, e.standard_error, e.low, e.high, e.status, e.se_period, e.period_low,
           e.period_high
    from (select * from estimated union all select * from ranked) e
    join gnomon_estimators.deployments d on d.stream = e.stream and d.deployment = e.deployment
    union all
    select a.deployment_id, a.slice, a.value, 'auc', a.side, a.n, a.n_effective, a.weight, a.clusters, a.days, a.estimate,
           a.se_row, a.se_cluster, a.se_day, a.standard_error, a.low, a.high, a.status, a.se_period, a.period_low,
           a.period_high
    from gnomon_estimators.auc(scored.stream, scored.deployment, scored.since, scored.until, scored.segment, scored.horizon,
                       scored.time_zone, scored.slices, scored.ids, scored.shares, scored.versions) a
    ),
    fit as materialized (
        select * from gnomon_estimators.label_fit(scored.stream, scored.deployment, scored.since, scored.until,
                                                  scored.segment, scored.horizon, scored.ids, scored.shares,
                                                  scored.versions)
    ),
    judged as (
        select m.*, case when m.metric in ('label_coverage', 'answered', 'answered_by_both') then null
                         when f.problem is not null then f.problem
                         when m.metric in ('accuracy', 'precision', 'recall', 'f1')
                              -- from scores by class, if there are no probabilities of the positive one
                              or m.metric = 'log_loss'
                                 and not exists (select from measured b where b.deployment_id = m.deployment_id
                                                 and b.slice = m.slice and b.value = m.value and b.metric = 'brier')
                         then f.mismatch end as fault,
               case when m.metric in ('label_coverage', 'answered', 'answered_by_both') then null
                    else f.remark end as remark
        from measured m
        left join fit f using (deployment_id)
    )
    select j.deployment_id, j.slice, j.value, j.metric, j.side, j.n, j.n_effective, j.weight, j.clusters, j.days,
           case when j.fault is null then j.estimate end, case when j.fault is null then j.se_row end,
           case when j.fault is null then j.se_cluster end, case when j.fault is null then j.se_day end,
           case when j.fault is null then j.standard_error end, case when j.fault is null then j.low end,
           case when j.fault is null then j.high end,
           coalesce(j.fault, nullif(concat_ws('; ', j.remark, nullif(j.status, 'ok')), ''), 'ok'),
           case when j.fault is null then j.se_period end, case when j.fault is null then j.period_low end,
           case when j.fault is null then j.period_high end
    from judged j
    union all
    -- A problem is reported even if it leaves no metric.
    select f.deployment_id, scored.slices[1], '', 'task', 'pair', 0, null, null, null, null, null, null, null, null, null, null, null,
           f.problem, null, null, null
    from fit f where f.problem is not null
$$;
