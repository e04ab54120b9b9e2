-- The share of the traffic whose truth has arrived, by horizon: labelled in time, negative by absence, late, missing.
-- Pairs too young for the horizon are pending and in no share. low, high: the labelled share for days like these.
-- early: pairs whose label was observed before the capture, which cannot be true: a wrong zone or unit, or an id used
-- twice.
create function report_v1.labels(stream text, deployment text default null, since timestamptz default null,
                                 until timestamptz default null, segment jsonb default null,
                                 horizon interval default null)
    returns table (stream text, deployment text, role text, horizon interval, cohort_until timestamptz,
                   watermark timestamptz, sealed boolean, n bigint, n_effective float8, weight float8,
                   labelled float8, standard_error float8, negative float8, late float8, missing float8,
                   pending bigint, status text, clusters bigint, days bigint, low float8, high float8, early bigint)
    language sql stable parallel safe set enable_nestloop = off as -- planner note 6
$$
    with horizons as (
        select h.horizon from report_v1.streams s cross join lateral unnest(s.horizons) h(horizon)
        where s.name = labels.stream and labels.horizon is null
        union
        select labels.horizon where labels.horizon is not null
    ),
    cohorts as (
        select c.deployment_id, c.horizon, max(c.until) as until, max(c.watermark) as watermark,
               bool_and(c.sealed) as sealed
        from report_v1.cohorts c group by 1, 2
    ),
    crossed as materialized (
        select p.deployment_id, h.horizon, p.cluster, (p.event_time at time zone 'UTC')::date as day, count(*) as n,
               sum(p.weight) as w, sum(p.weight ^ 2) as w2,
               coalesce(sum(p.weight) filter (where p.label_state = 'labelled'), 0) as labelled,
               coalesce(sum(p.weight ^ 2) filter (where p.label_state = 'labelled'), 0) as labelled2,
               sum(p.weight) filter (where p.label_state = 'negative') as negative,
               sum(p.weight) filter (where p.label_state = 'late') as late,
               sum(p.weight) filter (where p.label_state = 'missing') as missing,
               count(*) filter (where p.observed_at < p.event_time) as early
        from horizons h
        cross join lateral gnomon_estimators.labelled(labels.stream, labels.deployment, labels.since, labels.until,
                                              labels.segment, h.horizon) p
        group by 1, 2, 3, 4
    ),
    counted as (
        select deployment_id, horizon, sum(n)::bigint as n, sum(w) as w, sum(w) ^ 2 / sum(w2) as kish,
               sum(labelled) as labelled, sum(negative) as negative, sum(late) as late, sum(missing) as missing,
               sum(early)::bigint as early
        from crossed group by 1, 2
    ),
    residuals as (
        select x.deployment_id, x.horizon, x.cluster, x.day, x.n, (x.labelled - s.share * x.w) / c.w as total,
               (x.labelled2 * (1 - s.share) ^ 2 + (x.w2 - x.labelled2) * s.share ^ 2) / c.w ^ 2 as rows
        from crossed x
        join counted c using (deployment_id, horizon)
        cross join lateral (select c.labelled / c.w as share) s
    ),
    -- By cluster (a row without one is its own cluster), by day, and by cluster within day.
    groups as (
        select deployment_id, horizon, 'both' as by, cluster is null as alone, n, total, rows from residuals
        union all
        select deployment_id, horizon, 'cluster', cluster is null, sum(n), sum(total), sum(rows)
        from residuals group by deployment_id, horizon, cluster
        union all
        select deployment_id, horizon, 'day', false, sum(n), sum(total), sum(rows)
        from residuals group by deployment_id, horizon, day
    ),
    variances as (
        select deployment_id, horizon, sum(rows) filter (where by = 'day') as v_row,
               sum(case when alone then rows else total ^ 2 end) filter (where by = 'cluster') as v_cluster,
               sum(total ^ 2) filter (where by = 'day') as v_day, count(*) filter (where by = 'day') as days,
               sum(case when alone then rows else total ^ 2 end) filter (where by = 'both') as v_both,
               sum(case when alone then n else 1 end) filter (where by = 'both')::bigint as cells,
               sum(case when alone then n else 1 end) filter (where by = 'cluster')::bigint as clusters
        from groups group by 1, 2
    ),
    ages as (
        select p.deployment_id, k.horizon, count(*) as pending
        from gnomon_estimators.pairs_of(labels.stream, labels.deployment, labels.since, labels.until, labels.segment) p
        join cohorts k on k.deployment_id = p.deployment_id and p.event_time >= k.until
        group by 1, 2
    )
    select c.stream, c.deployment, c.role, h.horizon, k.until, k.watermark, k.sealed, coalesce(x.n, 0), x.kish, x.w,
           s.labelled, b.standard_error,
           coalesce(x.negative, 0) / x.w, coalesce(x.late, 0) / x.w, coalesce(x.missing, 0) / x.w,
           case when x.n is not null or a.pending is not null then coalesce(a.pending, 0) end,
           coalesce(c.problem, case when x.n is null
                                    then gnomon_estimators.immaturity(c.stream, c.deployment_id, h.horizon)
                                    when s.labelled = 0 and x.negative is null
                                    then 'no label has arrived for any of these pairs'
                                    when x.early > 0
                                    then format('%s labels were observed before their capture: wrong zone or unit of'
                                                ' time, or an id used twice', x.early)
                                    else b.status end),
           v.clusters, v.days, b.low, b.high, x.early
    from gnomon_estimators.scope(labels.stream, labels.deployment) c
    left join horizons h on c.problem is null
    left join cohorts k on k.deployment_id = c.deployment_id and k.horizon = h.horizon
    left join counted x on x.deployment_id = c.deployment_id and x.horizon = h.horizon
    left join ages a on a.deployment_id = c.deployment_id and a.horizon = h.horizon
    left join lateral (select coalesce(x.labelled, 0) / x.w as labelled) s on true
    left join variances v on v.deployment_id = c.deployment_id and v.horizon = h.horizon
    left join lateral gnomon_estimators.bounded('share', s.labelled, v.v_row, v.v_cluster, v.v_day, v.v_both, x.n,
                                                v.clusters, v.days, v.cells, x.kish) b on x.n is not null
    order by c.role, c.deployment, h.horizon
