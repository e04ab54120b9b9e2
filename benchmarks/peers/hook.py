"""One service that publishes its predictions in one way, under load:

python -m benchmarks.peers.hook NAME BOOTSTRAP RATE SECONDS THREADS

A request takes 25 features, computes a small model, and publishes features and answer the way the contender does; a
RATE of 0 is as fast as it goes. The process prints percentiles of the publishing call and of the whole request, in
microseconds, the requests a second, and how many calls did not keep what they were given.
"""

import asyncio
import io
import json
import sys
import threading
import time
import uuid
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.peers.publishing import CONTENDERS, PRODUCER, TOPIC, Lost, Publish, envelope, live_schema, predict, row

WARM_UP = 500
_clock = time.perf_counter_ns


@dataclass
class Load:
    """What one thread does: requests at a steady rate, or one after another, and their times in nanoseconds."""

    step_ns: int
    first_ns: int
    until_ns: int
    calls: list[int] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)
    refused: int = 0

    def numbers(self) -> Iterator[tuple[int, float]]:
        """Yield a number and the seconds to sleep before its request; one that is late makes no other one early."""
        due, number = self.first_ns, 0
        while (now := _clock()) < self.until_ns:
            if self.step_ns:
                due = max(due + self.step_ns, now - 10 * self.step_ns)
            yield number, max(0, due - now) / 1e9 if self.step_ns else 0.0
            number += 1

    def serve(self, publish: Publish) -> None:
        """Serve requests."""
        for number, wait in self.numbers():
            if wait:
                time.sleep(wait)
            features, request_id = row(number), str(uuid.uuid4())
            began = _clock()
            value = predict(features)
            calling = _clock()
            try:
                publish(request_id, features, value)
            except BufferError:
                self.refused += 1
            ended = _clock()
            self.calls.append(ended - calling)
            self.requests.append(ended - began)


def loads(rate: float, seconds: float, threads: int) -> list[Load]:
    """Return the threads' shares of the load."""
    step = int(threads * 1e9 / rate) if rate else 0
    start = _clock()
    until = start + int(seconds * 1e9)
    return [Load(step, start + number * step // threads, until) for number in range(threads)]


def summary(done: list[Load], seconds: float, lost: int) -> dict[str, float]:
    """Return percentiles in microseconds, without the warm-up."""
    found: dict[str, float] = {}
    for name in ("calls", "requests"):
        taken = [getattr(load, name) for load in done]
        ordered = sorted(value for values in taken for value in values[min(WARM_UP // len(done), len(values) // 5) :])
        for label, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999)):
            found[f"{name[:-1]}_{label}"] = ordered[int(len(ordered) * share)] / 1000
    made = sum(len(load.calls) for load in done)
    refused = lost + sum(load.refused for load in done)
    return found | {"requests_per_second": made / seconds, "lost": float(refused), "made": float(made)}


def on_threads(name: str, bootstrap: str, rate: float, seconds: float, threads: int) -> dict[str, float]:
    """Serve with an ordinary contender."""
    done: list[Load] = []
    lost = 0
    try:
        with CONTENDERS[name](bootstrap) as publish:
            publish(str(uuid.uuid4()), row(0), 0.5)  # connections and imports are not measured
            done = loads(rate, seconds, threads)
            others = [threading.Thread(target=load.serve, args=(publish,)) for load in done[1:]]
            for other in others:
                other.start()
            done[0].serve(publish)
            for other in others:
                other.join()
    except Lost as outcome:
        (lost,) = outcome.args
    return summary(done, seconds, lost)


async def aiokafka(bootstrap: str, rate: float, seconds: float, tasks: int) -> dict[str, float]:
    """Serve the same requests on an event loop; its threads are tasks."""
    import fastavro
    from aiokafka import AIOKafkaProducer

    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=PRODUCER["linger.ms"], compression_type="lz4")
    await producer.start()
    schema = fastavro.parse_schema(live_schema())

    async def publish(request_id: str, features: dict[str, Any], value: float) -> Awaitable[Any]:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, schema, envelope(0, request_id, features, value))
        sent: Awaitable[Any] = await producer.send(TOPIC, key=request_id.encode(), value=out.getvalue())
        return sent

    async def serve(load: Load) -> None:
        for number, wait in load.numbers():
            await asyncio.sleep(wait)
            features, request_id = row(number), str(uuid.uuid4())
            began = _clock()
            value = predict(features)
            calling = _clock()
            await publish(request_id, features, value)
            ended = _clock()
            load.calls.append(ended - calling)
            load.requests.append(ended - began)

    await publish(str(uuid.uuid4()), row(0), 0.5)
    done = loads(rate, seconds, tasks)
    await asyncio.gather(*map(serve, done))
    await producer.stop()
    return summary(done, seconds, 0)


def main() -> None:
    name, bootstrap, rate, seconds, threads = sys.argv[1:]
    load = (bootstrap, float(rate), float(seconds), int(threads))
    print(json.dumps(asyncio.run(aiokafka(*load)) if name == "aiokafka" else on_threads(name, *load)))


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[2] / part) for part in ("producer", "schemas")]
    main()
