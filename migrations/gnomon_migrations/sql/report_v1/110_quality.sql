-- Quality against the truth, by horizon: the metrics of both sides on the requests whose labels are mature, and the
-- difference with its three standard errors. Only metrics that the labels allow are listed: decisions give accuracy,
-- precision, recall and F1, probabilities log loss (clipped to [1e-6, 1 - 1e-6]), Brier score and AUC, numbers RMSE and
-- MAE, ranked lists NDCG at 1, 3, 5, 10 and 20 by linear and by exponential gain. answered: the share of requests that
-- each side, and both, answered; the other metrics compare those that both answered.
create function report_v1.quality(stream text, deployment text default null, since timestamptz default null,
                                  until timestamptz default null, segment jsonb default null,
                                  horizon interval default null, slice text default 'all',
                                  time_zone text default 'UTC', exact boolean default null)
    returns table (stream text, deployment text, role text, horizon interval, cohort_until timestamptz,
                   sealed boolean, slice text, value text, metric text, side text, n bigint, n_effective float8,
                   weight float8, clusters bigint, days bigint, estimate float8, se_row float8, se_cluster float8,
                   se_day float8, standard_error float8, low float8, high float8, status text,
                   se_period float8, period_low float8, period_high float8, read_share float8)
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
    -- For whole sealed cohorts the stored results, for everything else the pairs.
    kept as (
        select e.* from report_v1.cohort_estimates e
        where e.report = 'quality' and quality.since is null and quality.until is null and quality.segment is null and quality.slice = 'all'
          and quality.time_zone = 'UTC'
    ),
    wanting as (
        select h.horizon from horizons h
        where exists (select from gnomon_estimators.scope(quality.stream, quality.deployment) c
                      where c.deployment_id is not null
                        and not exists (select from kept k where k.deployment_id = c.deployment_id
                                                             and k.horizon = h.horizon))
    ),
    shares as materialized (
        select t.*, gnomon_estimators.versions_in(quality.stream, quality.deployment, quality.since,
                                                  quality.until) as versions
        from (select from wanting limit 1) w
        cross join lateral gnomon_estimators.shares(quality.stream, quality.deployment, quality.since, quality.until,
                                                    quality.segment, quality.exact) t
    ),
    computed as materialized (
        select w.horizon, s.*
        from wanting w
        cross join shares t
        cross join lateral gnomon_estimators.scored(quality.stream, quality.deployment, quality.since, quality.until,
                                            quality.segment, w.horizon, array[quality.slice],
                                            quality.time_zone, t.ids, t.shares, t.versions) s
    ),
    measured as (
        select * from computed
        union all
        select k.horizon, k.deployment_id, 'all', '', k.metric, k.side, k.n, k.n_effective, k.weight, k.clusters, k.days,
               k.estimate, k.se_row, k.se_cluster, k.se_day, k.standard_error, k.low, k.high, k.status,
               k.se_period, k.period_low, k.period_high
        from kept k
        join horizons h using (horizon)
        where not exists (select from wanting w where w.horizon = k.horizon)
    ),
    due as (select deployment_id, horizon,
                   bool_or(metric not in ('label_coverage', 'answered', 'answered_by_both')) as labelled,
                   bool_or(metric = 'label_coverage' and estimate > 0) as known
            from measured group by 1, 2)
    select c.stream, c.deployment, c.role, h.horizon, k.until, k.sealed, quality.slice, m.value, m.metric, m.side,
           coalesce(m.n, 0), m.n_effective, m.weight, m.clusters, m.days, m.estimate, m.se_row, m.se_cluster, m.se_day,
           m.standard_error, m.low, m.high,
           coalesce(c.problem,
                    case when k.until is null and exists (select from report_v1.label_progress p
                                                          where p.stream = c.stream and p.watermark is not null)
                         then 'no such horizon on this stream'
                         when m.n is null then gnomon_estimators.immaturity(c.stream, c.deployment_id, h.horizon)
                         when not d.labelled and d.known
                         then 'labels have come, but no request has two answers that fit them: see `report predictions`'
                         when not d.labelled then 'no label has arrived for any of these pairs'
                         else m.status end),
           m.se_period, m.period_low, m.period_high, case when m.n > 0 then gnomon_estimators.share_of(c.deployment_id, t.ids, t.shares) end
    from gnomon_estimators.scope(quality.stream, quality.deployment) c
    left join horizons h on c.problem is null
    left join cohorts k on k.deployment_id = c.deployment_id and k.horizon = h.horizon
    left join measured m on m.deployment_id = c.deployment_id and m.horizon = h.horizon
    left join due d on d.deployment_id = c.deployment_id and d.horizon = h.horizon
    left join shares t on exists (select from wanting w where w.horizon = h.horizon)
    order by c.role, c.deployment, h.horizon, m.value,
             array_position(array['task', 'label_coverage', 'answered', 'answered_by_both', 'accuracy', 'precision',
                                  'recall', 'f1', 'auc', 'log_loss', 'brier',
                                  'rmse', 'mae'] || gnomon_estimators.ndcg_metrics(), m.metric),
             array_position(array['live', 'shadow', 'pair', 'difference'], m.side)
$$;
