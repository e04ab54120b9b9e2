-- Weighted quantiles of latency, µs, with the interval that Woodruff (1952) reads off the distribution function.
-- measure: live, shadow, difference over the requests scored one at a time; live_all over every pair, or about
-- 100,000 of a deployment unless exact.
create function report_v1.latency(stream text, deployment text default null, since timestamptz default null,
                                  until timestamptz default null, segment jsonb default null,
                                  time_zone text default 'UTC', exact boolean default null)
    returns table (stream text, deployment text, role text, measure text, quantile float8, n bigint,
                   n_effective float8, weight float8, microseconds float8, se_row float8, se_cluster float8,
                   se_day float8, standard_error float8, low float8, high float8, kept_until timestamptz,
                   status text, se_period float8, period_low float8, period_high float8, read_share float8)
    language sql stable parallel safe as
$$
    select * from gnomon_estimators.latency_of(latency.stream, latency.deployment, latency.since, latency.until,
                                               latency.segment, latency.time_zone, latency.exact)
$$;
