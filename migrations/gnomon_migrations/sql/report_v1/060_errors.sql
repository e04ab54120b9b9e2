-- The errors of both sides: each side's rate, their difference, and the four cells of live × shadow. low, high: for days
-- like these. period_low, period_high: for this period. drawn: as in `agreement`.
create function report_v1.errors(stream text, deployment text default null, since timestamptz default null,
                                 until timestamptz default null, segment jsonb default null,
                                 time_zone text default 'UTC', exact boolean default null,
                                 drawn boolean default null)
    returns table (stream text, deployment text, role text, metric text, side text, n bigint, n_effective float8,
                   weight float8, rate float8, se_row float8, se_cluster float8, se_day float8,
                   standard_error float8, low float8, high float8, interval_by text, status text, se_period float8,
                   period_low float8, period_high float8, read_share float8)
    language sql stable parallel safe as
$$
    with shares as materialized (
        select t.* from gnomon_estimators.shares_if(errors.drawn, errors.stream, errors.deployment, errors.since,
                                                    errors.until, errors.segment, errors.exact) t
    )
    select e.stream, e.deployment, e.role, e.metric, e.side, e.n, e.n_effective, e.weight, e.estimate, e.se_row,
           e.se_cluster, e.se_day, e.standard_error, e.low, e.high, e.interval_by,
           case when e.status like 'no comparable pair%' then 'no pair in this period' else e.status end, e.se_period,
           e.period_low, e.period_high,
           case when e.n > 0 then gnomon_estimators.share_of(
               (select d.deployment_id from gnomon_estimators.deployments d
                where d.stream = e.stream and d.deployment = e.deployment), t.ids, t.shares) end
    from shares t
    cross join lateral gnomon_estimators.estimates(errors.stream, errors.deployment, errors.since, errors.until,
                                                   errors.segment, '{all}', '{error,timed_out,error_cells}', null,
                                                   errors.time_zone, errors.exact, t.ids, t.shares) e
$$;

-- The kinds of errors, by side.
create function report_v1.error_kinds(stream text, deployment text default null, since timestamptz default null,
                                      until timestamptz default null, segment jsonb default null)
    returns table (stream text, deployment text, role text, side text, kind text, n bigint, weight float8,
                   share float8, first_at timestamptz, last_at timestamptz, example text, status text)
    language sql stable parallel safe as
$$
    with said as (
        select p.deployment_id, k.side, k.kind, count(*) as n, sum(p.weight) as weight, min(p.event_time) as first_at,
               max(p.event_time) as last_at, min(k.message) as example
        from gnomon_estimators.pairs_of(error_kinds.stream, error_kinds.deployment, error_kinds.since, error_kinds.until,
                                error_kinds.segment) p
        cross join lateral (values ('live', p.live_error_kind, p.live_error_message),
                                   ('shadow', coalesce(p.shadow_error_kind, nullif(p.outcome, 'scored')),
                                    p.shadow_error_message)) k(side, kind, message)
        where k.kind is not null
        group by p.deployment_id, k.side, k.kind),
    totals as (
        select p.deployment_id, sum(p.weight) as weight
        from gnomon_estimators.pairs_of(error_kinds.stream, error_kinds.deployment, error_kinds.since, error_kinds.until,
                                error_kinds.segment) p
        group by p.deployment_id)
    select c.stream, c.deployment, c.role, s.side, s.kind, coalesce(s.n, 0), s.weight,
           s.weight / nullif(t.weight, 0), s.first_at, s.last_at, s.example,
           coalesce(c.problem, case when t.weight is null then 'no pair in this period'
                                    when s.n is null then 'no errors' else 'ok' end)
    from gnomon_estimators.scope(error_kinds.stream, error_kinds.deployment) c
    left join totals t using (deployment_id)
    left join said s using (deployment_id)
    order by c.role, c.deployment, s.side, s.n desc, s.kind
$$;
