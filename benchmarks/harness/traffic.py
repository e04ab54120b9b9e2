"""Fills a migrated database with pairs as a joiner writes them: days, strata, clusters, labels, ledger, rollups."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

STREAM = "benchmark"
DAYS = 60
NUMBERS, TEXTS = 20, 5  # features of each kind
WORKERS = 2
# Rows of an hour: half of each seen request is sampled; one in 20 of the others is a probe scored alone.
_PAIRS = """
insert into gnomon.pairs (deployment_id, event_time, source_partition, source_offset, request_id, cluster, stratum,
    segments, features_numeric, features_text, live_value, live_label, live_error_kind, live_latency_us,
    live_model_name, live_model_version, shadow_value, shadow_label, shadow_error_kind, shadow_latency_us,
    shadow_batch_size, shadow_queued_us, scored_at, outcome, capture_probability, inclusion_probability,
    probe_probability, rank, window_id, producer_id, producer_sequence)
select %(deployment)s, at, i %% 4, %(first)s + i / 4, %(name)s || (%(first)s * 4 + i), 'user-' || who, stratum,
       jsonb_build_object('origin', stratum, 'device', case when who %% 3 = 0 then 'phone' else 'web' end),
       array[a, b, a * b, who %% 100, null, ln(a + 0.001), ln(b + 0.001), a + b, a - b, a * a, b * b, sqrt(a), sqrt(b),
             round((100 * a)::numeric)::float8, round((1000 * b)::numeric)::float8, 10 + 5 * a * b, who %% 24, who %% 7,
             a / (b + 0.01), c],
       array['x' || who %% 7, stratum, 'carrier ' || who %% 16, 'airport ' || who %% 300, null],
       live, case when live > 0.5 then 'yes' else 'no' end, null, 800 + (400 * a * a)::bigint, 'live', '1',
       case when not failed then shadow end, case when failed then null when shadow > 0.5 then 'yes' else 'no' end,
       case when failed then 'model_error' end, 600 + (900 * b * b)::bigint,
       case when i %% 20 = 0 then 1 else 64 end, 5000, at + interval '2 seconds',
       case when failed then 'failed' else 'scored' end, 1.0, chance,
       case when i %% 20 = 0 then chance / 20 end, i * 7919,
       md5(%(deployment)s || '-' || %(first)s / 1000000 || '-' || i %% 4)::uuid,
       'b0000000-0000-0000-0000-000000000000'::uuid, i
from (select i, %(day)s::timestamptz + i * (interval '1 day' / %(rows)s) as at, who, a, b, c,
             (array['EWR', 'JFK', 'LGA'])[1 + who %% 3] as stratum,
             (array[0.5, 0.25, 1.0])[1 + who %% 3]::float8 as chance,
             1 / (1 + exp(-3 * (a + who %% 50 / 100.0 - 0.75))) as live,
             1 / (1 + exp(-3 * (0.8 * a + 0.2 * b + who %% 50 / 100.0 - 0.75))) as shadow, c < 0.002 as failed
      from (select i, random() as a, random() as b, random() as c, (random() * %(clusters)s)::integer as who
            from generate_series(0, %(rows)s - 1) i) drawn) said
"""
_LABELS = """
insert into gnomon.labels (stream_id, request_id, observed_at, value, label, load_id)
select %(stream)s, p.request_id, p.event_time + interval '1 hour' * (1 + 20 * random()), y,
       case y when 1 then 'yes' else 'no' end, %(load)s
from (select request_id, event_time, (random() < 0.5 * (live_value + coalesce(shadow_value, 0.5)))::integer as y
      from gnomon.pairs where deployment_id = %(deployment)s and event_time >= %(day)s::timestamptz
                          and event_time < %(day)s::timestamptz + interval '1 day') p
