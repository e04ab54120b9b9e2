-- Multi-class: precision, recall, F1 and one-against-rest AUC of every class, with macro and weighted means; n of a
-- class is the number of requests with this true class. Live, shadow, and the difference on the same requests.
create function report_v1.classes(stream text, deployment text default null, since timestamptz default null,
                                  until timestamptz default null, segment jsonb default null,
                                  horizon interval default '1 day', time_zone text default 'UTC',
                                  exact boolean default null)
    returns table (stream text, deployment text, role text, horizon interval, class text, metric text, side text,
                   n bigint, n_effective float8, weight float8, clusters bigint, days bigint, estimate float8,
                   se_row float8, se_cluster float8, se_day float8, standard_error float8, low float8, high float8,
                   status text, read_share float8)
    language sql stable parallel safe as
$$
    with shares as materialized (
        select t.* from gnomon_estimators.shares(classes.stream, classes.deployment, classes.since, classes.until,
                                                 classes.segment, classes.exact) t
    ),
    areas as materialized (
        select * from gnomon_estimators.class_areas(classes.stream, classes.deployment, classes.since, classes.until,
                                                    classes.segment, classes.horizon, (select ids from shares),
                                                    (select shares from shares))
    ),
    wide as (
        select a.deployment_id, a.class, max(a.n) as n, max(a.weight) as weight,
               max(a.estimate) filter (where a.side = 'live') as live,
               max(a.estimate) filter (where a.side = 'shadow') as shadow
        from areas a group by 1, 2
    ),
    together as (
        select w.* from wide w
        union all
        select w.deployment_id, 'macro avg', max(w.n), max(w.weight), avg(w.live), avg(w.shadow) from wide w group by 1
    ),
    measured as (
        select * from gnomon_estimators.class_estimates(classes.stream, classes.deployment, classes.since, classes.until,
                                                        classes.segment, classes.horizon, classes.time_zone,
                                                        (select ids from shares), (select shares from shares))
        union all
        select t.deployment_id, t.class, 'auc', e.side, t.n, null, t.weight, null, null, e.estimate, null, null, null,
               null, null, null,
               case when e.estimate is null then 'undefined: one class only'
                    else 'no interval for an area against the rest' end
        from together t
        cross join lateral (values ('live', t.live), ('shadow', t.shadow), ('difference', t.shadow - t.live))
            e(side, estimate)
    ),
    fit as materialized (
        select f.deployment_id, coalesce(f.problem, f.mismatch) as fault, f.remark
        from gnomon_estimators.label_fit(classes.stream, classes.deployment, classes.since, classes.until,
                                         classes.segment, classes.horizon, (select ids from shares),
                                         (select shares from shares)) f
    )
    select c.stream, c.deployment, c.role, classes.horizon, m.class, m.metric, m.side, coalesce(m.n, 0), m.n_effective,
           m.weight, m.clusters, m.days, m.estimate, m.se_row, m.se_cluster, m.se_day, m.standard_error, m.low, m.high,
           coalesce(c.problem, f.fault,
                    case when f.deployment_id is null
                         then gnomon_estimators.immaturity(c.stream, c.deployment_id, classes.horizon)
                         when m.class is null then 'no pair with two decisions and a truth'
                         else coalesce(nullif(concat_ws('; ', f.remark, nullif(m.status, 'ok')), ''), 'ok') end),
           case when m.n > 0 then gnomon_estimators.share_of(c.deployment_id, t.ids, t.shares) end
    from gnomon_estimators.scope(classes.stream, classes.deployment) c
    left join fit f using (deployment_id)
    cross join shares t
    left join measured m on m.deployment_id = c.deployment_id and f.fault is null
    order by c.role, c.deployment, m.class in ('macro avg', 'weighted avg'), m.class,
             array_position(array['precision', 'recall', 'f1', 'auc'], m.metric),
             array_position(array['live', 'shadow', 'difference'], m.side)
$$;

-- Each side's decisions against the truth: share of all labelled traffic in every cell.
create function report_v1.truth_confusion(stream text, deployment text default null, since timestamptz default null,
                                          until timestamptz default null, segment jsonb default null,
                                          horizon interval default '1 day')
    returns table (stream text, deployment text, role text, horizon interval, side text, truth text, decision text,
                   n bigint, weight float8, share float8, status text)
    language sql stable parallel safe as
