-- The features of each pair by name, without knowing positions: `features ->> 'distance'`, or
-- `select f.* from report_v1.pair_features('s') p, jsonb_to_record(p.features) f(distance float8, origin text)`.
-- A feature that is null is left out; NaN and infinities are texts.
create function report_v1.pair_features(stream text, deployment text default null, since timestamptz default null,
                                        until timestamptz default null, segment jsonb default null)
    returns table (deployment text, event_time timestamptz, source_partition integer, source_offset bigint,
                   request_id text, features jsonb)
    language sql stable parallel safe as
$$
    select p.deployment, p.event_time, p.source_partition, p.source_offset, p.request_id,
           coalesce((select jsonb_object_agg(n.name,
                                             case n.kind when 'numeric' then to_jsonb(p.features_numeric[n.position])
                                                         else to_jsonb(p.features_text[n.position]) end)
                     from report_v1.feature_columns n
                     where n.stream_id = p.stream_id
                       and (n.kind = 'numeric' and p.features_numeric[n.position] is not null
                            or n.kind = 'text' and p.features_text[n.position] is not null)), '{}')
    from gnomon_estimators.pairs_of(pair_features.stream, pair_features.deployment, pair_features.since,
                                    pair_features.until, pair_features.segment) p
$$;
