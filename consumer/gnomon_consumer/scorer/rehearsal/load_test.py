"""The load test: captures of the live topic against a model at a given rate, as a caller would send them.

Open loop: a request is due at its time whether or not the earlier ones are answered, and its response time counts
from then. So a model that cannot keep up shows long response times (no coordinated omission).
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from confluent_kafka import TopicPartition

from gnomon_consumer.kafka import clients, log_reading
from gnomon_consumer.scorer.captures import Row, Rows
from gnomon_consumer.scorer.pool.jobs import Job
from gnomon_consumer.scorer.pool.pool import Pool
from gnomon_consumer.scorer.pool.startup import ready_workers
from gnomon_consumer.scorer.rehearsal.warm_up import check_warm_up, rehearse
from gnomon_consumer.scorer.worker.models import ModelSpec
from gnomon_consumer.settings import Settings
from gnomon_schemas.codec import Reader
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.store import packaged_schemas
from gnomon_schemas.topics import Topics

_READ_SECONDS = 30.0
_WARM_UP_ROWS = 200
GROUP_MS = 5.0
_MOST_TOGETHER, _NEWEST = 64, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """The measurements. Times in milliseconds; `response` from the due time, `service` of the model alone."""

    requests: int
    rows: int
    failed: int
    offered_per_second: float
    achieved_per_second: float
    response_ms: dict[str, float]
    service_ms: dict[str, float]
    cpu_seconds: float
    cpu_cores: float
    peak_rss_bytes: int
    batch: int

    def __str__(self) -> str:
        times = [
            f"{name:<10} " + "  ".join(f"{key} {value:.2f} ms" for key, value in figures.items())
            for name, figures in (("response", self.response_ms), ("service", self.service_ms))
        ]
        return "\n".join(
            (
                f"requests   {self.requests} of {self.batch} rows, {self.failed} rows failed",
                f"rate       {self.achieved_per_second:.1f}/s of {self.offered_per_second:g}/s offered",
                *times,
                f"CPU        {self.cpu_seconds:.2f} s, {self.cpu_cores:.2f} cores",
                f"memory     {self.peak_rss_bytes / 2**20:.0f} MiB at most in a worker",
            )
        )


def measure(
    settings: Settings,
    model: ModelSpec,
    allow_network: bool,
    captures: int,
    rate: float,
    batch: int,
    stopping: Callable[[], bool],
) -> LoadReport | None:
    """Send the newest captures to warm workers; None when stopped before. Raises GnomonError."""
    rows = read_captures(settings, Topics(settings.require_stream(), settings.topic_prefix).live, captures)
    with ready_workers(settings, model, stopping, allow_network) as workers:
        if workers is None:
            return None
        while not workers.schemas.ready([row.value for row in rows], time.monotonic()) and not stopping():
            time.sleep(0.2)  # the topic does not announce a new schema
        found, _ = rehearse(workers.pool, rows[:_WARM_UP_ROWS], batch, stopping)
        if found:
            check_warm_up(found, made_up=False, allow_failing=True)
        return run(workers.pool, rows, rate, batch, stopping)


def read_captures(settings: Settings, topic: str, count: int) -> list[Row]:
    """Return the newest captures of the live topic, at most `count`, over all partitions."""
    reader = clients.make_consumer(settings, defaults={"enable.partition.eof": True})
    try:
        metadata = clients.list_topics(settings, topic, reader)
        described = metadata.topics[topic]
        if described.error is not None or not described.partitions:
            raise ConfigurationError(f"the topic {topic} does not exist")
        wanted, starts = 0, []
        for partition in described.partitions:
            low, high = log_reading.watermarks(settings, reader, TopicPartition(topic, partition))
            first = max(low, high - count)
            wanted += high - first
            starts.append(TopicPartition(topic, partition, first))
        reader.assign(starts)
        rows: list[tuple[int, Row]] = []  # with the timestamp of its message
        deadline = time.monotonic() + _READ_SECONDS
        while len(rows) < wanted and time.monotonic() < deadline:
            for message in reader.consume(1000, timeout=0.2):
                key, value = message.key(), message.value()
                if message.error() is None and isinstance(key, bytes) and isinstance(value, bytes):
                    row = Row(message.partition() or 0, message.offset() or 0, key, value, None, 0, 1.0)
                    rows.append((message.timestamp()[1], row))
                elif message.error() is None:
                    wanted -= 1
        if not rows:
            raise ConfigurationError(f"the topic {topic} holds no captures to replay")
        rows.sort(key=lambda pair: pair[0])
        # A job has one partition, and its rows are different captures; here the index in the test serves as offset and
        # rank.
        return [row._replace(partition=0, offset=at) for at, (_, row) in enumerate(rows[-count:])]
    finally:
        reader.close()


def run(
    pool: Pool,
    rows: Sequence[Row],
    rate: float,
    batch: int,
    stopping: Callable[[], bool],
    clock: Callable[[], float] = time.perf_counter,
) -> LoadReport:
    """Send `rows` in requests of `batch` rows, `rate` requests a second; returns when all are answered.

    If the model is fast, due requests of one row go to a worker together. The worker scores each by itself, so that the
    fixed cost of a job, about a millisecond, does not count as the model's. The requests are also answered together, so
    their response times are too high by at most GROUP_MS of service time.
    """
    requests, sent = math.ceil(len(rows) / batch), 0
    left = np.full(requests, batch)
    left[-1] = len(rows) - batch * (requests - 1)
    reader = Reader(packaged_schemas())
    responses: list[float] = []
    services: list[float] = []
    failed = cpu_us = peak = 0
    began = clock()
    while len(responses) < requests and not stopping():
        due = min(requests, math.floor((clock() - began) * rate) + 1) - sent
        for free in range(pool.free, 0, -1):
            share = min(math.ceil(due / free), _together(services) if batch == 1 else 1)
            if share > 0:
                pool.submit(_job(rows, sent * batch, min(len(rows), (sent + share) * batch), single=batch == 1))
                sent, due = sent + share, due - share
        next_due = 0.05 if due or sent == requests else began + sent / rate - clock()
        pause = min(0.05, max(0.0005, next_due))
        if not pool.busy:
            time.sleep(pause)
        for finished in pool.poll(wait=pause):
            cpu_us += finished.cpu_us
            peak = max(peak, finished.peak_rss_bytes)
            for scored in finished.scored:
                failed += scored.status != "scored"
                outcome = reader.decode(scored.message).record
                if outcome["latency_us"] is not None:
                    services.append(outcome["latency_us"] / 1000)
            answered, count = np.unique(finished.places // batch, return_counts=True)
            left[answered] -= count
            responses += [1000 * (clock() - began - at / rate) for at in answered[left[answered] == 0].tolist()]
    elapsed = max(clock() - began, 1e-9)
    return LoadReport(
        requests=len(responses),
        rows=len(services),
        failed=failed,
        offered_per_second=rate,
        achieved_per_second=len(responses) / elapsed,
        response_ms=percentiles(responses),
        service_ms=percentiles(services),
        cpu_seconds=cpu_us / 1e6,
        cpu_cores=cpu_us / 1e6 / elapsed,
        peak_rss_bytes=peak,
        batch=batch,
    )


def _together(services: Sequence[float]) -> int:
    """Return how many requests of one row a job may have, by the newest service times in milliseconds."""
    newest = services[-_NEWEST:]
    return min(_MOST_TOGETHER, max(1, int(GROUP_MS * len(newest) / max(sum(newest), 1e-3)))) if newest else 1


def _job(rows: Sequence[Row], start: int, end: int, single: bool) -> Job:
    now_us = time.time_ns() // 1000
    return Job(
        window_id=f"load-{start}",
        partition=0,
        sealed_at=now_us,
        rows=Rows.of(rows[start:end]),
        places=np.arange(start, end),
        single=single,
    )


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return p50, p95, p99 and the maximum, by the nearest rank; empty without values."""
    ordered = sorted(values)
    if not ordered:
        return {}
    points = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {name: ordered[math.ceil(p * len(ordered)) - 1] for name, p in points.items()}