$$
    with cells as (
        select t.deployment_id, v.side, t.truth_label, v.decision, sum(t.n)::bigint as n, sum(t.weight) as weight
        from gnomon_estimators.truth_cells(truth_confusion.stream, truth_confusion.deployment, truth_confusion.since,
                                           truth_confusion.until, truth_confusion.segment, truth_confusion.horizon,
                                           'all', 'UTC') t
        cross join lateral (values ('live', t.live_label), ('shadow', t.shadow_label)) v(side, decision)
        where t.live_label is not null and t.shadow_label is not null and t.truth_label is not null
        group by 1, 2, 3, 4
    )
    select c.stream, c.deployment, c.role, truth_confusion.horizon, x.side, x.truth_label, x.decision, coalesce(x.n, 0),
           x.weight, x.weight / sum(x.weight) over (partition by c.deployment_id, x.side),
           coalesce(c.problem,
                    case when x.n is null
                         then coalesce(nullif(gnomon_estimators.immaturity(c.stream, c.deployment_id,
                                                                           truth_confusion.horizon),
                                              'no pair is old enough for this horizon'),
                                       'no pair with two decisions and a truth')
                         else 'ok' end)
    from gnomon_estimators.scope(truth_confusion.stream, truth_confusion.deployment) c
    left join cells x using (deployment_id)
    order by c.role, c.deployment, x.side, x.truth_label, x.decision
$$;

-- Bounds of accuracy, precision, recall and F1, and, for probabilities, log loss, Brier score and AUC, for missing
-- labels: the worst and the best truth that the unlabelled requests might have (Manski 1989). labelled: the share of
-- requests, answered by both, whose truth is known. The bounds have no interval: they are those of the pairs that were
-- read, and of a part of all requests they have the error of that sample.
create function report_v1.label_bounds(stream text, deployment text default null, since timestamptz default null,
                                       until timestamptz default null, segment jsonb default null,
                                       horizon interval default '1 day', exact boolean default null)
    returns table (stream text, deployment text, role text, horizon interval, metric text, side text, n bigint,
                   labelled float8, estimate float8, bound_low float8, bound_high float8, status text,
                   read_share float8)
    language sql stable parallel safe as
