-- One line for each metric: the condition under which a pair counts for it (given), and y and x of either side, over
-- the columns of `measured_statement`'s `flagged_pairs`. A metric that is not paired has no live side.
create view gnomon_estimators.metrics as
select m.* from (values
    (1, 'agreement', 'agreement', 'share', false, 'agrees is not null', null, 'agrees::integer', null, null),
    (2, 'error', 'error', 'share', true, 'true', 'live_failed::integer', 'shadow_failed::integer', null, null),
    (3, 'timed_out', 'timed_out', 'share', false, 'true', null, '(outcome = ''timed_out'')::integer', null, null),
    (4, 'both_answered', 'error_cells', 'share', false, 'true', null,
     '(not live_failed and not shadow_failed)::integer', null, null),
    (5, 'only_live_failed', 'error_cells', 'share', false, 'true', null,
     '(live_failed and not shadow_failed)::integer', null, null),
    (6, 'only_shadow_failed', 'error_cells', 'share', false, 'true', null,
     '(shadow_failed and not live_failed)::integer', null, null),
    (7, 'both_failed', 'error_cells', 'share', false, 'true', null, '(live_failed and shadow_failed)::integer', null,
     null),
    (8, 'value', 'value', 'mean', true, 'finite and not live_failed and not shadow_failed',
     'gnomon_estimators.flushed(live_value)', 'gnomon_estimators.flushed(shadow_value)', null, null),
    (9, 'absolute_difference', 'absolute_difference', 'mean', false,
     'finite and not live_failed and not shadow_failed', null,
     'case when finite then abs(gnomon_estimators.flushed(shadow_value - live_value)) end', null, null),
    (10, 'label_coverage', 'label_coverage', 'share', false, 'true', null, 'known::integer', null, null),
    (11, 'accuracy', 'accuracy', 'share', true, 'decided', 'live_right::integer', 'shadow_right::integer', null, null),
    (12, 'precision', 'precision', 'share', true, 'decided and truth_value in (0, 1)',
     'case when live_right and live_positive then truth_value else 0 end',
     'case when shadow_right and shadow_positive then truth_value else 0 end',
     'live_positive::integer', 'shadow_positive::integer'),
    (13, 'recall', 'recall', 'share', true, 'decided and truth_value in (0, 1)',
     'case when live_right then truth_value else 0 end', 'case when shadow_right then truth_value else 0 end',
     'truth_value', 'truth_value'),
    (14, 'log_loss', 'log_loss', 'mean', true,
     'live_class_probability > ''-infinity'' and live_class_probability < ''infinity'''
     ' and shadow_class_probability > ''-infinity'' and shadow_class_probability < ''infinity''',
     'gnomon_estimators.log_loss(live_class_probability)',
     'gnomon_estimators.log_loss(shadow_class_probability)', null, null),
    (15, 'brier', 'brier', 'mean', true, 'probabilities',
     'case when probabilities'
     ' then gnomon_estimators.flushed(gnomon_estimators.probability(live_value) - truth_value) ^ 2 end',
     'case when probabilities'
     ' then gnomon_estimators.flushed(gnomon_estimators.probability(shadow_value) - truth_value) ^ 2 end',
     null, null),
    (16, 'rmse', 'rmse', 'root', true, 'regression',
     'case when regression then gnomon_estimators.square(live_value - truth_value) end',
     'case when regression then gnomon_estimators.square(shadow_value - truth_value) end', null, null),
    (17, 'mae', 'mae', 'mean', true, 'regression',
     'case when regression then abs(gnomon_estimators.flushed(live_value - truth_value)) end',
     'case when regression then abs(gnomon_estimators.flushed(shadow_value - truth_value)) end', null, null),
    (18, 'ndcg@10', 'ndcg@10', 'mean', true, 'live_ndcg[4] is not null and shadow_ndcg[4] is not null', 'live_ndcg[4]',
     'shadow_ndcg[4]', null, null),
    (19, 'value_difference', 'value_difference', 'mean', false, 'finite and not live_failed and not shadow_failed', null,
     'case when finite then gnomon_estimators.flushed(shadow_value - live_value) end', null, null),
    (20, 'answered', 'answered', 'share', true, 'true', '(not live_failed)::integer', '(not shadow_failed)::integer',
     null, null),
    (21, 'answered_by_both', 'answered', 'share', false, 'true', null,
     '(not live_failed and not shadow_failed)::integer', null, null),
    (22, 'f1', 'f1', 'share', true, 'decided and truth_value in (0, 1)',
     'case when live_right and live_positive then 2 * truth_value else 0 end',
     'case when shadow_right and shadow_positive then 2 * truth_value else 0 end',
     'live_positive::integer + truth_value', 'shadow_positive::integer + truth_value'),
    (23, 'ndcg@1', 'ndcg', 'mean', true, 'live_ndcg[1] is not null and shadow_ndcg[1] is not null', 'live_ndcg[1]',
     'shadow_ndcg[1]', null, null),
    (24, 'ndcg@3', 'ndcg', 'mean', true, 'live_ndcg[2] is not null and shadow_ndcg[2] is not null', 'live_ndcg[2]',
     'shadow_ndcg[2]', null, null),
    (25, 'ndcg@5', 'ndcg', 'mean', true, 'live_ndcg[3] is not null and shadow_ndcg[3] is not null', 'live_ndcg[3]',
     'shadow_ndcg[3]', null, null),
    (26, 'ndcg@20', 'ndcg', 'mean', true, 'live_ndcg[5] is not null and shadow_ndcg[5] is not null', 'live_ndcg[5]',
     'shadow_ndcg[5]', null, null),
    (27, 'ndcg_exp@1', 'ndcg', 'mean', true, 'live_ndcg[6] is not null and shadow_ndcg[6] is not null', 'live_ndcg[6]',
     'shadow_ndcg[6]', null, null),
    (28, 'ndcg_exp@3', 'ndcg', 'mean', true, 'live_ndcg[7] is not null and shadow_ndcg[7] is not null', 'live_ndcg[7]',
     'shadow_ndcg[7]', null, null),
    (29, 'ndcg_exp@5', 'ndcg', 'mean', true, 'live_ndcg[8] is not null and shadow_ndcg[8] is not null', 'live_ndcg[8]',
     'shadow_ndcg[8]', null, null),
    (30, 'ndcg_exp@10', 'ndcg', 'mean', true, 'live_ndcg[9] is not null and shadow_ndcg[9] is not null', 'live_ndcg[9]',
     'shadow_ndcg[9]', null, null),
    (31, 'ndcg_exp@20', 'ndcg', 'mean', true, 'live_ndcg[10] is not null and shadow_ndcg[10] is not null', 'live_ndcg[10]',
     'shadow_ndcg[10]', null, null)
    ) m(code, metric, family, kind, paired, given, live, shadow, live_x, shadow_x);

