-- Which feature stands where in a pair's arrays features_numeric and features_text (1-based, append-only).
create view report_v1.feature_columns as
select c.stream_id, s.name as stream, c.name, c.kind, c.position, c.avro_type, c.added_at
from gnomon.feature_columns c
join gnomon.streams s using (stream_id);

comment on view report_v1.feature_columns is 'Where a feature stands in a pair''s arrays of features.';
