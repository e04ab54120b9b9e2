-- Live decision against shadow decision: every pair with two labels falls into one cell.
create function report_v1.confusion(stream text, deployment text default null, since timestamptz default null,
                                    until timestamptz default null, segment jsonb default null,
                                    exact boolean default null)
    returns table (stream text, deployment text, role text, live_label text, shadow_label text, n bigint,
                   weight float8, share float8, status text)
    language sql stable parallel safe as
$$
    with way as materialized (
        select report_v1.takes_sums(confusion.stream, confusion.deployment, confusion.since, confusion.until,
                                    confusion.segment, confusion.exact) as sums),
    cells as (
        select p.deployment_id, p.live_label, p.shadow_label, count(*) as n, sum(p.weight) as weight
        from report_v1.pairs_of(confusion.stream, confusion.deployment, confusion.since, confusion.until,
                                confusion.segment) p
        where p.comparable and p.live_label is not null and not (select sums from way)
        group by p.deployment_id, p.live_label, p.shadow_label
        union all
        select r.deployment_id, r.live_label, r.shadow_label, sum(r.pairs)::bigint, sum(r.weight)
        from report_v1.rollup_labels r
        where r.deployment_id = any (report_v1.deployment_ids(confusion.stream, confusion.deployment))
          and r.hour >= coalesce(confusion.since, '-infinity') and r.hour < coalesce(confusion.until, 'infinity')
          and (select sums from way)
        group by r.deployment_id, r.live_label, r.shadow_label)
    select c.stream, c.deployment, c.role, x.live_label, x.shadow_label, coalesce(x.n, 0), x.weight,
           x.weight / sum(x.weight) over (partition by c.deployment_id),
           coalesce(c.problem, case when x.n is null then 'no pair with two labels in this period' else 'ok' end)
    from report_v1.scope(confusion.stream, confusion.deployment) c
    left join cells x using (deployment_id)
    order by c.role, c.deployment, x.live_label, x.shadow_label
$$;

-- Cohen's kappa of the two decisions. Its residual for a pair with live class b and shadow class a is
-- [1(a=b) - p_o - (1-κ)(p_live(a) + p_shadow(b) - 2 p_e)] / (1 - p_e) (Fleiss, Cohen and Everitt 1969).
create function report_v1.kappa(stream text, deployment text default null, since timestamptz default null,
                                until timestamptz default null, segment jsonb default null,
                                time_zone text default 'UTC', exact boolean default null)
    returns table (deployment_id integer, n bigint, kappa float8, se_row float8, se_cluster float8, se_day float8,
                   standard_error float8, low float8, high float8, status text)
    language sql stable parallel safe set work_mem = '64MB' set enable_sort = off set enable_incremental_sort = off as
