"""A worker process: frames of captures on standard input, frames of outcomes on standard output.

It starts in the sandbox (see `keeper` and `sandbox`), with a clean environment and no credentials, and ends with its
parent.
"""

import contextlib
import os
import resource
import time
from pathlib import Path
from typing import Any, BinaryIO

from gnomon_consumer.runtime.memory import collect_rarely, leave_out_pandas
from gnomon_consumer.scorer.worker import encoding, gpu, models, opens, pipe, process_limit, sandbox
from gnomon_consumer.scorer.worker.models import opened
from gnomon_consumer.scorer.worker.models.base import LIVE_ITEMS, list_widths
from gnomon_consumer.scorer.worker.models.callable import locate
from gnomon_consumer.scorer.worker.scoring import BatchScorer
from gnomon_schemas.errors import ConfigurationError, GnomonError
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.framing import unframe
from gnomon_schemas.schema import Schema
from gnomon_schemas.store import MemorySchemas


def main(held: dict[str, str], opens_channel: opens.KeeperChannel) -> None:
    """Serve frames until the parent closes the pipe.

    `held` is the report on its sandbox, `opens_channel` knows the files that it opens.
    """
    # The protocol gets separate descriptors, so that a model that prints does not break it.
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)  # without Landlock no file can be opened for writing
    os.dup2(null, 0)
    os.dup2(2, 1)
    try:
        header, texts = pipe.read(source)
        scorer = _load(header, texts, sink, held, opens_channel)
        meter = None if scorer is None else gpu.open_meter(int(held["pid"]))
        while scorer is not None:
            header, blobs = pipe.read(source)
            _serve(scorer, header, blobs, sink, meter)
    except (pipe.WireError, BrokenPipeError, KeyboardInterrupt):
        pass
    finally:
        with contextlib.suppress(OSError):
            sink.close()


def _now_us() -> int:
    return time.time_ns() // 1000


def _load(
    header: dict[str, Any], texts: list[bytes], sink: BinaryIO, held: dict[str, str], opens_channel: opens.KeeperChannel
) -> BatchScorer | None:
    """Load and bind the model, and report it; print a refusal as one line and exit with its status."""
    if "refused" in held:
        pipe.write(sink, {"op": "refused", "message": held["refused"], "status": ConfigurationError.exit_status})
        return None
    processes = int(header["processes"])
    try:
        schemas = MemorySchemas()
        _learn(schemas, texts, header["keys"])
        spec = models.ModelSpec(**header["model"])
        if spec.kind != "callable":  # a Python model may give Arrow what pandas holds
            leave_out_pandas()
        features = FeatureSchema.in_live(Schema.parse(texts[-1])).features
        folder = Path(header["folder"])
        opens_channel.begin()
        with opened.recorded() as recorded:
            runner = models.load_without_doubt(spec, features, folder)
        paths, unseen = opens_channel.end()
        files = recorded.digests(folder, locate(spec.location, folder), paths) if spec.kind == "callable" else {}
        spec = spec.covering(files)
    except GnomonError as error:
        pipe.write(sink, {"op": "refused", "message": str(error), "status": error.exit_status})
        return None
    except BaseException as error:  # noqa: BLE001 - a model's own code may raise anything, and may exit
        text = process_limit.explained(error, processes)
        pipe.write(sink, {"op": "refused", "message": f"the model cannot be loaded: {text}", "status": 2})
        return None
    encoding.warm_up()
    collect_rarely()
    pipe.write(
        sink,
        {
            "op": "ready",
            "sandbox": held,
            "reading": runner.reading,
            "files": files,
            "unseen": unseen,
            "widths": list_widths(runner.inputs, (*features, LIVE_ITEMS)),
        },
    )
    return BatchScorer(spec, runner, schemas, now_us=_now_us, processes=processes)


def _learn(schemas: MemorySchemas, texts: list[bytes], keys: list[str]) -> None:
    for text, key in zip(texts, keys, strict=True):
        schemas.add_schema(Schema.parse(text), unframe(bytes.fromhex(key)).key)


def _serve(
    scorer: BatchScorer, header: dict[str, Any], blobs: list[bytes], sink: BinaryIO, meter: gpu.GpuMeter | None
) -> None:
    known = len(header["keys"])
    _learn(scorer.schemas, blobs[:known], header["keys"])
    rows = pipe.unpacked(header["partition"], header["cells"], blobs[known:])

    def starting(index: int) -> None:
        pipe.write(sink, {"op": "progress", "row": index})

    sandbox.limit_cpu(header["cpu_seconds"])
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    careful = starting if header["careful"] else None
    scored = scorer.score(rows, header["window"], header["sealed_at"], header["single"], careful)
    after = resource.getrusage(resource.RUSAGE_SELF)
    on_gpu = gpu.NOTHING if meter is None else meter.read()
    cpu = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    columns = scored.columns
    present, buffers = (
        ([], [scored.codes, *pipe.joined(scored.messages)]) if columns is None else pipe.taken_apart(columns)
    )
    pipe.write(
        sink,
        {
            "op": "done",
            "present": present,
            "seconds": time.perf_counter() - began,
            "cpu_us": round(1e6 * cpu),
            "peak_rss_bytes": after.ru_maxrss * 1024,
            "gpu_us": on_gpu.us,
            "gpu_peak_bytes": on_gpu.bytes,
            "dead": [[row, reason, detail] for row, (reason, detail) in scored.dead.items()],
            "unbound_writers": scorer.new_unbound_writers(),
        },
        buffers,
    )
