-- How far the labels that are missing could move log loss, Brier score and AUC: the worst and the best truth, 0 or 1, that
-- the unlabelled requests might have (Manski 1989). Of a mean, request by request, the difference of the sides included.
-- Of the area: the best truth gives 1 to the unlabelled scores from some score on and 0 to those below it, the worst one
-- the other way round (exchanging two of them never helps), so the bound is the best of all such scores; unlabelled
-- requests of one score share their truth. The difference of two areas: the one's least less the other's most.
create function gnomon_estimators.probability_bounds(stream text, deployment text, since timestamptz, until timestamptz,
                                                     segment jsonb, horizon interval)
    returns table (deployment_id integer, metric text, side text, n bigint, labelled float8, estimate float8, low float8,
                   high float8)
    language sql stable parallel safe set enable_nestloop = off as -- planner note 6
$$
    with said as materialized (
        select p.deployment_id, p.weight as w, case when p.truth_value in (0, 1) then p.truth_value end as truth,
               p.live_value as live, p.shadow_value as shadow
        from gnomon_estimators.labelled(probability_bounds.stream, probability_bounds.deployment,
                                        probability_bounds.since, probability_bounds.until, probability_bounds.segment,
                                        probability_bounds.horizon) p
        where p.live_error_kind is null and p.outcome = 'scored' and p.task is distinct from 'multiclass'
          and (p.live_label is not null and p.shadow_label is not null or p.task = 'binary')
          and p.live_value > '-infinity' and p.live_value < 'infinity'
          and p.shadow_value > '-infinity' and p.shadow_value < 'infinity'
          and (p.truth_value in (0, 1) or p.truth_value is null and p.truth_label is null)
    ),
    -- Scores that are no probabilities have an area, and no loss.
    losing as (select deployment_id from said group by 1
               having bool_and(gnomon_estimators.chance(live) < 'NaN' and gnomon_estimators.chance(shadow) < 'NaN')),
    whole as (select deployment_id, count(*) as n, sum(w) as w, coalesce(sum(w) filter (where truth is not null), 0) as known
              from said group by 1),
    -- Of each request the loss of either side if the truth is 0, and if it is 1.
    losses as (
        select s.deployment_id, s.w, s.truth, m.metric, e.side, e.zero, e.one
        from said s
        join losing using (deployment_id)
        cross join lateral (select gnomon_estimators.chance(s.live) as live, gnomon_estimators.chance(s.shadow) as shadow) c
        cross join lateral (values
            ('log_loss', gnomon_estimators.log_loss(1 - c.live), gnomon_estimators.log_loss(c.live),
             gnomon_estimators.log_loss(1 - c.shadow), gnomon_estimators.log_loss(c.shadow)),
            ('brier', c.live ^ 2, (1 - c.live) ^ 2, c.shadow ^ 2, (1 - c.shadow) ^ 2))
            m(metric, live_zero, live_one, shadow_zero, shadow_one)
        cross join lateral (values ('live', m.live_zero, m.live_one), ('shadow', m.shadow_zero, m.shadow_one),
                                   ('difference', m.shadow_zero - m.live_zero, m.shadow_one - m.live_one))
            e(side, zero, one)
    ),
    means as (
        select l.deployment_id, l.metric, l.side,
               sum(l.w * case l.truth when 1 then l.one when 0 then l.zero end)
                   / nullif(sum(l.w) filter (where l.truth is not null), 0) as estimate,
               sum(l.w * case l.truth when 1 then l.one when 0 then l.zero else least(l.zero, l.one) end) / sum(l.w) as low,
               sum(l.w * case l.truth when 1 then l.one when 0 then l.zero else greatest(l.zero, l.one) end) / sum(l.w)
                   as high
        from losses l group by 1, 2, 3
    ),
    scores as (
        select s.deployment_id, e.side, e.score, coalesce(sum(s.w) filter (where s.truth = 1), 0) as pos,
               coalesce(sum(s.w) filter (where s.truth = 0), 0) as neg,
               coalesce(sum(s.w) filter (where s.truth is null), 0) as open
        from said s cross join lateral (values ('live', s.live), ('shadow', s.shadow)) e(side, score)
        group by 1, 2, 3
    ),
    -- Known negatives below a score and known positives above it, ties half.
    placed as (
        select *, sum(neg) over below - neg / 2 as neg_below, sum(pos) over (partition by deployment_id, side)
                                                              - sum(pos) over below + pos / 2 as pos_above,
               sum(pos) over (partition by deployment_id, side) as all_pos,
               sum(neg) over (partition by deployment_id, side) as all_neg,
               sum(open) over (partition by deployment_id, side) as all_open
        from scores window below as (partition by deployment_id, side order by score)
    ),
    -- For the unlabelled below each score (this one not): their weight, and how many pairs they win as 1 and as 0.
    cuts as (
        select *, sum(open) over below - open as open_below, sum(open * neg_below) over below - open * neg_below as won_below,
               sum(open * pos_above) over below - open * pos_above as lost_below,
               sum(open * neg_below) over whole_side as won, sum(open * pos_above) over whole_side as lost,
               sum(pos * neg_below) over whole_side as known
        from placed
        window below as (partition by deployment_id, side order by score),
               whole_side as (partition by deployment_id, side)
    ),
    -- Two cuts a score: before it, and after it.
    candidates as (
        select c.deployment_id, c.side, c.known, c.all_pos, c.all_neg, c.all_open, b.open_below, c.won, c.lost, b.won_below,
               b.lost_below
        from cuts c
        cross join lateral (values (c.open_below, c.won_below, c.lost_below),
                                   (c.open_below + c.open, c.won_below + c.open * c.neg_below,
                                    c.lost_below + c.open * c.pos_above)) b(open_below, won_below, lost_below)
    ),
    areas as (
        select deployment_id, side, max(known / nullif(all_pos * all_neg, 0)) as estimate,
               max((known + won - won_below + lost_below + (all_open - open_below) * open_below)
                   / nullif((all_pos + all_open - open_below) * (all_neg + open_below), 0)) as high,
               min((known + won_below + lost - lost_below)
                   / nullif((all_pos + open_below) * (all_neg + all_open - open_below), 0)) as low
        from candidates group by 1, 2
    ),
    bounds as (
        select deployment_id, metric, side, estimate, low, high from means
        union all
        select deployment_id, 'auc', side, estimate, low, high from areas
        union all
        select l.deployment_id, 'auc', 'difference', s.estimate - l.estimate, s.low - l.high, s.high - l.low
        from areas l join areas s using (deployment_id) where l.side = 'live' and s.side = 'shadow'
    )
    select b.deployment_id, b.metric, b.side, w.n, w.known / w.w, b.estimate, b.low, b.high
    from bounds b join whole w using (deployment_id)
    where w.known > 0
$$;
