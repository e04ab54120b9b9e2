-- The promise to readers, apart from the reports: names in place of numbers, one row a thing. Its implementation is in
-- gnomon_estimators, which is free to change; these columns are not.
create view report_v1.streams as select * from gnomon_estimators.streams;
comment on view report_v1.streams is
    'The streams: task and classes where they are declared, the tolerance of values, the rules for labels.';

create view report_v1.deployments as select * from gnomon_estimators.deployments;
comment on view report_v1.deployments is 'The challengers and controls of every stream.';

create view report_v1.pairs as select * from gnomon_estimators.pairs;
comment on view report_v1.pairs is
    'One row a pair: the live answer, the shadow''s answer, and the weight by which the pair represents all live traffic.';

create view report_v1.feature_columns as select * from gnomon_estimators.feature_columns;
comment on view report_v1.feature_columns is 'The position of each feature in features_numeric or features_text.';

create view report_v1.label_versions as select * from gnomon_estimators.label_versions;
comment on view report_v1.label_versions is 'Every version of every label as it arrived.';

create view report_v1.label_progress as select * from gnomon_estimators.label_progress;
comment on view report_v1.label_progress is 'The label watermark of each stream: labels observed before it are stored; null: not known yet.';

create view report_v1.cohorts as select * from gnomon_estimators.cohorts;
comment on view report_v1.cohorts is 'Requests old enough for a horizon; sealed slices never change.';

create view report_v1.windows as select * from gnomon_estimators.windows;
comment on view report_v1.windows is 'The ledger by window; `at` is the time of the window.';

create view report_v1.cells as select * from gnomon_estimators.cells;
comment on view report_v1.cells is 'The ledger by window and stratum.';

create view report_v1.rollups as select * from gnomon_estimators.rollups;
comment on view report_v1.rollups is 'Counts and weighted sums by hour of event time and stratum.';

create view report_v1.rollup_labels as select * from gnomon_estimators.rollup_labels;
comment on view report_v1.rollup_labels is 'Live decision against shadow decision by hour of event time.';

create view report_v1.producer_runs as select * from gnomon_estimators.producer_runs;
comment on view report_v1.producer_runs is 'Every run of a live service, with what was received from it.';

create view report_v1.progress as select * from gnomon_estimators.progress;
comment on view report_v1.progress is 'The joiner''s progress in each shadow partition.';

create view report_v1.reference_profiles as select * from gnomon_estimators.reference_profiles;
comment on view report_v1.reference_profiles is
    'Frozen profiles of features and answers that drift is measured against.';

create view report_v1.cohort_estimates as select * from gnomon_estimators.cohort_estimates;
comment on view report_v1.cohort_estimates is
    'Quality, agreement and errors of the newest sealed cohorts, computed once.';

create view report_v1.cohort_latencies as select * from gnomon_estimators.cohort_latencies;
comment on view report_v1.cohort_latencies is 'Latency before the end of the newest sealed cohorts, computed once.';
