-- How often both answers match by a rule of the question, weighted to all live traffic. compare:
--   label       equal labels
--   absolute    values that differ by at most `tolerance`
--   relative    values that differ by at most the share `tolerance` of the larger one
--   top-k       the same k best items, in any order
--   sql         `expression`, a condition over the columns of report_v1.pairs
-- A pair in which the rule finds nothing to compare (a side failed, a field is missing or not finite, the expression is
-- null) does not match: it is counted in not_compared. For fields that the rule does not read, the pairs in which they
-- differ are counted: ignored_label, ignored_value and ignored_ranking, null for fields that the rule reads and for
-- expressions.
create function report_v1.matches(stream text, deployment text default null, since timestamptz default null,
                                  until timestamptz default null, segment jsonb default null,
                                  compare text default 'label', tolerance float8 default null,
                                  k integer default null, expression text default null,
                                  time_zone text default 'UTC')
    returns table (stream text, deployment text, role text, compare text, n bigint, n_effective float8, weight float8,
                   matches float8, se_row float8, se_cluster float8, se_day float8, standard_error float8, low float8,
                   high float8, not_compared bigint, ignored_label bigint, ignored_value bigint,
                   ignored_ranking bigint, status text)
    language sql stable as
$$
    select c.stream, c.deployment, c.role, matches.compare, coalesce(m.n, 0), m.kish, m.w, m.share, b.se_row,
           b.se_cluster, b.se_day, b.standard_error, b.low, b.high, m.pairs - m.n,
           case when matches.compare in ('absolute', 'relative', 'top-k') then m.other_label end,
           case when matches.compare in ('label', 'top-k') then m.other_value end,
           case when matches.compare in ('label', 'absolute', 'relative') then m.other_ranking end,
           coalesce(c.problem, case when m.pairs is null then 'no pair in this period'
                                    when m.n = 0 then 'no pair has what this comparison reads'
                                    else b.status end)
    from gnomon_estimators.scope(matches.stream, matches.deployment) c
    left join gnomon_estimators.matched(matches.stream, matches.deployment, matches.since, matches.until,
                                        matches.segment, matches.compare, matches.tolerance, matches.k,
                                        matches.expression, matches.time_zone) m using (deployment_id)
    left join lateral gnomon_estimators.bounded('share', m.share, m.v_row, m.v_cluster, m.v_day, m.v_both, m.n,
                                                m.clusters, m.days, m.cells, m.kish) b on m.n > 0
    order by c.role, c.deployment
$$;
