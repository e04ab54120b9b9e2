-- Bounds of log loss, Brier score and AUC for missing labels: the worst and the best truth, 0 or 1, that the unlabelled
-- requests might have (Manski 1989). For a mean, request by request, including the difference of the sides. For the
-- area: the best truth gives 1 to the unlabelled scores from some score on and 0 to those below it, the worst one the
-- reverse (exchanging two of them never helps), so the bound is the best over all such scores. Of several unlabelled
-- requests with this score any part may be 1: the bound is that of the best weight, which is reached if the requests can
-- be divided so. For the difference of two areas: the minimum of one minus the maximum of the other.
--
-- The area if unlabelled requests of one score with the weight x are 1, and the others 0.
create function gnomon_estimators.area_of(n0 float8, n1 float8, d0 float8, d1 float8, x float8) returns float8
    language sql immutable parallel safe as
$$
    select (n0 + n1 * x - x * x / 2) / nullif(d0 + d1 * x - x * x, 0)
$$;

create function gnomon_estimators.probability_bounds(stream text, deployment text, since timestamptz, until timestamptz,
                                                     segment jsonb, horizon interval, ids integer[], shares float8[],
                                                     versions boolean)
    returns table (deployment_id integer, metric text, side text, n bigint, labelled float8, estimate float8, low float8,
                   high float8)
    -- planner notes 5, 6
    language sql stable parallel safe set work_mem = '128MB' set enable_nestloop = off as
