-- A metric is a line here: what a pair must have to say anything of it (given), y and x of either side, over the
-- columns of `measured`'s `said`. One that is not paired has no live side.
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
     'finite and not live_failed and not shadow_failed', null, 'abs(gnomon_estimators.flushed(shadow_value - live_value))', null, null),
    (10, 'label_coverage', 'label_coverage', 'share', false, 'true', null, 'known::integer', null, null),
    (11, 'accuracy', 'accuracy', 'share', true, 'decided', 'live_right::integer', 'shadow_right::integer', null, null),
    (12, 'precision', 'precision', 'share', true, 'decided and truth_value in (0, 1)',
     'case when live_right then truth_value else 0 end', 'case when shadow_right then truth_value else 0 end',
     '(live_right = (truth_value = 1))::integer', '(shadow_right = (truth_value = 1))::integer'),
    (13, 'recall', 'recall', 'share', true, 'decided and truth_value in (0, 1)',
     'case when live_right then truth_value else 0 end', 'case when shadow_right then truth_value else 0 end',
     'truth_value', 'truth_value'),
    (14, 'log_loss', 'log_loss', 'mean', true, 'live_chance between 0 and 1 and shadow_chance between 0 and 1',
     '-ln(least(greatest(live_chance, 1e-6), 1 - 1e-6))', '-ln(least(greatest(shadow_chance, 1e-6), 1 - 1e-6))', null,
     null),
    (15, 'brier', 'brier', 'mean', true, 'probabilities', 'gnomon_estimators.square(live_value - truth_value)',
     'gnomon_estimators.square(shadow_value - truth_value)', null, null),
    (16, 'rmse', 'rmse', 'root', true, 'regression', 'gnomon_estimators.square(live_value - truth_value)',
     'gnomon_estimators.square(shadow_value - truth_value)', null, null),
    (17, 'mae', 'mae', 'mean', true, 'regression', 'abs(gnomon_estimators.flushed(live_value - truth_value))',
     'abs(gnomon_estimators.flushed(shadow_value - truth_value))', null, null),
    (18, 'ndcg@10', 'ndcg@10', 'mean', true, 'live_ndcg is not null and shadow_ndcg is not null', 'live_ndcg',
     'shadow_ndcg', null, null),
    (19, 'value_difference', 'value_difference', 'mean', false, 'finite and not live_failed and not shadow_failed', null,
     'gnomon_estimators.flushed(shadow_value - live_value)', null, null),
    (20, 'answered', 'answered', 'share', true, 'true', '(not live_failed)::integer', '(not shadow_failed)::integer',
     null, null),
    (21, 'answered_by_both', 'answered', 'share', false, 'true', null,
     '(not live_failed and not shadow_failed)::integer', null, null),
    (22, 'f1', 'f1', 'share', true, 'decided and truth_value in (0, 1)',
     'case when live_right then 2 * truth_value else 0 end', 'case when shadow_right then 2 * truth_value else 0 end',
     '(live_right = (truth_value = 1))::integer + truth_value',
     '(shadow_right = (truth_value = 1))::integer + truth_value')
    ) m(code, metric, family, kind, paired, given, live, shadow, live_x, shadow_x);

-- A template of SQL once for each metric of some families, between commas: {k} its code, the rest its columns above.
create function gnomon_estimators.for_each_metric(template text, families text[]) returns text
    language sql stable parallel safe as
$$
    select string_agg(replace(replace(replace(replace(replace(replace(replace(replace(template,
               '{k}', m.code::text), '{metric}', m.metric), '{kind}', m.kind), '{given}', m.given),
               '{live}', coalesce(m.live, 'null::float8')), '{shadow}', m.shadow),
               '{live_x}', coalesce(m.live_x, case when m.paired then '1' else 'null' end)),
               '{shadow_x}', coalesce(m.shadow_x, '1')),
               ', ' order by array_position(for_each_metric.families, m.family), m.code)
    from gnomon_estimators.metrics m where m.family = any (for_each_metric.families)
$$;