$$;

-- Label coverage of each (live decision, shadow decision): if live decides no and the shadow yes, the truth may never
-- arrive, and no verdict may rest on that cell.
create function report_v1.label_cells(stream text, deployment text default null, since timestamptz default null,
                                      until timestamptz default null, segment jsonb default null,
                                      horizon interval default '1 day')
    returns table (stream text, deployment text, role text, horizon interval, live_label text, shadow_label text,
                   n bigint, weight float8, labelled float8, status text)
    language sql stable parallel safe set enable_nestloop = off as -- planner note 6
$$
    with counted as (
        select p.deployment_id, p.live_label, p.shadow_label, count(*) as n, sum(p.weight) as w,
               coalesce(sum(p.weight) filter (where p.label_state in ('labelled', 'negative')), 0) as labelled
        from gnomon_estimators.labelled(label_cells.stream, label_cells.deployment, label_cells.since, label_cells.until,
                                label_cells.segment, label_cells.horizon) p
        group by 1, 2, 3)
    select c.stream, c.deployment, c.role, label_cells.horizon, x.live_label, x.shadow_label, coalesce(x.n, 0), x.w,
           x.labelled / x.w,
           coalesce(c.problem,
                    case when x.n is null
                         then gnomon_estimators.immaturity(c.stream, c.deployment_id, label_cells.horizon)
                         else 'ok' end)
    from gnomon_estimators.scope(label_cells.stream, label_cells.deployment) c
    left join counted x using (deployment_id)
    order by c.role, c.deployment, x.live_label, x.shadow_label
$$;

