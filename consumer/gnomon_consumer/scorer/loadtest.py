"""The load test: captures of the live topic against a model at a given rate, as a caller would send them.

Open loop: a request is due at its time whether or not the ones before it are answered, and its response time counts
from then, so a model that cannot keep up shows it (no coordinated omission).
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from confluent_kafka import TopicPartition

from gnomon_consumer import kafka
from gnomon_consumer.scorer.crew import started
from gnomon_consumer.scorer.jobs import Job
from gnomon_consumer.scorer.models import ModelSpec
from gnomon_consumer.scorer.pool import Pool
from gnomon_consumer.scorer.rehearsal import rehearse
from gnomon_consumer.scorer.rows import Row, Rows
from gnomon_consumer.settings import Settings
from gnomon_schemas.codec import Reader
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.store import packaged_schemas
from gnomon_schemas.topics import Topics

_READ_SECONDS = 30.0
_WARM_UP_ROWS = 200


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What was measured. Times in milliseconds; `response` from the due time, `service` of the model alone."""

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
    with started(settings, model, stopping, allow_network) as crew:
        if crew is None:
            return None
        while not crew.gate.ready([row.value for row in rows], time.monotonic()) and not stopping():
            time.sleep(0.2)
        rehearse(crew.pool, rows[:_WARM_UP_ROWS], batch, stopping)
        return run(crew.pool, rows, rate, batch, stopping)


def read_captures(settings: Settings, topic: str, count: int) -> list[Row]:
    """The newest captures of the live topic, at most `count`, whatever partition they lie in."""
    reader = kafka.make_consumer(settings, defaults={"enable.partition.eof": True})
    try:
        metadata = kafka.list_topics(settings, topic, reader)
        described = metadata.topics[topic]
        if described.error is not None or not described.partitions:
            raise ConfigurationError(f"the topic {topic} does not exist")
        wanted, places = 0, []
        for partition in described.partitions:
            low, high = reader.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=settings.kafka.timeout_seconds
            )
            first = max(low, high - count)
            wanted += high - first
            places.append(TopicPartition(topic, partition, first))
        reader.assign(places)
        rows: list[tuple[int, Row]] = []  # with the time it was sent
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
        return [row for _, row in rows[-count:]]
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
    """Send `rows` in requests of `batch` rows, `rate` requests a second; returns when all are answered."""
    jobs = [
        Job(
            f"load-{at}",
            0,
            time.time_ns() // 1000,
            Rows.of(rows[at : at + batch]),
            np.arange(at, min(at + batch, len(rows))),
            batch == 1,
        )
        for at in range(0, len(rows), batch)
    ]
    began = clock()
    due = {job.window_id: began + number / rate for number, job in enumerate(jobs)}
    left = {job.window_id: len(job.rows) for job in jobs}
    reader = Reader(packaged_schemas())
    responses: list[float] = []
    services: list[float] = []
    failed = cpu_us = peak = sent = 0
    while left and not stopping():
        now = clock()
        while sent < len(jobs) and due[jobs[sent].window_id] <= now:
            pool.submit(jobs[sent])
            sent += 1
        pause = 0.05 if sent == len(jobs) else min(0.05, max(0.0005, due[jobs[sent].window_id] - clock()))
        if not pool.busy:
            time.sleep(pause)
        for finished in pool.poll(wait=pause):
            name = finished.job.window_id
            cpu_us += finished.cpu_us
            peak = max(peak, finished.peak_rss_bytes)
            for scored in finished.scored:
                failed += scored.status != "scored"
                outcome = reader.decode(scored.message).record
                if outcome["latency_us"] is not None:
                    services.append(outcome["latency_us"] / 1000)
            left[name] -= len(finished.scored)
            if left[name] <= 0:
                del left[name]
                responses.append(1000 * (clock() - due[name]))
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


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and the maximum, by the nearest rank; empty without values."""
    ordered = sorted(values)
    if not ordered:
        return {}
    points = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {name: ordered[math.ceil(p * len(ordered)) - 1] for name, p in points.items()}
