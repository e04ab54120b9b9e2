-- The position of a feature in features_numeric or features_text.
create view gnomon_estimators.feature_columns as
select f.stream_id, s.name as stream, f.name, f.kind, f.position, f.avro_type, f.added_at
from gnomon.feature_columns f
join gnomon.streams s using (stream_id);
