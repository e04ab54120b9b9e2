-- Every run of a live service, with what was received from it. A run ended uncleanly if it is not closed, and neither a
-- heartbeat nor a capture has arrived for a minute.
create function report_v1.producers(stream text, deployment text default null)
    returns table (stream text, deployment text, role text, producer_id uuid, service text, host text, pid integer,
                   started_at timestamptz, reported_at timestamptz, closed boolean, offered bigint, delivered bigint,
                   dropped bigint, received bigint, missing bigint, tail bigint, repeated bigint, status text)
    language sql stable parallel safe as
$$
    select c.stream, c.deployment, c.role, p.producer_id, p.service, p.host, p.pid, p.started_at, p.reported_at, p.closed,
           p.offered, p.delivered, p.dropped, p.received, p.missing, p.tail, p.repeated,
           coalesce(c.problem, case when p.producer_id is null then 'nothing received from any producer'
                                    when p.reported_at is null then 'received, but it never reported'
                                    when not p.closed
                                         and greatest(p.reported_at, p.last_captured_at) < now() - interval '1 minute'
                                    then 'unclean: not closed, its tail is unknown'
                                    when p.missing > 0 or p.tail > 0 then 'captures were lost'
                                    else 'ok' end)
    from gnomon_estimators.scope(producers.stream, producers.deployment) c
    left join report_v1.producer_runs p using (deployment_id)
    order by c.role, c.deployment, p.started_at, p.producer_id
$$;

-- The cost of scoring: CPU and memory of the workers from the ledger, service time and queue from the pairs.
create function report_v1.resources(stream text, deployment text default null, since timestamptz default null,
                                    until timestamptz default null)
    returns table (stream text, deployment text, role text, windows bigint, n bigint, cpu_seconds float8,
                   cpu_us_per_row float8, peak_rss_bytes bigint, gpu_seconds float8, gpu_peak_bytes bigint,
                   service_us_mean float8, queued_us_mean float8, queued_us_max bigint, batch_size_mean float8,
                   lag_s_mean float8, lag_s_max float8, status text)
    language sql stable parallel safe as
$$
    with windows as (
        select w.deployment_id, count(*) as windows, sum(w.cpu_us) as cpu_us, max(w.peak_rss_bytes) as rss,
               sum(w.gpu_us) as gpu_us, max(w.gpu_peak_bytes) as gpu, avg(w.lag_s) as lag, max(w.lag_s) as lag_max
        from report_v1.windows w
        where w.deployment_id = any (gnomon_estimators.deployment_ids(resources.stream, resources.deployment))
          and w.at >= coalesce(resources.since, '-infinity') and w.at < coalesce(resources.until, 'infinity')
        group by 1),
    pairs as (
        select p.deployment_id, count(*) as n, avg(p.shadow_latency_us) as service, avg(p.shadow_queued_us) as queued,
               max(p.shadow_queued_us) as queued_max, avg(p.shadow_batch_size) as batch
        from gnomon_estimators.pairs_of(resources.stream, resources.deployment, resources.since, resources.until, null) p
        group by 1)
    select c.stream, c.deployment, c.role, coalesce(w.windows, 0), coalesce(p.n, 0), w.cpu_us / 1e6::float8,
           w.cpu_us / nullif(p.n, 0)::float8, w.rss, w.gpu_us / 1e6::float8, w.gpu, p.service::float8,
           p.queued::float8, p.queued_max, p.batch::float8, w.lag, w.lag_max,
           coalesce(c.problem, case when w.windows is null and p.n is null then 'no window in this period'
                                    when w.cpu_us is null then 'no usage was recorded' else 'ok' end)
    from gnomon_estimators.scope(resources.stream, resources.deployment) c
    left join windows w using (deployment_id)
    left join pairs p using (deployment_id)
    order by c.role, c.deployment
$$;

-- The trend from the rollups, fast at any size; unit hour, day, week, month or all. Rows contain their rates' standard
-- errors by row and, over more than one day, by day; standard errors by cluster need the pairs (`agreement`).
create function report_v1.timeline(stream text, deployment text default null, since timestamptz default null,
                                   until timestamptz default null, unit text default 'day',
                                   time_zone text default 'UTC')
    returns table (stream text, deployment text, role text, at timestamptz, seen bigint, sampled bigint, scored bigint,
                   failed bigint, timed_out bigint, dead_lettered bigint, orphaned bigint, n_effective float8,
                   sampling_fraction float8, agreement float8, agreement_se float8, agreement_low float8,
                   agreement_high float8, error_rate float8, error_rate_se float8, live_error_rate float8,
                   mean_difference float8, status text, compares text)
    language sql stable parallel safe as
