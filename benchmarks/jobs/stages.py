"""Single stages in one process, without a broker: CPU time a row, compared with the plain way, in one run."""

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from confluent_kafka import Message

from benchmarks.harness import workload
from benchmarks.harness.running import Measured
from benchmarks.peers.common import Scoring
from gnomon_consumer.joiner.merge.matches import Matches
from gnomon_consumer.joiner.merge.shadow_records import read_shadow
from gnomon_consumer.joiner.pairs.assemble import LooseMatches, assemble
from gnomon_consumer.joiner.pairs.copy_format import copy_bytes
from gnomon_consumer.joiner.pairs.feature_layout import Layout
from gnomon_consumer.scorer.captures import Row, Rows
from gnomon_consumer.scorer.intake.drain import fresh
from gnomon_consumer.scorer.sampling.open_window import AssignmentToken
from gnomon_consumer.scorer.sealed.sealer import ReadingPosition, Sealer
from gnomon_consumer.scorer.worker import models
from gnomon_consumer.scorer.worker.models import ModelSpec
from gnomon_consumer.scorer.worker.scoring import BatchScorer
from gnomon_consumer.settings import ScoreSettings
from gnomon_schemas.columnar import ColumnarCodec, ColumnarReader
from gnomon_schemas.encoder import compile_encoder
from gnomon_schemas.schema import record_schema
from gnomon_schemas.store import MemorySchemas

ROWS = 1024
LOOP = "score: plain loop, one at a time"
OURS = "score: Gnomon's worker, 1,024 at a time"
COLUMNS = "decode: in columns, proved"
PAIRS = "join: both logs to the bytes of COPY"
SAMPLE = "drain: counted, ranked and sampled"
MARKED = "drain: the same, a marker after every ten"
HOOK = "hook: encode, one at a time"
Stage = Callable[[], object]


def stages(folder: Path) -> dict[str, Stage]:
    """Return stages, each of which works on ROWS captures a call; `folder` holds the model."""
    features = workload.features()
    workload.write(folder, features)
    live, shadow = features.live, record_schema("ShadowPrediction")
    drawn = list(workload.captures(features, ROWS))
    messages = [message for _, message in drawn]
    rows = Rows.of([Row(0, at, key.encode(), message, None, at, 1.0) for at, (key, message) in enumerate(drawn)])
    model = folder / "trees.onnx"
    spec = ModelSpec(
        kind="onnx",
        location=str(model),
        sha256=hashlib.sha256(model.read_bytes()).hexdigest(),
        name="trees",
        version="1",
    )
    schemas = MemorySchemas([live, shadow])
    scorer = BatchScorer(
        spec, models.load(spec, features.features, folder), schemas, now_us=lambda: time.time_ns() // 1000
    )
    plain, columnar = Scoring(folder), ColumnarCodec(live)
    decoded = [plain.codec.decode(message) for message in messages]
    outcomes = [one.message for one in scorer.score(rows, "0" * 8, 0, single=False)]
    reader = ColumnarReader(schemas)
    names = tuple(feature.name for feature in features.features)
    layout = Layout(names[:20], names[20:], frozenset())

    sealer = Sealer(ScoreSettings(), 100.0, no_sampling=False, now=0.0, now_us=lambda: 0)
    position = ReadingPosition(AssignmentToken(0), 0, 0.0)
    consumed = [Message(key=key.encode(), value=value, offset=at) for at, (key, value) in enumerate(drawn)]
    # A live topic written in transactions of ten captures: every eleventh offset is a marker.
    marked = [Message(key=key.encode(), value=value, offset=at + at // 10) for at, (key, value) in enumerate(drawn)]
    encode = compile_encoder(live.json, header=live.fingerprint.header)

    def sample(messages: Sequence[Message]) -> object:
        sealer.add_messages(position, *fresh(messages, 0))
        return sealer.seal("time", 0.0, 0)

    def join() -> bytes:
        matches = Matches(read_shadow(reader, outcomes).outcomes, list(messages), [""] * len(messages))
        return copy_bytes(assemble(1, [LooseMatches(matches)], reader, lambda _: layout).batch)

    return {
        COLUMNS: lambda: columnar.decode(messages),
        LOOP: lambda: [plain.one(message, 0, at) for at, message in enumerate(messages)],
        OURS: lambda: scorer.score(rows, "0" * 8, 0, single=False),
        PAIRS: join,
        SAMPLE: lambda: sample(consumed),
        MARKED: lambda: sample(marked),
        HOOK: lambda: [encode(record) for record in decoded],
    }


def measured(stage: Stage, seconds: float = 0.3) -> Measured:
    """CPU time a row over calls that take `seconds` of it, after one call that does not count."""
    stage()
    calls, began, wall = 0, time.process_time(), time.perf_counter()
    while (cpu := time.process_time() - began) < seconds:
        stage()
        calls += 1
    count = calls * ROWS
    return Measured(count, count / (time.perf_counter() - wall), 1e6 * cpu / count, 0)
