"""Latency by the probe under strata: 90% of the requests take 2 ms, a stratum of 10% takes 20 ms, 20% are sampled."""

import uuid
from datetime import timedelta
from typing import Any

import numpy as np
from psycopg.rows import dict_row
from tests.support.report_database import START, Database

from gnomon_consumer.scorer.sampling.allocation import seal
from gnomon_consumer.scorer.sampling.probe import probe_of, window_draw
from gnomon_consumer.scorer.sampling.ranks import ranker_of_many
from gnomon_consumer.scorer.sampling.reservoir import Reservoir, Sample, joined

APPROXIMATE = "approximate: an earlier version chose part of the probe; one day only: no interval for days like these"

WINDOWS, CAPTURES, SAMPLED, PROBE = 150, 2000, 400, 32


def latency(db: Database) -> dict[float, dict[str, Any]]:
    with db.connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute("select * from report_v1.latency('s') where measure = 'shadow'").fetchall()
    return {row["quantile"]: row for row in rows}


def test_p95_of_a_slow_stratum(db: Database) -> None:
    rng, ranks, every, rows = np.random.default_rng(1), ranker_of_many(7), [], []
    for window in range(WINDOWS):
        slow = rng.random(CAPTURES) < 0.1
        took = rng.lognormal(np.log(np.where(slow, 20_000, 2_000)), 0.3).astype(int)
        every.append(took)
        ids = [f"w{window}-{at}".encode() for at in range(CAPTURES)]
        rank = ranks(ids)
        strata: dict[str, Reservoir[int]] = {}
        for name in (False, True):
            at = np.flatnonzero(slow == name)
            strata[str(name)] = Reservoir(200_000)
            strata[str(name)].offer(Sample(rank[at], [ids[i] for i in at], at.astype(np.int64), at.tolist()))
        cells = seal({0: strata}, SAMPLED, "default", lambda _: 0)[0]
        probes = probe_of(cells, PROBE, "default", window_draw(str(window)))
        captures = joined([cell.sample for cell in cells]).payloads
        chance = np.repeat([cell.inclusion_probability for cell in cells], [len(cell.sample) for cell in cells])
        probed = np.concatenate([
            np.where(np.isin(np.arange(len(cell.sample)), probe.places), probe.probability, np.nan)
            for cell, probe in zip(cells, probes, strict=True)
        ])  # fmt: skip
        rows += [
            {
                "request_id": f"w{window}-{capture}",
                "event_time": START + timedelta(minutes=10 * window, milliseconds=capture),
                "stratum": str(slow[capture]),
                "inclusion_probability": float(chance[at]),
                "probe_probability": None if np.isnan(probed[at]) else float(probed[at]),
                "live_latency_us": int(took[capture]),
                "shadow_latency_us": int(took[capture]),
                "shadow_batch_size": 64 if np.isnan(probed[at]) else 1,
                "window_id": uuid.UUID(int=window),
                "live_label": "a",
                "shadow_label": "a",
            }
            for at, capture in enumerate(captures)
        ]
    db.add_pairs(rows)
    truth = np.concatenate(every)
    found = latency(db)
    for quantile in (0.5, 0.95):
        row = found[quantile]
        assert row["status"] == "the interval rests on 2 days"
        assert abs(row["microseconds"] / np.quantile(truth, quantile) - 1) < 0.05
        assert abs(row["weight"] / len(truth) - 1) < 1e-9


def test_windows_of_an_earlier_version_say_that_they_are_approximate(db: Database) -> None:
    db.add_pairs([{"shadow_latency_us": 1000 + at} for at in range(10)])
    db.connection.execute(
        "insert into gnomon.windows (deployment_id, source_partition, start_offset, end_offset, window_id, tick_id,"
        " opened_at, sealed_at, close_reason, lag_s, seed, policy, seen, joined_seen, shadow_offset, probe_approximate)"
        " values (%s, 0, 0, 10, %s, %s, %s, %s, 'time', 0, 0, 'p', 10, 10, 0, true)",
        [db.deployments["new"], uuid.UUID(int=1), uuid.UUID(int=1), START, START],
    )
    assert latency(db)[0.5]["status"] == APPROXIMATE
