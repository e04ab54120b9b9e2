-- Quality against the truth, by horizon: what both sides scored on the requests whose labels have come due, and the
-- difference with its three standard errors side by side. Only what the labels allow is listed: decisions give
-- accuracy, precision and recall, probabilities log loss (clipped to [1e-6, 1 - 1e-6]), Brier score and AUC, numbers
-- RMSE and MAE, ranked lists NDCG.
create function report_v1.quality(stream text, deployment text default null, since timestamptz default null,
                                  until timestamptz default null, segment jsonb default null,
                                  horizon interval default null, slice text default 'all',
                                  time_zone text default 'UTC')
    returns table (stream text, deployment text, role text, horizon interval, cohort_until timestamptz,
                   sealed boolean, slice text, value text, metric text, side text, n bigint, n_effective float8,
                   weight float8, clusters bigint, days bigint, estimate float8, se_row float8, se_cluster float8,
                   se_day float8, standard_error float8, low float8, high float8, status text)
    language sql stable parallel safe as
$$
    with horizons as (
        select h.horizon from report_v1.streams s cross join lateral unnest(s.horizons) h(horizon)
        where s.name = quality.stream and quality.horizon is null
        union
        select quality.horizon where quality.horizon is not null
    ),
    cohorts as (
        select c.deployment_id, c.horizon, max(c.until) as until, bool_and(c.sealed) as sealed
        from report_v1.cohorts c group by 1, 2
    ),
    estimated as materialized (
        select h.horizon, e.*
        from horizons h
        cross join lateral report_v1.estimates(
            quality.stream, quality.deployment, quality.since, quality.until, quality.segment, quality.slice,
            '{label_coverage,accuracy,precision,recall,log_loss,brier,rmse,mae,ndcg@10}', h.horizon,
            quality.time_zone) e
        where e.n > 0
    ),
    areas as materialized (
        select h.horizon, a.*
        from horizons h
        cross join lateral report_v1.auc(quality.stream, quality.deployment, quality.since, quality.until,
                                         quality.segment, h.horizon, quality.time_zone, quality.slice) a
    ),
    measured as (
        select d.deployment_id, e.horizon, e.value, e.metric, e.side, e.n, e.n_effective, e.weight, e.clusters, e.days,
               e.estimate, e.se_row, e.se_cluster, e.se_day, e.standard_error, e.low, e.high, e.status
        from estimated e
        join report_v1.deployments d on d.stream = e.stream and d.deployment = e.deployment
        union all
        select a.deployment_id, a.horizon, a.value, 'auc', a.side, a.n, a.n_effective, a.weight, a.clusters, a.days,
               a.estimate, a.se_row, a.se_cluster, a.se_day, a.standard_error, a.low, a.high, a.status
        from areas a
    ),
    due as (select deployment_id, horizon, bool_or(metric <> 'label_coverage') as labelled
            from measured group by 1, 2)
    select c.stream, c.deployment, c.role, h.horizon, k.until, k.sealed, quality.slice, m.value, m.metric, m.side,
           coalesce(m.n, 0), m.n_effective, m.weight, m.clusters, m.days, m.estimate, m.se_row, m.se_cluster, m.se_day,
           m.standard_error, m.low, m.high,
           coalesce(c.problem,
                    case when k.until is null and exists (select from report_v1.label_progress p
                                                          where p.stream = c.stream and p.watermark is not null)
                         then 'no such horizon on this stream'
                         when k.until is null then 'no labels stored yet'
                         when m.n is null then 'no pair is old enough for this horizon'
                         when not d.labelled then 'no label has come for any of these pairs'
                         else m.status end)
    from report_v1.scope(quality.stream, quality.deployment) c
    left join horizons h on c.problem is null
    left join cohorts k on k.deployment_id = c.deployment_id and k.horizon = h.horizon
    left join measured m on m.deployment_id = c.deployment_id and m.horizon = h.horizon
    left join due d on d.deployment_id = c.deployment_id and d.horizon = h.horizon
    order by c.role, c.deployment, h.horizon, m.value,
             array_position(array['label_coverage', 'accuracy', 'precision', 'recall', 'auc', 'log_loss', 'brier',
                                  'rmse', 'mae', 'ndcg@10'], m.metric),
             array_position(array['live', 'shadow', 'pair', 'difference'], m.side)
$$;