where random() < 0.97
"""


def fill(
    url: str, pairs: int, say: Callable[[str], None] = lambda _: None, challengers: int = 1, days: int = DAYS
) -> datetime:
    """Insert `pairs` pairs over some days into the database, nine in ten the challengers', the rest a control's.

    Returns the end of the last day (UTC). Two connections fill days in turn; statistics are gathered at the end.
    """
    end = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first = end - timedelta(days=days)
    with psycopg.connect(url, autocommit=True) as connection:
        stream, load, deployments = _subjects(connection, end, challengers)
        for number in range(days):
            connection.execute("select gnomon.ensure_partition(%s, %s)", [stream, first + timedelta(days=number)])
    jobs = [
        {"deployment": deployment, "name": "r", "day": first + timedelta(days=number), "first": number * 1_000_000,
         "rows": int(pairs * share / (10 * days)), "clusters": max(pairs // 100, 50), "stream": stream, "load": load}
        for number in range(days)
        for deployment, share in zip(deployments, (*[9 / challengers] * challengers, 1), strict=True)
    ]  # fmt: skip

    def work(own: Sequence[dict[str, Any]]) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            for job in own:
                connection.execute(_PAIRS, job)
                if job["deployment"] == deployments[0]:
                    connection.execute(_LABELS, job)

    with ThreadPoolExecutor(WORKERS) as workers:
        list(workers.map(work, (jobs[number::WORKERS] for number in range(WORKERS))))
    say("pairs and labels are in")
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in (*_LEDGER, "vacuum analyze gnomon.pairs", "vacuum analyze gnomon.labels", "analyze"):
            connection.execute(statement)
    return end


def last_day(url: str) -> datetime:
    """Return the end of the last day of a database that was filled before."""
    with psycopg.connect(url) as connection:
        row = connection.execute("select max(complete_until) from gnomon.label_loads").fetchone()
    assert row is not None
    end: datetime = row[0]
    return end


def _subjects(connection: psycopg.Connection[Any], end: datetime, challengers: int) -> tuple[int, int, list[int]]:
    """Insert the stream with its features, a complete load of labels, the challengers and a control."""

    def new(statement: str, *arguments: object) -> int:
        row = connection.execute(statement, arguments).fetchone()
        assert row is not None
        return int(row[0])

    stream = new("insert into gnomon.streams (name) values (%s) returning stream_id", STREAM)
    load = new(
        "insert into gnomon.label_loads (stream_id, file, sha256, complete_until) values (%s, 'f', '', %s)"
        " returning load_id",
        stream,
        end,
    )
    made = "insert into gnomon.deployments (stream_id, name, role) values (%s, %s, %s) returning deployment_id"
    for kind, number in (("numeric", NUMBERS), ("text", TEXTS)):
        connection.execute(
            "insert into gnomon.feature_columns (stream_id, name, kind, position, avro_type)"
            " select %s, %s || ' ' || n, %s, n, '' from generate_series(1, %s) n",
            [stream, kind, kind, number],
        )
    names = ["challenger", *(f"challenger-{number}" for number in range(2, challengers + 1))]
    made_each = [new(made, stream, name, "challenger") for name in names]
    return stream, load, [*made_each, new(made, stream, "control", "control")]


_LEDGER = ("""
insert into gnomon.windows (deployment_id, source_partition, start_offset, end_offset, window_id, tick_id,
    first_captured_at, last_captured_at, opened_at, sealed_at, close_reason, lag_s, seed, policy, seen, joined_seen,
    shadow_offset)
select deployment_id, source_partition, min(source_offset), max(source_offset) + 1, window_id, window_id,
       min(event_time), max(event_time), min(event_time), max(event_time), 'time', 1, 7, 'p', sum(weight), sum(weight),
       max(source_offset)
from gnomon.pairs group by deployment_id, source_partition, window_id
""", """
insert into gnomon.cells (deployment_id, source_partition, start_offset, stratum, seen, sampled, draw_probability,
    scored, failed, timed_out, dead_lettered, joined_seen, joined_scored, joined_failed)
select w.deployment_id, w.source_partition, w.start_offset, p.stratum, sum(p.weight), count(*), 1,
       count(*) filter (where p.outcome = 'scored'), count(*) filter (where p.outcome = 'failed'), 0, 0, sum(p.weight),
       count(*) filter (where p.outcome = 'scored'), count(*) filter (where p.outcome = 'failed')
from gnomon.pairs p join gnomon.windows w using (deployment_id, window_id) group by 1, 2, 3, 4
""", """
insert into gnomon.join_progress (deployment_id, source_partition, cluster_id, start_offset, model_name,
    model_version, model_sha256, seed, policy, started_at, next_source_offset, next_shadow_offset, event_time_reached,
    caught_up)
select deployment_id, source_partition, 'c', 0, 'm', '1', '', 7, 'p', min(first_captured_at), max(end_offset),
       max(end_offset), max(last_captured_at), true
from gnomon.windows group by 1, 2
""", """
insert into gnomon.rollups (deployment_id, hour, stratum, seen, sampled, scored, failed, comparable, agreed, weight,
    weight_squared, failed_weight, failed_weight_squared, comparable_weight, comparable_weight_squared, agreed_weight,
    agreed_weight_squared, valued, value_difference, value_difference_absolute, value_difference_squared,
    value_difference_weight, squared_weight_value_difference, squared_weight_value_difference_absolute,
    squared_weight_value_difference_squared, squared_weight_value_difference_weight)
select deployment_id, date_trunc('hour', event_time, 'UTC'), stratum, sum(weight), count(*),
       count(*) filter (where outcome = 'scored'), count(*) filter (where outcome = 'failed'),
       count(*) filter (where outcome = 'scored'), count(*) filter (where live_label = shadow_label), sum(weight),
       sum(weight ^ 2), coalesce(sum(weight) filter (where outcome = 'failed'), 0),
       coalesce(sum(weight ^ 2) filter (where outcome = 'failed'), 0),
       sum(case when outcome = 'scored' then weight else 0 end),
       sum(case when outcome = 'scored' then weight ^ 2 else 0 end),
       sum(case when live_label = shadow_label then weight else 0 end),
       sum(case when live_label = shadow_label then weight ^ 2 else 0 end),
       count(d), coalesce(sum(weight * d), 0), coalesce(sum(weight * abs(d)), 0), coalesce(sum(weight * d ^ 2), 0),
       coalesce(sum(weight) filter (where d is not null), 0), coalesce(sum(weight ^ 2 * d), 0),
       coalesce(sum(weight ^ 2 * abs(d)), 0), coalesce(sum(weight ^ 2 * d ^ 2), 0),
       coalesce(sum(weight ^ 2) filter (where d is not null), 0)
from gnomon.pairs cross join lateral (select shadow_value - live_value as d) difference group by 1, 2, 3
""", """
insert into gnomon.rollup_labels (deployment_id, hour, live_label, shadow_label, pairs, weight, weight_squared)
select deployment_id, date_trunc('hour', event_time, 'UTC'), live_label, shadow_label, count(*), sum(weight),
       sum(weight ^ 2)
from gnomon.pairs where outcome = 'scored' group by 1, 2, 3, 4
""")  # fmt: skip