$$
    -- The residual of a pair depends on its two labels alone, so cells by cluster and cells by day say all of it. The
    -- rollups have cells by day alone; then the design effect of the kept cohort stands for the clusters.
    with way as materialized (
        select report_v1.takes_sums(kappa.stream, kappa.deployment, kappa.since, kappa.until, kappa.segment,
                                    kappa.exact) as sums),
    said as not materialized (
        -- `offset`, as a text: otherwise the planner expects as many days as moments, too many for workers to share.
        select p.*
        from (select q.deployment_id, q.live_label as b, q.shadow_label as a, q.cluster,
                     (q.event_time at time zone kappa.time_zone)::date as day, q.weight as w
              from report_v1.pairs_of(kappa.stream, kappa.deployment, kappa.since, kappa.until, kappa.segment) q
              where q.comparable and q.live_label is not null offset '0') p
        where not (select sums from way)
    ),
    cells as materialized (
        select deployment_id, b, a, cluster, null::date as day, true as by_cluster, count(*) as n, sum(w) as w,
               sum(w * w) as w2
        from said s group by deployment_id, b, a, cluster
        union all
        select deployment_id, b, a, null, day, false, count(*), sum(w), sum(w * w)
        from said s group by deployment_id, b, a, day
        union all
        select r.deployment_id, r.live_label, r.shadow_label, null, (r.hour at time zone kappa.time_zone)::date, false,
               sum(r.pairs), sum(r.weight), sum(r.weight_squared)
        from report_v1.rollup_labels r
        where r.deployment_id = any (report_v1.deployment_ids(kappa.stream, kappa.deployment))
          and r.hour >= coalesce(kappa.since, '-infinity') and r.hour < coalesce(kappa.until, 'infinity')
          and (select sums from way)
        group by 1, 2, 3, 5
    ),
    days as (select * from cells where not by_cluster),
    totals as (select deployment_id, sum(n)::bigint as n, sum(w) as w, sum(w) filter (where a = b) / sum(w) as p_o
               from days group by deployment_id),
    live as (select deployment_id, b as class, sum(c.w) / min(t.w) as p
             from days c join totals t using (deployment_id) group by 1, 2),
    shadow as (select deployment_id, a as class, sum(c.w) / min(t.w) as p
               from days c join totals t using (deployment_id) group by 1, 2),
    chance as (select t.deployment_id, t.n, t.w, coalesce(t.p_o, 0) as p_o,
                      (select coalesce(sum(l.p * s.p), 0) from live l join shadow s using (deployment_id, class)
                       where l.deployment_id = t.deployment_id) as p_e
               from totals t),
    estimate as (select *, (p_o - p_e) / nullif(1 - p_e, 0) as kappa from chance),
    residuals as (
        select c.deployment_id, c.cluster, c.day, c.by_cluster, sum(c.w * z.z) as total, sum(c.w2 * z.z * z.z) as rows
        from cells c
        join estimate e using (deployment_id)
        left join live l on l.deployment_id = c.deployment_id and l.class = c.a
        left join shadow s on s.deployment_id = c.deployment_id and s.class = c.b
        cross join lateral (select ((c.a = c.b)::integer - e.p_o
                                    - (1 - e.kappa) * (coalesce(l.p, 0) + coalesce(s.p, 0) - 2 * e.p_e))
                                   / nullif((1 - e.p_e) * e.w, 0) as z) z
        group by 1, 2, 3, 4
    ),
    variances as (
        select deployment_id, sum(rows) filter (where not by_cluster) as v_row,
               sum(case when cluster is null then rows else total ^ 2 end) filter (where by_cluster) as v_cluster,
               case when count(*) filter (where not by_cluster) > 1
                    then sum(total ^ 2) filter (where not by_cluster) end as v_day
        from residuals group by deployment_id
    )
    select e.deployment_id, e.n, e.kappa, sqrt(v.v_row), sqrt(c.v_cluster), sqrt(v.v_day), s.error,
           -- greatest() and least() pass over a null: nothing would become -1 and 1.
           case when e.kappa is not null then greatest(e.kappa - 1.959964 * s.error, -1) end,
           case when e.kappa is not null then least(e.kappa + 1.959964 * s.error, 1) end,
           case when e.kappa is null then 'one class only' else 'ok' end
    from estimate e
    join variances v using (deployment_id)
    left join report_v1.cluster_effects k
        on k.deployment_id = e.deployment_id and k.metric = 'kappa' and (select sums from way)
    cross join lateral (select coalesce(v.v_cluster, report_v1.by_cluster(v.v_row, k.effect, e.n, k.n)) as v_cluster) c
    cross join lateral (select sqrt(coalesce(c.v_cluster, v.v_row) + coalesce(v.v_day, 0)) as error) s
$$;

-- How often live and shadow answer alike, by deployment.
create function report_v1.agreement(stream text, deployment text default null, since timestamptz default null,
                                    until timestamptz default null, segment jsonb default null,
                                    time_zone text default 'UTC', exact boolean default null)
    returns table (stream text, deployment text, role text, n bigint, n_effective float8, weight float8,
                   agreement float8, se_row float8, se_cluster float8, se_day float8, standard_error float8,
                   low float8, high float8, kappa float8, kappa_se float8, kappa_low float8, kappa_high float8,
                   mean_difference float8, mean_difference_se float8, mean_absolute_difference float8,
                   mean_absolute_difference_se float8, not_comparable bigint, interval_by text,
                   status text)
    language sql stable parallel safe as
$$
    -- Time-outs are a share of all pairs, so that metric counts them without reading them once more.
    with estimated as materialized (
        select * from report_v1.estimates(agreement.stream, agreement.deployment, agreement.since, agreement.until,
                                          agreement.segment, 'all',
                                          '{agreement,value_difference,absolute_difference,timed_out}', null,
                                          agreement.time_zone, agreement.exact))
    select c.stream, c.deployment, c.role, coalesce(a.n, 0), a.n_effective, a.weight, a.estimate, a.se_row,
           a.se_cluster, a.se_day, a.standard_error, a.low, a.high, k.kappa, k.standard_error, k.low, k.high,
           v.estimate, v.standard_error, d.estimate, d.standard_error, coalesce(e.n, 0) - coalesce(a.n, 0),
           a.interval_by,
           coalesce(c.problem, case when coalesce(e.n, 0) = 0 then 'no pair in this period'
                                    when coalesce(a.n, 0) = 0 then 'no comparable pair in this period'
                                    when k.status <> 'ok' then k.status || ', so no kappa'
                                    else 'ok' end)
    from report_v1.scope(agreement.stream, agreement.deployment) c
    left join estimated a on a.deployment = c.deployment and a.metric = 'agreement' and a.side = 'pair'
    left join estimated v on v.deployment = c.deployment and v.metric = 'value_difference' and v.side = 'pair'
    left join estimated d on d.deployment = c.deployment and d.metric = 'absolute_difference' and d.side = 'pair'
    left join estimated e on e.deployment = c.deployment and e.metric = 'timed_out'
    left join report_v1.kappa(agreement.stream, agreement.deployment, agreement.since, agreement.until,
                              agreement.segment, agreement.time_zone, agreement.exact) k on k.deployment_id = c.deployment_id
    order by c.role, c.deployment
$$;
