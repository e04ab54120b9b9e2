-- Is a probability of 0.3 followed by the event three times in ten? Bins of equal weight for each side (tied scores
-- stay together), with the mean probability (confidence) and the share of events (observed) of each.
create function report_v1.calibration_bins(stream text, deployment text, since timestamptz, until timestamptz,
                                           segment jsonb, horizon interval, bins integer)
    returns table (deployment_id integer, side text, bin integer, bucket integer, low float8, high float8, n bigint,
                   w float8, w2 float8, wp float8, wy float8)
    language sql stable parallel safe set plan_cache_mode = force_custom_plan set work_mem = '64MB'
    set enable_nestloop = off as
$$
    with said as materialized (
        select p.deployment_id, v.side, v.p, p.truth_value as y, p.weight as w,
               -- One of 100 groups for the jackknife: a cluster stays whole.
               abs(hashtextextended(coalesce('c' || p.cluster,
                                             'r' || p.source_partition || ':' || p.source_offset), 0) % 100)::integer
                   as bucket
        from report_v1.labelled(calibration_bins.stream, calibration_bins.deployment, calibration_bins.since,
                                calibration_bins.until, calibration_bins.segment, calibration_bins.horizon) p
        cross join lateral (values ('live', p.live_value), ('shadow', p.shadow_value)) v(side, p)
        where p.truth_value in (0, 1) and p.live_label is not null and p.shadow_label is not null
          and p.live_value between 0 and 1 and p.shadow_value between 0 and 1
    ),
    scores as (
        select deployment_id, side, p, least(floor(calibration_bins.bins
                   * (sum(sum(w)) over (partition by deployment_id, side order by p) - sum(w) / 2)
                   / sum(sum(w)) over (partition by deployment_id, side)), calibration_bins.bins - 1)::integer + 1 as bin
        from said group by 1, 2, 3
    )
    select s.deployment_id, s.side, b.bin, s.bucket, min(s.p), max(s.p), count(*), sum(s.w), sum(s.w * s.w),
           sum(s.w * s.p), sum(s.w * s.y)
    from said s
    join scores b using (deployment_id, side, p)
    group by 1, 2, 3, 4
$$;

create function report_v1.calibration(stream text, deployment text default null, since timestamptz default null,
                                      until timestamptz default null, segment jsonb default null,
                                      horizon interval default '1 day', bins integer default 10)
    returns table (stream text, deployment text, role text, horizon interval, side text, bin integer,
                   score_low float8, score_high float8, n bigint, n_effective float8, weight float8,
                   confidence float8, observed float8, standard_error float8, low float8, high float8,
                   status text)
    language sql stable parallel safe as
$$
    with parts as materialized (
        select * from report_v1.calibration_bins(calibration.stream, calibration.deployment, calibration.since,
                                                 calibration.until, calibration.segment, calibration.horizon,
                                                 calibration.bins)),
    wholes as (
        select deployment_id, side, bin, min(low) as score_low, max(high) as score_high, sum(n)::bigint as n, sum(w) as w,
               sum(w) ^ 2 / sum(w2) as kish, sum(wp) / sum(w) as confidence, sum(wy) / sum(w) as observed
        from parts group by 1, 2, 3),
    -- By the 100 groups, each a union of clusters: z = y - observed.
    variances as (
        select deployment_id, side, bin, sum(((p.wy - t.observed * p.w) / t.w) ^ 2) as v, count(*) as groups
        from parts p join wholes t using (deployment_id, side, bin) group by 1, 2, 3)
    select c.stream, c.deployment, c.role, calibration.horizon, t.side, t.bin, t.score_low, t.score_high,
           coalesce(t.n, 0), t.kish, t.w, t.confidence, t.observed, sqrt(v.v), i.low, i.high,
           coalesce(c.problem, case when t.n is null then 'no labelled probability for this horizon' else 'ok' end)
    from report_v1.scope(calibration.stream, calibration.deployment) c
    left join wholes t using (deployment_id)
    left join variances v using (deployment_id, side, bin)
    left join lateral report_v1.share_interval(t.observed, v.v, t.kish) i on t.n is not null
    order by c.role, c.deployment, t.side, t.bin
$$;

-- Expected calibration error of both sides, Σ (W_b / W) |observed - confidence|. It is biased upward (noise has no
-- sign in it). Its standard error is a delete-a-group jackknife over 100 groups of whole clusters, bins held fixed.
create function report_v1.calibration_error(stream text, deployment text default null,
                                            since timestamptz default null, until timestamptz default null,
                                            segment jsonb default null, horizon interval default '1 day',
                                            bins integer default 10)
    returns table (stream text, deployment text, role text, horizon interval, side text, n bigint, bins integer,
                   estimate float8, standard_error float8, low float8, high float8, status text)
    language sql stable parallel safe as
$$
    with parts as materialized (
        select * from report_v1.calibration_bins(calibration_error.stream, calibration_error.deployment,
                                                 calibration_error.since, calibration_error.until,
                                                 calibration_error.segment, calibration_error.horizon,
                                                 calibration_error.bins)),
    wholes as (select deployment_id, side, bin, sum(n) as n, sum(w) as w, sum(wy - wp) as excess
               from parts group by 1, 2, 3),
    errors as (select deployment_id, side, sum(n)::bigint as n, count(*)::integer as bins,
                      sum(abs(excess)) / sum(w) as ece
               from wholes group by 1, 2),
    groups as (select distinct deployment_id, side, bucket from parts),
    left_out as (
        select g.deployment_id, g.side, g.bucket,
               sum(abs(t.excess - coalesce(p.wy - p.wp, 0))) / nullif(sum(t.w - coalesce(p.w, 0)), 0) as ece
        from groups g
        join wholes t using (deployment_id, side)
        left join parts p using (deployment_id, side, bin, bucket)
        group by 1, 2, 3),
    spread as (
        select l.deployment_id, l.side,
               (count(*) - 1) * var_pop(l.ece) as v
        from left_out l group by 1, 2)
    select c.stream, c.deployment, c.role, calibration_error.horizon, e.side, coalesce(e.n, 0), e.bins, e.ece, sqrt(s.v),
           -- greatest() passes over a null: nothing would become 0.
           case when e.ece is not null then greatest(e.ece - 1.959964 * sqrt(s.v), 0) end, e.ece + 1.959964 * sqrt(s.v),
           coalesce(c.problem, case when e.n is null then 'no labelled probability for this horizon' else 'ok' end)
    from report_v1.scope(calibration_error.stream, calibration_error.deployment) c
    left join errors e using (deployment_id)
    left join spread s using (deployment_id, side)
    order by c.role, c.deployment, e.side
$$;
