"""A worker process: frames of captures on standard input, frames of outcomes on standard output.

It starts with a clean environment and no credentials, gives up what it can (see `sandbox`), and ends with its parent.
"""

import contextlib
import os
import resource
import time
import traceback
from pathlib import Path
from typing import Any, BinaryIO

from gnomon_consumer.collector import collect_rarely
from gnomon_consumer.scorer import gpu, models, outcomes, sandbox, wire
from gnomon_consumer.scorer.scoring import Scorer
from gnomon_schemas.errors import GnomonError
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.framing import unframe
from gnomon_schemas.schema import Schema
from gnomon_schemas.store import MemorySchemas


def main(held: dict[str, str]) -> None:
    """Serve frames until the parent closes the pipe; `held`: what the keeper could take away."""
    # The protocol gets descriptors of its own: a model that prints must not break it.
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    try:
        header, texts = wire.read(source)
        host_pid = int(Path("/proc/self").readlink().name)  # before this process has a /proc of its own namespace
        scorer = _load(header, texts, sink, held)
        meter = None if scorer is None else gpu.open_meter(host_pid)
        while scorer is not None:
            header, blobs = wire.read(source)
            _serve(scorer, header, blobs, sink, meter)
    except (wire.WireError, BrokenPipeError, KeyboardInterrupt):
        pass
    finally:
        with contextlib.suppress(OSError):
            sink.close()


def _now_us() -> int:
    return time.time_ns() // 1000


def _load(header: dict[str, Any], texts: list[bytes], sink: BinaryIO, held: dict[str, str]) -> Scorer | None:
    """Give up privileges, load and bind the model, and say so; a refusal is one line and the status to end with."""
    try:
        sandbox.enter(sandbox.Limits(**header["limits"]))
        schemas = MemorySchemas()
        _learn(schemas, texts, header["keys"])
        spec = models.ModelSpec(**header["model"])
        features = FeatureSchema.in_live(Schema.parse(texts[-1])).features
        runner = models.load(spec, features, Path(header["folder"]))
    except GnomonError as error:
        wire.write(sink, {"op": "refused", "message": str(error), "status": error.exit_status})
        return None
    except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
        text = "".join(traceback.format_exception_only(error)).strip()
        wire.write(sink, {"op": "refused", "message": f"the model cannot be loaded: {text}", "status": 2})
        return None
    outcomes.warm_up()
    collect_rarely()
    wire.write(sink, {"op": "ready", "sandbox": held})
    return Scorer(spec, runner, schemas, _now_us)


def _learn(schemas: MemorySchemas, texts: list[bytes], keys: list[str]) -> None:
    for text, key in zip(texts, keys, strict=True):
        schemas.add(Schema.parse(text), unframe(bytes.fromhex(key)).key)


def _serve(
    scorer: Scorer, header: dict[str, Any], blobs: list[bytes], sink: BinaryIO, meter: gpu.GpuMeter | None
) -> None:
    known = len(header["keys"])
    _learn(scorer.schemas, blobs[:known], header["keys"])
    rows = wire.unpacked(header["partition"], header["cells"], blobs[known:])

    def starting(index: int) -> None:
        wire.write(sink, {"op": "progress", "row": index})

    sandbox.limit_cpu(header["cpu_seconds"])
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    careful = starting if header["careful"] else None
    scored = scorer.score(rows, header["window"], header["sealed_at"], header["single"], careful)
    after = resource.getrusage(resource.RUSAGE_SELF)
    on_gpu = gpu.NOTHING if meter is None else meter.read()
    cpu = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    wire.write(
        sink,
        {
            "op": "done",
            "seconds": time.perf_counter() - began,
            "cpu_us": round(1e6 * cpu),
            "peak_rss_bytes": after.ru_maxrss * 1024,
            "gpu_us": on_gpu.us,
            "gpu_peak_bytes": on_gpu.bytes,
            "dead": [[row, reason, detail] for row, (reason, detail) in scored.dead.items()],
        },
        [scored.codes, *wire.joined(scored.messages)],
    )