$$
    with shares as materialized (
        select t.*, gnomon_estimators.versions_in(label_bounds.stream, label_bounds.deployment, label_bounds.since,
                                                  label_bounds.until) as versions
        from gnomon_estimators.shares(label_bounds.stream, label_bounds.deployment, label_bounds.since,
                                      label_bounds.until, label_bounds.segment, label_bounds.exact) t
    ),
    -- Those of failed pairs are part of what the vocabularies are judged by.
    every as materialized (
        select t as cell
        from gnomon_estimators.truth_cells(label_bounds.stream, label_bounds.deployment, label_bounds.since,
                                           label_bounds.until, label_bounds.segment, label_bounds.horizon, 'all', 'UTC',
                                           (select ids from shares), (select shares from shares),
                                           (select versions from shares)) t
    ),
    cells as materialized (
        select (e.cell).* from every e
        where (e.cell).live_label is not null and (e.cell).shadow_label is not null
    ),
    positives as (
        select c.deployment_id, coalesce(min(s.positive_class), min(c.truth_label) filter (where c.truth_value = 1)) as class
        from cells c
        join gnomon_estimators.deployments d using (deployment_id)
        join gnomon_estimators.streams s on s.name = d.stream
        group by 1
    ),
    -- w of the known requests: right, decided positive, truly positive, both; u of the unknown ones: decided positive,
    -- negative. As in `quality`, a truth that is neither class is wrong for the accuracy and in no other metric.
    sums as (
        select c.deployment_id, v.side, sum(c.n)::bigint as n, sum(c.weight) as w,
               coalesce(sum(c.weight) filter (where c.truth_label is not null), 0) as known,
               coalesce(sum(c.weight) filter (where v.said = c.truth_label), 0) as hits,
               coalesce(sum(c.weight) filter (where v.said = p.class and c.truth_value is not null), 0) as pp,
               coalesce(sum(c.weight) filter (where c.truth_label = p.class), 0) as ap,
               coalesce(sum(c.weight) filter (where v.said = p.class and c.truth_label = p.class), 0) as tp,
               coalesce(sum(c.weight) filter (where v.said = p.class and c.truth_label is null), 0) as up,
               coalesce(sum(c.weight) filter (where v.said <> p.class and c.truth_label is null), 0) as un,
               coalesce(sum(c.weight) filter (where c.truth_label is null), 0) as u,
               coalesce(sum(c.weight) filter (where c.truth_label is null and c.live_label <> c.shadow_label), 0)
                   as disputed,
               p.class is not null as binary
        from cells c
        join positives p using (deployment_id)
        cross join lateral (values ('live', c.live_label), ('shadow', c.shadow_label)) v(side, said)
        group by c.deployment_id, v.side, p.class
    ),
    sides as (
        select s.deployment_id, s.side, s.n, s.known / s.w as labelled, m.*, s.w, s.disputed
        from sums s
        cross join lateral (values
            ('accuracy', s.hits / nullif(s.known, 0), s.hits / s.w, (s.hits + s.u) / s.w, true),
            ('precision', s.tp / nullif(s.pp, 0), s.tp / nullif(s.pp + s.up, 0), (s.tp + s.up) / nullif(s.pp + s.up, 0),
             s.binary),
            ('recall', s.tp / nullif(s.ap, 0), s.tp / nullif(s.ap + s.un, 0), (s.tp + s.up) / nullif(s.ap + s.up, 0),
             s.binary),
            ('f1', 2 * s.tp / nullif(s.pp + s.ap, 0), 2 * s.tp / nullif(s.pp + s.ap + s.up + s.un, 0),
             2 * (s.tp + s.up) / nullif(s.pp + s.ap + 2 * s.up, 0), s.binary)) m(metric, estimate, low, high, defined)
        where m.defined
    ),
    bounds as (
        select deployment_id, metric, side, n, labelled, estimate, low, high from sides
        union all
        -- If both decide alike, no truth changes the difference of accuracies.
        select l.deployment_id, l.metric, 'difference', l.n, l.labelled, s.estimate - l.estimate,
               case when l.metric = 'accuracy' then s.low - l.low - l.disputed / l.w else s.low - l.high end,
               case when l.metric = 'accuracy' then s.low - l.low + l.disputed / l.w else s.high - l.low end
        from sides l join sides s on s.deployment_id = l.deployment_id and s.metric = l.metric and s.side = 'shadow'
        where l.side = 'live'
        union all
        select p.deployment_id, p.metric, p.side, p.n, p.labelled, p.estimate, p.low, p.high
        from gnomon_estimators.probability_bounds(label_bounds.stream, label_bounds.deployment, label_bounds.since,
                                                  label_bounds.until, label_bounds.segment, label_bounds.horizon,
                                                  (select ids from shares), (select shares from shares),
                                                  (select versions from shares)) p
    ),
    fit as materialized (
        select f.deployment_id, coalesce(f.problem, f.mismatch) as fault
        from gnomon_estimators.fit_of(array(select e.cell from every e)) f
    )
    select c.stream, c.deployment, c.role, label_bounds.horizon, b.metric, b.side, coalesce(b.n, 0), b.labelled, b.estimate,
           b.low, b.high,
           coalesce(c.problem, f.fault,
                    case when f.deployment_id is null
                         then gnomon_estimators.immaturity(c.stream, c.deployment_id, label_bounds.horizon)
                         when b.metric is null then 'no pair with two decisions or probabilities'
                         when b.estimate is null then 'undefined: its denominator is 0'
                         else 'ok' end),
           case when b.n > 0 then gnomon_estimators.share_of(c.deployment_id, t.ids, t.shares) end
    from gnomon_estimators.scope(label_bounds.stream, label_bounds.deployment) c
    left join fit f using (deployment_id)
    cross join shares t
    left join bounds b on b.deployment_id = c.deployment_id and f.fault is null
    order by c.role, c.deployment, array_position(array['accuracy', 'precision', 'recall', 'f1', 'auc', 'log_loss', 'brier'], b.metric),
             array_position(array['live', 'shadow', 'difference'], b.side)
$$;