$$
    with days as (
        select r.deployment_id,
               -- No null for the total, because only equality can be joined by hash.
               case when timeline.unit = 'all' then '-infinity'
                    else date_trunc(timeline.unit, r.hour, timeline.time_zone) end as at,
               (r.hour at time zone timeline.time_zone)::date as day,
               sum(r.seen) as seen, sum(r.sampled) as sampled, sum(r.scored) as scored, sum(r.failed) as failed,
               sum(r.timed_out) as timed_out, sum(r.dead_lettered) as dead, sum(r.orphaned) as orphaned,
               sum(r.weight) as w, sum(r.weight_squared) as w2,
               sum(r.failed_weight + r.timed_out_weight) as e,
               sum(r.failed_weight_squared + r.timed_out_weight_squared) as e2,
               sum(r.live_failed_weight) as l, sum(r.comparable_weight) as c, sum(r.comparable_weight_squared) as c2,
               sum(r.agreed_weight) as a, sum(r.agreed_weight_squared) as a2, sum(r.value_difference) as d,
               sum(r.value_difference_weight) as dw
        from report_v1.rollups r
        where r.deployment_id = any (gnomon_estimators.deployment_ids(timeline.stream, timeline.deployment))
          and r.hour >= coalesce(timeline.since, '-infinity') and r.hour < coalesce(timeline.until, 'infinity')
        group by 1, 2, 3
    ),
    totals as (
        select deployment_id, at, sum(seen) as seen, sum(sampled) as sampled, sum(scored) as scored, sum(failed) as failed,
               sum(timed_out) as timed_out, sum(dead) as dead, sum(orphaned) as orphaned, sum(w) as w, sum(w2) as w2,
               nullif(sum(c), 0) as c, sum(c2) as c2, sum(a) / nullif(sum(c), 0) as a, sum(a2) as a2,
               sum(e) / nullif(sum(w), 0) as e, sum(e2) as e2, sum(l) / nullif(sum(w), 0) as l,
               sum(d) / nullif(sum(dw), 0) as d, count(*) as days
        from days group by 1, 2
    ),
    shocks as (
        select deployment_id, at, sum(((d.a - t.a * d.c) / t.c) ^ 2) as a,
               sum(((d.e - t.e * d.w) / nullif(t.w, 0)) ^ 2) as e
        from days d
        join totals t using (deployment_id, at)
        group by 1, 2
    )
    select c.stream, c.deployment, c.role, nullif(t.at, '-infinity'), coalesce(t.seen, 0)::bigint, t.sampled::bigint,
           t.scored::bigint, t.failed::bigint, t.timed_out::bigint, t.dead::bigint, t.orphaned::bigint,
           t.w ^ 2 / nullif(t.w2, 0),
           t.sampled / nullif(t.seen, 0)::float8, t.a, sqrt(v.a), i.low, i.high, t.e, sqrt(v.e), t.l, t.d,
           coalesce(c.problem, case when t.seen is null then 'nothing captured in this period'
                                    when t.a is null then 'no comparable pair' else 'ok' end), o.compares
    from gnomon_estimators.scope(timeline.stream, timeline.deployment) c
    left join lateral gnomon_estimators.compares(c.deployment_id) o on true
    left join totals t using (deployment_id)
    left join shocks s using (deployment_id, at)
    left join lateral (
        select (t.a2 * (1 - t.a) ^ 2 + (t.c2 - t.a2) * t.a ^ 2) / t.c ^ 2 as a,
               (t.e2 * (1 - t.e) ^ 2 + (t.w2 - t.e2) * t.e ^ 2) / nullif(t.w, 0) ^ 2 as e) r on true
    -- For an hour or a day, only its rows are uncertain. Several days are for days like these.
    left join lateral gnomon_estimators.spread(r.a, null, s.a, null, null, null, t.days, null) da on true
    left join lateral gnomon_estimators.spread(r.e, null, s.e, null, null, null, t.days, null) de on true
    left join lateral (select case when t.days > 1 then da.variance else r.a end as a,
                              case when t.days > 1 then de.variance else r.e end as e,
                              case when t.days > 1 then da.t end as t) v on true
    left join lateral gnomon_estimators.share_interval(t.a, v.a, t.c ^ 2 / nullif(t.c2, 0), v.t, null) i on t.a is not null
    order by c.role, c.deployment, t.at
$$;
