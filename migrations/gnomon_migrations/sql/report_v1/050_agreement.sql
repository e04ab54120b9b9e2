-- Live decision against shadow decision: every pair with two labels falls into one cell.
create function report_v1.confusion(stream text, deployment text default null, since timestamptz default null,
                                    until timestamptz default null, segment jsonb default null,
                                    exact boolean default null)
    returns table (stream text, deployment text, role text, live_label text, shadow_label text, n bigint,
                   weight float8, share float8, status text)
    language sql stable parallel safe as
$$
    with way as materialized (
        select gnomon_estimators.takes_sums(confusion.stream, confusion.deployment, confusion.since, confusion.until,
                                    confusion.segment, confusion.exact) as sums),
    cells as (
        select p.deployment_id, p.live_label, p.shadow_label, count(*) as n, sum(p.weight) as weight
        from gnomon_estimators.pairs_of(confusion.stream, confusion.deployment, confusion.since, confusion.until,
                                confusion.segment) p
        where p.comparable and p.live_label is not null and not (select sums from way)
        group by p.deployment_id, p.live_label, p.shadow_label
        union all
        select r.deployment_id, r.live_label, r.shadow_label, sum(r.pairs)::bigint, sum(r.weight)
        from report_v1.rollup_labels r
        where r.deployment_id = any (gnomon_estimators.deployment_ids(confusion.stream, confusion.deployment))
          and r.hour >= coalesce(confusion.since, '-infinity') and r.hour < coalesce(confusion.until, 'infinity')
          and (select sums from way)
        group by r.deployment_id, r.live_label, r.shadow_label)
    select c.stream, c.deployment, c.role, x.live_label, x.shadow_label, coalesce(x.n, 0), x.weight,
           x.weight / sum(x.weight) over (partition by c.deployment_id),
           coalesce(c.problem, case when x.n is null then 'no pair with two labels in this period' else 'ok' end)
    from gnomon_estimators.scope(confusion.stream, confusion.deployment) c
    left join cells x using (deployment_id)
    order by c.role, c.deployment, x.live_label, x.shadow_label
$$;

-- How often live and shadow give the same answer, by deployment. low and high, also of kappa and of the mean
-- difference, are for days like these; period_low and period_high are for this period, where sampling is the only
-- error. drawn: of a deployment with more pairs than `read_at_most` only about that many are read, unless the rollups
-- answer.
create function report_v1.agreement(stream text, deployment text default null, since timestamptz default null,
                                    until timestamptz default null, segment jsonb default null,
                                    time_zone text default 'UTC', exact boolean default null,
                                    drawn boolean default null)
    returns table (stream text, deployment text, role text, n bigint, n_effective float8, weight float8,
                   agreement float8, se_row float8, se_cluster float8, se_day float8, standard_error float8,
                   low float8, high float8, kappa float8, kappa_se float8, kappa_low float8, kappa_high float8,
                   mean_difference float8, mean_difference_se float8, mean_absolute_difference float8,
                   mean_absolute_difference_se float8, not_comparable bigint, interval_by text,
                   status text, mean_difference_low float8, mean_difference_high float8, se_period float8,
                   period_low float8, period_high float8, mean_absolute_difference_low float8,
                   mean_absolute_difference_high float8, compares text, kappa_se_period float8,
                   kappa_period_low float8, kappa_period_high float8, read_share float8)
    language sql stable parallel safe as
$$
    with shares as materialized (
        select t.* from gnomon_estimators.shares_if(agreement.drawn, agreement.stream, agreement.deployment,
                                                    agreement.since, agreement.until, agreement.segment,
                                                    agreement.exact) t
    ),
    -- Time-outs are a share of all pairs, so that metric counts the pairs without a second scan.
    estimated as materialized (
        select e.*
        from gnomon_estimators.estimates(agreement.stream, agreement.deployment, agreement.since, agreement.until,
                                         agreement.segment, '{all}',
                                         '{agreement,value_difference,absolute_difference,timed_out}', null,
                                         agreement.time_zone, agreement.exact, (select ids from shares),
                                         (select shares from shares)) e)
    select c.stream, c.deployment, c.role, coalesce(a.n, 0), a.n_effective, a.weight, a.estimate, a.se_row,
           a.se_cluster, a.se_day, a.standard_error, a.low, a.high, k.kappa, k.standard_error, k.low, k.high,
           v.estimate, v.standard_error, d.estimate, d.standard_error, nullif(e.n, 0) - coalesce(a.n, 0),
           a.interval_by,
           coalesce(c.problem, case when coalesce(e.n, 0) = 0 then 'no pair in this period'
                                    when coalesce(a.n, 0) = 0 then 'no comparable pair in this period'
                                    when k.n > 0 and k.kappa is null then k.status || ', so no kappa'
                                    when o.compares = 'values' then v.status
                                    else a.status end),
           v.low, v.high, a.se_period, a.period_low, a.period_high, d.low, d.high, o.compares, k.se_period, k.period_low,
           k.period_high, case when e.n > 0 then gnomon_estimators.share_of(c.deployment_id, t.ids, t.shares) end
    from gnomon_estimators.scope(agreement.stream, agreement.deployment) c
    cross join shares t
    left join estimated a on a.deployment = c.deployment and a.metric = 'agreement' and a.side = 'pair'
    left join estimated v on v.deployment = c.deployment and v.metric = 'value_difference' and v.side = 'pair'
    left join estimated d on d.deployment = c.deployment and d.metric = 'absolute_difference' and d.side = 'pair'
    left join estimated e on e.deployment = c.deployment and e.metric = 'timed_out'
    left join gnomon_estimators.kappa(agreement.stream, agreement.deployment, agreement.since, agreement.until,
                              agreement.segment, agreement.time_zone, agreement.exact, (select ids from shares),
                              (select shares from shares)) k on k.deployment_id = c.deployment_id
    left join lateral gnomon_estimators.compares(c.deployment_id) o on true
    order by c.role, c.deployment
$$;