-- Kaplan and Meier's (1958) curve of label delay: the weighted share of requests whose first label arrived within a delay;
-- requests without a label are censored at the watermark. The curve is computed from the exact delays and read at whole
-- steps; each step shows the weight at risk at its beginning and the weight that arrived within it. low, high: days like
-- these, on the scale of log(-log S) (Kalbfleisch and Prentice 2002, 1.4). The residual of log S(t) of a request with delay
-- x is w (G(min(x, t)) - 1[it arrived by t] / (r - d)), G = Σ d / (r (r - d)) Greenwood's sum, r at risk and d arrived at
-- x; its squares are summed by row, by 100 groups of whole clusters and by day.
create function report_v1.label_delay(stream text, deployment text default null, since timestamptz default null,
                                      until timestamptz default null, step interval default '1 hour',
                                      exact boolean default null)
    returns table (stream text, deployment text, role text, delay interval, at_risk float8, arrived float8,
                   share_arrived float8, status text, low float8, high float8, read_share float8)
    language sql stable parallel safe set work_mem = '128MB' set jit = off
    set enable_nestloop = off as -- planner notes 2, 5, 6
$$
    with shares as materialized (
        select t.* from gnomon_estimators.shares(label_delay.stream, label_delay.deployment, label_delay.since,
                                                 label_delay.until, null, label_delay.exact) t
    ),
    said as materialized (
        select p.deployment_id, p.weight / r.share as w, (p.event_time at time zone 'UTC')::date as day,
               abs(hashtextextended(coalesce('c' || p.cluster,
                                             'r' || p.source_partition || ':' || p.source_offset), 0) % 100)::integer
                   as bucket,
               l.observed_at is not null as came,
               extract(epoch from greatest(coalesce(l.observed_at, g.watermark) - p.event_time, '0'))::float8 as seconds
        from gnomon_estimators.pairs_of(label_delay.stream, label_delay.deployment, label_delay.since, label_delay.until,
                                null) p
        join report_v1.label_progress g using (stream_id)
        cross join lateral (select gnomon_estimators.share_of(p.deployment_id, (select ids from shares),
                                                              (select shares from shares)) as share) r
        left join lateral (select min(v.observed_at) as observed_at from report_v1.label_versions v
                           where v.stream_id = p.stream_id and v.request_id = p.request_id
                             and v.observed_at <= g.watermark) l on true
        where g.watermark is not null and p.event_time < g.watermark
          and gnomon_estimators.within_share(p.request_id, r.share)
    ),
    counted as (select deployment_id, seconds, sum(w) as w, coalesce(sum(w) filter (where came), 0) as came
                from said group by 1, 2),
    risk as (select *, sum(w) over (partition by deployment_id order by seconds desc) as at_risk from counted),
    curve as materialized (
        select deployment_id, seconds, came, at_risk, sum(ln(greatest(1 - came / at_risk, 1e-300))) over in_time as log_left,
               sum(came / at_risk / nullif(at_risk - came, 0)) over in_time as greenwood,
               ceil(seconds / extract(epoch from label_delay.step)::float8) as steps
        from risk window in_time as (partition by deployment_id order by seconds)
    ),
    read_off as (
        select deployment_id, steps, max(at_risk) as at_risk, sum(came) as came, min(log_left) as log_left,
               max(greenwood) as greenwood
        from curve group by 1, 2
    ),
    placed as (
        select s.deployment_id, s.bucket, s.day, c.steps, s.w,
               s.w * (coalesce(c.greenwood, 0) - case when s.came then 1 / nullif(c.at_risk - c.came, 0) else 0 end) as a
        from said s join curve c using (deployment_id, seconds)
    ),
    -- a: the residuals of the requests whose delay is in this step; w: their weight. A request at risk after a step has the
    -- residual w G there.
    parts as materialized (
        select deployment_id, bucket, day, steps, count(*) as n, sum(a) as a, sum(w) as w, sum(a * a) as a2, sum(w * w) as w2
        from placed group by 1, 2, 3, 4
    ),
    groups as (
        select deployment_id, true as by_cluster, bucket as one, steps, sum(a) as a, sum(w) as w
        from parts group by deployment_id, bucket, steps
        union all
        select deployment_id, false, day - date '2000-01-01', steps, sum(a), sum(w) from parts group by deployment_id, day, steps
    ),
    -- Of a group up to a step: residuals of what has arrived (a1, before the step a0), and the weight left (b1, b0).
    moved as (
        select deployment_id, by_cluster, one, steps, sum(a) over up as a1, sum(a) over up - a as a0,
               sum(w) over (partition by deployment_id, by_cluster, one) - sum(w) over up as b1,
               sum(w) over (partition by deployment_id, by_cluster, one) - sum(w) over up + w as b0
        from groups window up as (partition by deployment_id, by_cluster, one order by steps)
    ),
    steps as (
        select deployment_id, by_cluster, steps, sum(a1 * a1 - a0 * a0) as aa, sum(a1 * b1 - a0 * b0) as ab,
               sum(b1 * b1 - b0 * b0) as bb
        from moved group by 1, 2, 3
    ),
    wholes as (
        select deployment_id, sum(n)::bigint as n, sum(w2) as w2, count(distinct bucket) as clusters, count(distinct day) as days
        from parts group by 1
    ),
    squared as (
        select m.deployment_id, m.by_cluster, m.steps, sum(m.aa) over up as aa, sum(m.ab) over up as ab,
               sum(m.bb) over up - sum(m.bb) over (partition by m.deployment_id, m.by_cluster) as bb
        from steps m window up as (partition by m.deployment_id, m.by_cluster order by m.steps)
    ),
    by_row as (
        select deployment_id, steps, sum(sum(a2)) over up as aa, sum(sum(w2)) over up as w2
        from parts group by deployment_id, steps window up as (partition by deployment_id order by steps)
    ),
    variances as (
        select k.deployment_id, k.steps, w.clusters, w.days, s.variance, s.t
        from read_off k
        join wholes w using (deployment_id)
        join by_row r using (deployment_id, steps)
        join squared c on c.deployment_id = k.deployment_id and c.steps = k.steps and c.by_cluster
        join squared d on d.deployment_id = k.deployment_id and d.steps = k.steps and not d.by_cluster
        cross join lateral gnomon_estimators.spread(
            r.aa + k.greenwood ^ 2 * greatest(w.w2 - r.w2, 0), greatest(c.aa + 2 * k.greenwood * c.ab + k.greenwood ^ 2 * c.bb, 0),
            greatest(d.aa + 2 * k.greenwood * d.ab + k.greenwood ^ 2 * d.bb, 0), null, w.n, w.clusters, w.days, null) s
    )
    select c.stream, c.deployment, c.role, k.steps * label_delay.step, k.at_risk, k.came, 1 - exp(k.log_left),
           coalesce(c.problem,
                    case when k.steps is not null then gnomon_estimators.footing(v.clusters, v.days, i.half)
                         when c.deployment_id in (select s.deployment_id from said s)
                         then 'no label has arrived for any of these pairs'
                         else gnomon_estimators.immaturity(c.stream, c.deployment_id, '0') end),
           1 - exp(k.log_left * exp(-i.half)), 1 - exp(k.log_left * exp(i.half)),
           case when k.steps is not null then gnomon_estimators.share_of(c.deployment_id, t.ids, t.shares) end
    from gnomon_estimators.scope(label_delay.stream, label_delay.deployment) c
    cross join shares t
    left join read_off k on k.deployment_id = c.deployment_id and k.came > 0
    left join variances v on v.deployment_id = k.deployment_id and v.steps = k.steps
    -- If nothing is left at risk, the curve has reached 1 and has no variance.
    left join lateral (select v.t * sqrt(v.variance) / -k.log_left as half
                       where k.log_left between -600 and -1e-12 and v.variance > 1e-26) i on true
    order by c.role, c.deployment, k.steps
$$;
