-- The names of the features by their place in a pair's arrays.
select kind, name from report_v1.feature_columns where stream = %(stream)s order by kind, position