$$
    with said as materialized (
        select p.deployment_id, p.weight / s.share as w, case when p.truth_value in (0, 1) then p.truth_value end as truth,
               p.live_value as live, p.shadow_value as shadow
        from gnomon_estimators.labelled(probability_bounds.stream, probability_bounds.deployment,
                                        probability_bounds.since, probability_bounds.until, probability_bounds.segment,
                                        probability_bounds.horizon, null, probability_bounds.versions) p
        cross join lateral (select gnomon_estimators.share_of(p.deployment_id, probability_bounds.ids,
                                                              probability_bounds.shares) as share) s
        where gnomon_estimators.within_share(p.request_id, s.share) and p.live_error_kind is null and p.outcome = 'scored' and p.task is distinct from 'multiclass'
          and (p.live_label is not null and p.shadow_label is not null or p.task = 'binary')
          and p.live_value > '-infinity' and p.live_value < 'infinity'
          and p.shadow_value > '-infinity' and p.shadow_value < 'infinity'
          and (p.truth_value in (0, 1) or p.truth_value is null and p.truth_label is null)
    ),
    -- Scores that are not probabilities have an area, but no loss.
    losing as (select deployment_id from said group by 1
               having bool_and(gnomon_estimators.probability(live) < 'NaN' and gnomon_estimators.probability(shadow) < 'NaN')),
    whole as (select deployment_id, count(*) as n, sum(w) as w, coalesce(sum(w) filter (where truth is not null), 0) as known
              from said group by 1),
    -- For each request, the loss of either side if the truth is 0, and if it is 1; one row a request, because there are
    -- many.
    losses as (
        select s.deployment_id, s.w, s.truth, c.*, -ln(1 - c.l) as log_l0, -ln(c.l) as log_l1, -ln(1 - c.s) as log_s0,
               -ln(c.s) as log_s1, gnomon_estimators.square(s.live) as brier_l0,
               gnomon_estimators.square(1 - s.live) as brier_l1, gnomon_estimators.square(s.shadow) as brier_s0,
               gnomon_estimators.square(1 - s.shadow) as brier_s1
        from said s
        join losing using (deployment_id)
        cross join lateral (select least(greatest(s.live, 1e-6), 1 - 1e-6) as l,
                                   least(greatest(s.shadow, 1e-6), 1 - 1e-6) as s offset '0') c -- planner note 3
    ),
    summed as (
        select deployment_id, sum(w) as w, sum(w) filter (where truth is not null) as known,
               sum(w * case truth when 1 then log_l1 else log_l0 end) filter (where truth is not null) as log_l,
               sum(w * case truth when 1 then log_s1 else log_s0 end) filter (where truth is not null) as log_s,
               sum(w * case truth when 1 then brier_l1 else brier_l0 end) filter (where truth is not null) as brier_l,
               sum(w * case truth when 1 then brier_s1 else brier_s0 end) filter (where truth is not null) as brier_s,
               sum(w * least(log_l0, log_l1)) filter (where truth is null) as log_l_least,
               sum(w * greatest(log_l0, log_l1)) filter (where truth is null) as log_l_most,
               sum(w * least(log_s0, log_s1)) filter (where truth is null) as log_s_least,
               sum(w * greatest(log_s0, log_s1)) filter (where truth is null) as log_s_most,
               sum(w * least(log_s0 - log_l0, log_s1 - log_l1)) filter (where truth is null) as log_d_least,
               sum(w * greatest(log_s0 - log_l0, log_s1 - log_l1)) filter (where truth is null) as log_d_most,
               sum(w * least(brier_l0, brier_l1)) filter (where truth is null) as brier_l_least,
               sum(w * greatest(brier_l0, brier_l1)) filter (where truth is null) as brier_l_most,
               sum(w * least(brier_s0, brier_s1)) filter (where truth is null) as brier_s_least,
               sum(w * greatest(brier_s0, brier_s1)) filter (where truth is null) as brier_s_most,
               sum(w * least(brier_s0 - brier_l0, brier_s1 - brier_l1)) filter (where truth is null) as brier_d_least,
               sum(w * greatest(brier_s0 - brier_l0, brier_s1 - brier_l1)) filter (where truth is null) as brier_d_most
        from losses group by 1
    ),
    means as (
        select s.deployment_id, m.metric, m.side, m.known / nullif(s.known, 0) as estimate,
               (coalesce(m.known, 0) + coalesce(m.least, 0)) / s.w as low,
               (coalesce(m.known, 0) + coalesce(m.most, 0)) / s.w as high
        from summed s
        cross join lateral (values
            ('log_loss', 'live', s.log_l, s.log_l_least, s.log_l_most),
            ('log_loss', 'shadow', s.log_s, s.log_s_least, s.log_s_most),
            ('log_loss', 'difference', s.log_s - s.log_l, s.log_d_least, s.log_d_most),
            ('brier', 'live', s.brier_l, s.brier_l_least, s.brier_l_most),
            ('brier', 'shadow', s.brier_s, s.brier_s_least, s.brier_s_most),
            ('brier', 'difference', s.brier_s - s.brier_l, s.brier_d_least, s.brier_d_most))
            m(metric, side, known, least, most)
    ),
    scores as (
        select s.deployment_id, e.side, e.score, coalesce(sum(s.w) filter (where s.truth = 1), 0) as pos,
               coalesce(sum(s.w) filter (where s.truth = 0), 0) as neg,
               coalesce(sum(s.w) filter (where s.truth is null), 0) as open,
               count(*) filter (where s.truth is null) > 1 as tied, min(s.w) filter (where s.truth is null) as smallest
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
    -- For the unlabelled below each score (without this one): their weight, and the number of pairs that they win as 1
    -- and as 0.
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
    ends as (
        select c.deployment_id, c.side, max(c.known / nullif(c.all_pos * c.all_neg, 0)) as estimate,
               max(greatest(
                   (c.known + c.won - c.won_below + c.lost_below + (c.all_open - c.open_below) * c.open_below)
                   / nullif((c.all_pos + c.all_open - c.open_below) * (c.all_neg + c.open_below), 0),
                   (c.known + c.won - n.won + n.lost + (c.all_open - n.open) * n.open)
                   / nullif((c.all_pos + c.all_open - n.open) * (c.all_neg + n.open), 0))) as high,
               min(least(
                   (c.known + c.won_below + c.lost - c.lost_below)
                   / nullif((c.all_pos + c.open_below) * (c.all_neg + c.all_open - c.open_below), 0),
                   (c.known + n.won + c.lost - n.lost)
                   / nullif((c.all_pos + n.open) * (c.all_neg + c.all_open - n.open), 0))) as low
        from cuts c
        cross join lateral (select c.open_below + c.open as open, c.won_below + c.open * c.neg_below as won,
                                   c.lost_below + c.open * c.pos_above as lost offset '0') n -- planner note 3
        group by 1, 2
    ),
    -- Of several unlabelled requests with one score, let x be the weight of those that are 1, at least the smallest of them
    -- and not all of it; the truth of all others is as above. The slope of `area_of` is 0 where a x² + b x + c is.
    splits as (
        select c.deployment_id, c.side, c.smallest, c.open - c.smallest as most, f.*,
               f.n1 - f.d1 / 2 as a, 2 * f.n0 - f.d0 as b, f.n1 * f.d0 - f.n0 * f.d1 as c
        from (select k.*, k.all_open - k.open_below - k.open as open_above from cuts k where k.tied offset '0') c -- planner note 3
        cross join lateral (values
            (true, c.known + c.won - c.won_below - c.open * c.neg_below + c.lost_below + c.open * c.pos_above
                   + c.open_above * (c.open_below + c.open),
             c.neg_below - c.pos_above - c.open_above + c.open_below + c.open / 2,
             (c.all_pos + c.open_above) * (c.all_neg + c.open_below + c.open),
             c.all_neg + c.open_below + c.open - c.all_pos - c.open_above),
            (false, c.known + c.won_below + c.lost - c.lost_below, c.neg_below - c.pos_above + c.open / 2,
             (c.all_pos + c.open_below) * (c.all_neg + c.open_above + c.open),
             c.all_neg + c.open_above + c.open - c.all_pos - c.open_below)) f(highest, n0, n1, d0, d1)
    ),
    turns as (
        select s.*, r.q / nullif(s.a, 0) as x1, s.c / nullif(r.q, 0) as x2
        from splits s
        cross join lateral (select (sqrt(greatest(s.b * s.b - 4 * s.a * s.c, 0)) * case when s.b < 0 then -1 else 1 end + s.b)
                                   / -2 as q) r
    ),
    divided as (
        select t.deployment_id, t.side, max(x.area) filter (where t.highest) as high,
               min(x.area) filter (where not t.highest) as low
        from turns t
        cross join lateral (
            select gnomon_estimators.area_of(t.n0, t.n1, t.d0, t.d1, w.x) as area
            from (values (t.smallest), (t.most), (least(greatest(t.x1, t.smallest), t.most)),
                         (least(greatest(t.x2, t.smallest), t.most))) w(x)) x
        group by 1, 2
    ),
    areas as (
        select e.deployment_id, e.side, e.estimate, least(e.low, d.low) as low, greatest(e.high, d.high) as high
        from ends e left join divided d using (deployment_id, side)
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
