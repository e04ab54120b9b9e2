-- How much of the traffic the truth has come for, by horizon: labelled in time, negative by absence, late, missing.
-- Pairs too young for the horizon are pending and in no share.
create function report_v1.labels(stream text, deployment text default null, since timestamptz default null,
                                 until timestamptz default null, segment jsonb default null,
                                 horizon interval default null)
    returns table (stream text, deployment text, role text, horizon interval, cohort_until timestamptz,
                   watermark timestamptz, sealed boolean, n bigint, n_effective float8, weight float8,
                   labelled float8, standard_error float8, negative float8, late float8, missing float8,
                   pending bigint, status text)
    language sql stable parallel safe set enable_nestloop = off as
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
    counted as (
        select p.deployment_id, h.horizon, count(*) as n, sum(p.weight) as w,
               sum(p.weight) ^ 2 / sum(p.weight ^ 2) as kish,
               sum(p.weight) filter (where p.label_state = 'labelled') as labelled,
               sum(p.weight ^ 2) filter (where p.label_state = 'labelled') as labelled2, sum(p.weight ^ 2) as w2,
               sum(p.weight) filter (where p.label_state = 'negative') as negative,
               sum(p.weight) filter (where p.label_state = 'late') as late,
               sum(p.weight) filter (where p.label_state = 'missing') as missing
        from horizons h
        cross join lateral report_v1.labelled(labels.stream, labels.deployment, labels.since, labels.until,
                                              labels.segment, h.horizon) p
        group by 1, 2
    ),
    ages as (
        select p.deployment_id, k.horizon, count(*) as pending
        from report_v1.pairs_of(labels.stream, labels.deployment, labels.since, labels.until, labels.segment) p
        join cohorts k on k.deployment_id = p.deployment_id and p.event_time >= k.until
        group by 1, 2
    )
    select c.stream, c.deployment, c.role, h.horizon, k.until, k.watermark, k.sealed, coalesce(x.n, 0), x.kish, x.w,
           s.labelled, sqrt(x.labelled2 * (1 - s.labelled) ^ 2 + (x.w2 - coalesce(x.labelled2, 0)) * s.labelled ^ 2) / x.w,
           coalesce(x.negative, 0) / x.w, coalesce(x.late, 0) / x.w, coalesce(x.missing, 0) / x.w,
           coalesce(a.pending, 0),
           coalesce(c.problem, case when k.until is null then 'no labels stored yet'
                                    when x.n is null then 'no pair is old enough for this horizon'
                                    when s.labelled = 0 and x.negative is null
                                    then 'no label has come for any of these pairs'
                                    else 'ok' end)
    from report_v1.scope(labels.stream, labels.deployment) c
    left join horizons h on c.problem is null
    left join cohorts k on k.deployment_id = c.deployment_id and k.horizon = h.horizon
    left join counted x on x.deployment_id = c.deployment_id and x.horizon = h.horizon
    left join ages a on a.deployment_id = c.deployment_id and a.horizon = h.horizon
    left join lateral (select coalesce(x.labelled, 0) / x.w as labelled) s on true
    order by c.role, c.deployment, h.horizon
$$;

-- Label coverage of each (live decision, shadow decision): where live said no and the shadow says yes the truth may
-- never come, and no verdict may rest on that cell.
create function report_v1.label_cells(stream text, deployment text default null, since timestamptz default null,
                                      until timestamptz default null, segment jsonb default null,
                                      horizon interval default '1 day')
    returns table (stream text, deployment text, role text, horizon interval, live_label text, shadow_label text,
                   n bigint, weight float8, labelled float8, status text)
    language sql stable parallel safe set enable_nestloop = off as
$$
    with counted as (
        select p.deployment_id, p.live_label, p.shadow_label, count(*) as n, sum(p.weight) as w,
               coalesce(sum(p.weight) filter (where p.label_state in ('labelled', 'negative')), 0) as labelled
        from report_v1.labelled(label_cells.stream, label_cells.deployment, label_cells.since, label_cells.until,
                                label_cells.segment, label_cells.horizon) p
        group by 1, 2, 3)
    select c.stream, c.deployment, c.role, label_cells.horizon, x.live_label, x.shadow_label, coalesce(x.n, 0), x.w,
           x.labelled / x.w,
           coalesce(c.problem, case when x.n is null then 'no pair is old enough for this horizon' else 'ok' end)
    from report_v1.scope(label_cells.stream, label_cells.deployment) c
    left join counted x using (deployment_id)
    order by c.role, c.deployment, x.live_label, x.shadow_label
$$;

-- Kaplan and Meier's (1958) curve of label delay: the weighted share of requests whose first label came within a delay,
-- those without one censored at the watermark. Delays are rounded up to `step`.
create function report_v1.label_delay(stream text, deployment text default null, since timestamptz default null,
                                      until timestamptz default null, step interval default '1 hour')
    returns table (stream text, deployment text, role text, delay interval, at_risk float8, arrived float8,
                   share_arrived float8, status text)
    language sql stable parallel safe as
$$
    with said as (
        select p.deployment_id, p.weight as w, l.observed_at is not null as came,
               ceil(extract(epoch from greatest(coalesce(l.observed_at, g.watermark) - p.event_time, '0'))
                    / extract(epoch from label_delay.step)) as steps
        from report_v1.pairs_of(label_delay.stream, label_delay.deployment, label_delay.since, label_delay.until,
                                null) p
        join report_v1.label_progress g using (stream_id)
        left join lateral (select min(v.observed_at) as observed_at from report_v1.label_versions v
                           where v.stream_id = p.stream_id and v.request_id = p.request_id
                             and v.observed_at <= g.watermark) l on true
        where g.watermark is not null and p.event_time < g.watermark
    ),
    counted as (select deployment_id, steps, sum(w) as w, coalesce(sum(w) filter (where came), 0) as came
                from said group by 1, 2),
    risk as (select *, sum(w) over (partition by deployment_id order by steps desc) as at_risk from counted),
    curve as (
        select *, 1 - exp(sum(ln(greatest(1 - came / at_risk, 1e-300)))
                          over (partition by deployment_id order by steps)) as share from risk)
    select c.stream, c.deployment, c.role, k.steps * label_delay.step, k.at_risk, k.came, k.share,
           coalesce(c.problem, case when k.steps is null then 'no labels stored yet' else 'ok' end)
    from report_v1.scope(label_delay.stream, label_delay.deployment) c
    left join curve k on k.deployment_id = c.deployment_id and k.came > 0
    order by c.role, c.deployment, k.steps
$$;