-- An SQL template in which lines of this form are repeated for each metric of some families:
--     {each WHICH} text {end each}
-- WHICH: metric, paired (those with a live side), ratio (those with an x), or rows (one metric for each {g}). Each
-- repetition is a line of its own; {list WHICH} puts a comma between them. In the text, {code} is the metric's code;
-- {given}, {live} and {shadow} its columns above; {x_of_live} and {x_of_shadow} its x; {g} the code of the first metric
-- that counts the same pairs; {live_x} and {shadow_x} the column of Σ w x (of the weights if x is 1); {live_clusters}
-- and so on the number of clusters and days in the denominator. Between {only} and {end} stands what only a metric with
-- a live side has.
create function gnomon_estimators.for_each_metric(template text, families text[]) returns text
    language sql stable parallel safe as
$$
    with asked as (
        select m.*, m.live_x is not null as ratio, min(m.code) over (partition by m.given) as rows_of,
               array_position(for_each_metric.families, m.family) as place
        from gnomon_estimators.metrics m where m.family = any (for_each_metric.families)
    ),
    -- In PostgreSQL's expressions one `?` after the first quantifier makes the whole one match the shortest text.
    lines as (
        select l.at, l.found[1] as indent, l.found[2] as kind, l.found[3] as which, btrim(l.found[4], ' ') as text
        from regexp_matches(for_each_metric.template, '(\n *?)[{](each|list) (\w+?)[}](.*?)[{]end each[}]', 'g')
            with ordinality l(found, at)
    ),
    repeated as (
        select l.at,
               string_agg(l.indent ||
                   replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(
                       replace(replace(replace(replace(replace(replace(replace(
                       case when l.text like '%{only}%' then
                           (select string_agg(case when part.at % 2 = 1 or a.paired then part.text
                                                   else ' null::float8 ' end, '' order by part.at)
                            from regexp_split_to_table(l.text, '[{](?:only|end)[}]') with ordinality part(text, at))
                       else l.text end,
                       '{live_clusters}', case when a.ratio then 'c.live_clusters_{code}' else 'c.clusters_{g}' end),
                       '{shadow_clusters}', case when a.ratio then 'c.shadow_clusters_{code}' else 'c.clusters_{g}' end),
                       '{live_days}', case when a.ratio then 'd.live_days_{code}' else 'd.days_{g}' end),
                       '{shadow_days}', case when a.ratio then 'd.shadow_days_{code}' else 'd.days_{g}' end),
                       '{live_x2}', case when a.ratio then 'live_x2_{code}' else 'w2_{g}' end),
                       '{shadow_x2}', case when a.ratio then 'shadow_x2_{code}' else 'w2_{g}' end),
                       '{times_live_x}', case when a.ratio then ' * x.live_x_{code}' else '' end),
                       '{times_shadow_x}', case when a.ratio then ' * x.shadow_x_{code}' else '' end),
                       '{live_x}', case when a.ratio then 'live_x_{code}' else 'w_{g}' end),
                       '{shadow_x}', case when a.ratio then 'shadow_x_{code}' else 'w_{g}' end),
                       '{code}', a.code::text), '{g}', a.rows_of::text), '{kind}', a.kind), '{given}', a.given),
                       '{live}', coalesce(a.live, '')), '{shadow}', a.shadow),
                       '{x_of_live}', coalesce(a.live_x, '')), '{x_of_shadow}', coalesce(a.shadow_x, '')),
                   case l.kind when 'list' then ',' else '' end order by a.place, a.code) as text
        from lines l
        join asked a on case l.which when 'paired' then a.paired when 'ratio' then a.ratio
                                     when 'rows' then a.code = a.rows_of when 'metric' then true end
        group by l.at
    )
    select string_agg(b.text || coalesce(r.text, ''), '' order by b.at)
    from regexp_split_to_table(for_each_metric.template, '\n *?[{](?:each|list) \w+?[}].*?[{]end each[}]')
        with ordinality b(text, at)
    left join repeated r using (at)
$$;

-- An SQL template with each slot {name} replaced by the text of that name.
create function gnomon_estimators.filled(template text, slots jsonb) returns text
    language plpgsql immutable parallel safe as
$$
declare
    slot record;
begin
    for slot in select s.key, s.value from jsonb_each_text(filled.slots) s loop
        template := replace(template, '{' || slot.key || '}', slot.value);
    end loop;
    return template;
end
$$;
