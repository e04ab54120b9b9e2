create function report_v1.calibration(stream text, deployment text default null, since timestamptz default null,
                                      until timestamptz default null, segment jsonb default null,
                                      horizon interval default '1 day', bins integer default 10, exact boolean default null)
    returns table (stream text, deployment text, role text, horizon interval, side text, bin integer,
                   score_low float8, score_high float8, n bigint, n_effective float8, weight float8,
                   confidence float8, observed float8, standard_error float8, low float8, high float8,
                   status text, read_share float8)
    language sql stable parallel safe as
$$
    with parts as materialized (
        select * from gnomon_estimators.calibration_bins(calibration.stream, calibration.deployment, calibration.since,
                                                 calibration.until, calibration.segment, calibration.horizon,
                                                 calibration.bins, calibration.exact)),
    wholes as (
        select deployment_id, side, bin, min(low) as score_low, max(high) as score_high, sum(n)::bigint as n, sum(w) as w,
               sum(w) ^ 2 / sum(w2) as kish, sum(wp) / sum(w) as confidence, sum(wy) / sum(w) as observed
        from parts group by 1, 2, 3),
    residuals as (
        select p.deployment_id, p.side, p.bin, array_agg((p.wy - t.observed * p.w) / t.w) as r,
               array_agg(p.bucket) as buckets, array_agg(p.day) as days
        from parts p join wholes t using (deployment_id, side, bin) group by 1, 2, 3),
    variances as (
        select a.deployment_id, a.side, a.bin, s.*
        from residuals a cross join lateral gnomon_estimators.bin_spread(a.r, a.buckets, a.days) s)
    select c.stream, c.deployment, c.role, calibration.horizon, t.side, t.bin, t.score_low, t.score_high,
           coalesce(t.n, 0), t.kish, t.w, t.confidence, t.observed, sqrt(v.variance), i.low, i.high,
           coalesce(c.problem, case when t.n is null then 'no labelled probability for this horizon'
                                    else gnomon_estimators.footing(v.groups, v.days_seen, i.low) end),
           case when t.n > 0 then coalesce(r.share, 1) end
    from gnomon_estimators.scope(calibration.stream, calibration.deployment) c
    left join gnomon_estimators.thinned(calibration.stream, calibration.deployment, calibration.since, calibration.until, calibration.segment,
                                        calibration.exact) r using (deployment_id)
    left join wholes t using (deployment_id)
    left join variances v using (deployment_id, side, bin)
    left join lateral gnomon_estimators.share_interval(t.observed, v.variance, t.kish, v.t, v.groups) i on v.variance is not null
    order by c.role, c.deployment, t.side, t.bin
$$;

-- Expected calibration error of both sides, Σ (W_b / W) |observed - confidence|. It is biased upward: noise has no sign
-- in it, and adds up to Σ (W_b / W) sqrt(2/π) se_b if every bin is calibrated. This amount is subtracted from the lower
-- end of the interval, so that it reaches 0 for a calibrated model. The standard error is the larger of two
-- delete-a-group jackknives, over 100 groups of whole clusters and over days, with fixed bins.
create function report_v1.calibration_error(stream text, deployment text default null,
                                            since timestamptz default null, until timestamptz default null,
                                            segment jsonb default null, horizon interval default '1 day',
                                            bins integer default 10, exact boolean default null)
    returns table (stream text, deployment text, role text, horizon interval, side text, n bigint, bins integer,
                   estimate float8, standard_error float8, low float8, high float8, status text, read_share float8)
    language sql stable parallel safe as
$$
    with parts as materialized (
        select * from gnomon_estimators.calibration_bins(calibration_error.stream, calibration_error.deployment,
                                                 calibration_error.since, calibration_error.until,
                                                 calibration_error.segment, calibration_error.horizon,
                                                 calibration_error.bins, calibration_error.exact)),
    wholes as (select deployment_id, side, bin, sum(n) as n, sum(w) as w, sum(wy - wp) as excess
               from parts group by 1, 2, 3),
    errors as (select deployment_id, side, sum(n)::bigint as n, count(*)::integer as bins,
                      sum(abs(excess)) / sum(w) as ece
               from wholes group by 1, 2),
    noise as (
        select a.deployment_id, a.side, sum(a.w * sqrt(2 / pi() * s.variance)) / sum(a.w) as bias
        from (
            select t.deployment_id, t.side, t.bin, t.w, array_agg((p.wy - p.wp - t.excess / t.w * p.w) / t.w) as r,
                   array_agg(p.bucket) as buckets, array_agg(p.day) as days
            from parts p join wholes t using (deployment_id, side, bin) group by 1, 2, 3, 4) a
        cross join lateral gnomon_estimators.bin_spread(a.r, a.buckets, a.days) s
        group by 1, 2),
    pieces as materialized (
        select p.deployment_id, p.side, p.bin, g.by, g.piece, sum(p.w) as w, sum(p.wy - p.wp) as excess
        from parts p
        cross join lateral (values ('cluster', p.bucket::text), ('day', p.day::text)) g(by, piece)
        group by 1, 2, 3, 4, 5),
    groups as (select distinct deployment_id, side, by, piece from pieces),
    left_out as (
        select g.deployment_id, g.side, g.by, g.piece,
               sum(abs(t.excess - coalesce(p.excess, 0))) / nullif(sum(t.w - coalesce(p.w, 0)), 0) as ece
        from groups g
        join wholes t using (deployment_id, side)
        left join pieces p using (deployment_id, side, bin, by, piece)
        group by 1, 2, 3, 4),
    spread as (
        select l.deployment_id, l.side, max(l.v) as v, max(gnomon_estimators.reach(l.n - 1) * sqrt(l.v)) as reach,
               min(l.n) filter (where l.by = 'cluster') as groups, min(l.n) filter (where l.by = 'day') as days
        from (select o.deployment_id, o.side, o.by, (count(*) - 1) * var_pop(o.ece) as v, count(*) as n
              from left_out o group by 1, 2, 3) l
        group by 1, 2)
    select c.stream, c.deployment, c.role, calibration_error.horizon, e.side, coalesce(e.n, 0), e.bins, e.ece, sqrt(s.v),
           case when x.reach is not null then greatest(e.ece - b.bias - x.reach, 0) end, e.ece + x.reach,
           coalesce(c.problem, case when e.n is null then 'no labelled probability for this horizon'
                                    else gnomon_estimators.footing(s.groups, s.days, x.reach) end),
           case when e.n > 0 then coalesce(r.share, 1) end
    from gnomon_estimators.scope(calibration_error.stream, calibration_error.deployment) c
    left join gnomon_estimators.thinned(calibration_error.stream, calibration_error.deployment, calibration_error.since, calibration_error.until, calibration_error.segment,
                                        calibration_error.exact) r using (deployment_id)
    left join errors e using (deployment_id)
    left join noise b using (deployment_id, side)
    left join lateral (select s.* from spread s where s.deployment_id = e.deployment_id and s.side = e.side
                       ) s on true
    left join lateral (select s.reach where s.groups > 1 and s.days > 1 and s.v > 1e-26) x on true
    order by c.role, c.deployment, e.side
$$;
