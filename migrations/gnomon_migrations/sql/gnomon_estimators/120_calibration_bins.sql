-- Does the event follow a probability of 0.3 three times in ten? Bins of equal weight for each side (tied scores stay
-- together), with the mean probability (confidence) and the share of events (observed) of each.
create function gnomon_estimators.calibration_bins(stream text, deployment text, since timestamptz, until timestamptz,
                                           segment jsonb, horizon interval, bins integer, exact boolean)
    returns table (deployment_id integer, side text, bin integer, bucket integer, day date, low float8, high float8, n bigint,
                   w float8, w2 float8, wp float8, wy float8)
    -- planner notes 5, 6, 11
    language sql stable parallel safe set plan_cache_mode = force_custom_plan set work_mem = '64MB'
    set enable_nestloop = off as
$$
    with thinned as materialized (
        select coalesce(array_agg(t.deployment_id), '{}') as ids, coalesce(array_agg(t.share), '{}') as shares
        from gnomon_estimators.thinned(calibration_bins.stream, calibration_bins.deployment, calibration_bins.since,
                                       calibration_bins.until, calibration_bins.segment, calibration_bins.exact) t
    ),
    answers as materialized (
        select p.deployment_id, v.side, gnomon_estimators.probability(v.p) as p, p.truth_value as y, p.weight / s.share as w,
               (p.event_time at time zone 'UTC')::date as day,
               -- One of 100 groups for the jackknife: a cluster stays whole.
               abs(hashtextextended(coalesce('c' || p.cluster,
                                             'r' || p.source_partition || ':' || p.source_offset), 0) % 100)::integer
                   as bucket
        from gnomon_estimators.labelled(calibration_bins.stream, calibration_bins.deployment, calibration_bins.since,
                                calibration_bins.until, calibration_bins.segment, calibration_bins.horizon) p
        cross join lateral (values ('live', gnomon_estimators.flushed(p.live_value)),
                                   ('shadow', gnomon_estimators.flushed(p.shadow_value))) v(side, p)
        cross join lateral (select gnomon_estimators.share_of(p.deployment_id, (select ids from thinned),
                                                              (select shares from thinned)) as share) s
        where gnomon_estimators.within_share(p.request_id, s.share) and p.truth_value in (0, 1) and p.live_error_kind is null and p.outcome = 'scored'
          and (p.live_label is not null and p.shadow_label is not null or p.task = 'binary')
          and p.task is distinct from 'multiclass' and p.live_value > '-infinity' and p.live_value < 'infinity'
          and p.shadow_value > '-infinity' and p.shadow_value < 'infinity'
    ),
    -- A side with one value that is not a probability has no bins.
    said as (select a.* from answers a
             join (select deployment_id, side from answers group by 1, 2 having max(p) < 'NaN') fine
                 using (deployment_id, side)),
    scores as (
        select deployment_id, side, p, least(floor(calibration_bins.bins
                   * (sum(sum(w)) over (partition by deployment_id, side order by p) - sum(w) / 2)
                   / sum(sum(w)) over (partition by deployment_id, side)), calibration_bins.bins - 1)::integer + 1 as bin
        from said group by 1, 2, 3
    )
    select s.deployment_id, s.side, b.bin, s.bucket, s.day, min(s.p), max(s.p), count(*), sum(s.w), sum(s.w * s.w),
           sum(s.w * s.p), sum(s.w * s.y)
    from said s
    join scores b using (deployment_id, side, p)
    group by 1, 2, 3, 4, 5
$$;

-- Variances of Σ r over parts of a bin, by bucket (a union of whole clusters), by day and by both.
create function gnomon_estimators.bin_spread(totals float8[], buckets integer[], days date[], out variance float8,
                                             out t float8, out groups bigint, out days_seen bigint)
    language sql immutable parallel safe as
$$
    with parts as (select * from unnest(bin_spread.totals, bin_spread.buckets, bin_spread.days) p(r, bucket, day)),
         by_bucket as (select sum(r) as r from parts group by bucket),
         by_day as (select sum(r) as r from parts group by day),
         sums as (select (select sum(r ^ 2) from by_bucket) as c, (select count(*) from by_bucket) as groups,
                         (select sum(r ^ 2) from by_day) as d, (select count(*) from by_day) as days,
                         sum(r ^ 2) as b, count(*) as cells
                  from parts)
    select s.variance, s.t, t.groups, t.days
    from sums t cross join lateral gnomon_estimators.spread(t.b, t.c, t.d, t.b, null, t.groups, t.days, t.cells) s
$$;
