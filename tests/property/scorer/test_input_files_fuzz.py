"""Damaged files from outside: each is read, or refused in our own words. See also `test_sidecar_fuzz`."""

import contextlib
import gzip
import io
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.support.damaged_schemas import SEEDS, mutated, read_by_all

from gnomon_consumer.feature_inference import infer
from gnomon_consumer.feature_schemas import compare
from gnomon_consumer.labels.files import read_labels
from gnomon_consumer.scorer.rehearsal.examples import captures, read_examples
from gnomon_consumer.scorer.worker.models import describe
from gnomon_consumer.scorer.worker.models.graph import own_labels
from gnomon_consumer.scorer.worker.models.inspection import inspect
from gnomon_producer import Tap
from gnomon_producer.disabled import MisconfiguredTap
from gnomon_schemas.errors import ConfigurationError, SchemaError
from gnomon_schemas.features import FeatureSchema

QUICK, LONG = 60, 2_000
JUNK = (
    b"", b"\0", b"\xef\xbb\xbf", b"\xff", b"\n", b'"', b"'", b"[", b"]", b"{", b"}", b",", b":", b"null", b"NaN",
    b"1e999", b"9" * 40, b"-", b"\\u0000", b"\\ud800", "é".encode(), b"true", b"\\", b"x" * 300, b"007", b"\r\n", b";",
)  # fmt: skip


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Return the bytes with one to four places replaced, removed, repeated, cut off or filled with junk."""
    for _ in range(draw.randint(1, 4)):
        at, until = sorted((draw.randint(0, len(content)), draw.randint(0, len(content))))
        action = draw.randrange(6)
        if action == 0:
            content = content[:at] + draw.choice(JUNK) + content[at:]
        elif action == 1:
            content = content[:at] + content[at + draw.randint(1, 6) :]
        elif action == 2 and until - at < 500:
            content = content[:until] + content[at:until] + content[until:]
        elif action == 3:
            content = content[:at] + bytes([draw.randrange(256)]) + content[at + 1 :]
        elif action == 4:
            content = content[:at] + draw.choice(JUNK) + content[at + draw.randint(1, 12) :]
        elif draw.random() < 0.2:
            content = content[:at]
    return content


def of(*texts: object) -> tuple[bytes, ...]:
    return tuple(text if isinstance(text, bytes) else json.dumps(text).encode() for text in texts)


def parquet() -> bytes:
    table = pa.table({"request_id": ["a", "b"], "value": [1.0, None], "observed_at": [1_800_000_000_000_000] * 2})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="none")
    return sink.getvalue()


def onnx_file() -> bytes:
    node = helper.make_node(
        "LinearClassifier", ["x"], ["label", "scores"], domain="ai.onnx.ml", coefficients=[1.0, -1.0], intercepts=[0.0],
        classlabels_strings=["no", "yes"],
    )  # fmt: skip
    constant = numpy_helper.from_array(np.ones((1, 1), np.float32), "w")
    outside = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
    outside.data_location = TensorProto.EXTERNAL
    outside.external_data.add(key="location", value="tensors.bin")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "w"], ["x"]), node], "g",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info("label", TensorProto.STRING, [None]),
         helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, 2])], [constant, outside],
    )  # fmt: skip
    return bytes(helper.make_model(graph).SerializeToString())


CSV = b"request_id,value,label,observed_at\na,1.5,x,2026-01-02\n007,,y,2026-01-02T03:04:05Z\n"
LINES = of({"request_id": "a", "relevance": [0.5, 1], "items": ["i", "j"], "observed_at": "2026-01-02"})[0] + b"\n"
EXAMPLES = of({"features": {"a": 1.0, "b": "x"}, "value": 0.5, "label": "x", "scores": [0.5, 0.5], "items": ["x", "y"]})
MLMODEL = b'flavors:\n  onnx: {data: model.onnx}\nsignature:\n  inputs: \'[{"name": "a", "type": "double"}]\'\n'


def schema_files(path: Path, draw: random.Random) -> None:
    """A schema file in a live service, in the command, and compared with the version before."""
    tap = Tap.from_env(features=path, stream="shop", model=("m", "1"), bootstrap_servers="127.0.0.1:1")
    try:
        schema = FeatureSchema.of(path)
    except SchemaError:
        assert isinstance(tap, MisconfiguredTap)
        raise
    assert not isinstance(tap, MisconfiguredTap), "the hook takes what a reader takes"
    tap.close(0.0)
    with contextlib.suppress(SchemaError):
        compare(FeatureSchema.of(mutated(SEEDS[draw.randrange(2)], draw)), schema)
    if draw.random() < 0.1:
        read_by_all(schema, draw)


def labels(path: Path, draw: random.Random) -> None:
    for _ in read_labels(path, {}, "fuzz", delimiter=draw.choice([None, None, ";"])):
        pass


def examples(path: Path, _: random.Random) -> None:
    captures(FeatureSchema.of({"a": "double", "b": ["null", "string"]}).live, read_examples(path), path)


def samples(path: Path, _: random.Random) -> None:
    infer(path, "Features")


def onnx_files(path: Path, _: random.Random) -> None:
    describe(str(path))
    own_labels(inspect(path.read_bytes(), path).model)


def mlflow_folders(path: Path, _: random.Random) -> None:
    path.with_name("model.onnx").write_bytes(b"x")
    describe(str(path.parent))


KINDS: dict[str, tuple[str, tuple[bytes, ...], Callable[[Path, random.Random], None]]] = {
    "schema": ("features.avsc", of(*SEEDS), schema_files),
    "label CSV": ("labels.csv", (CSV, CSV.replace(b",", b";")), labels),
    "packed label": ("labels.csv.gz", (gzip.compress(CSV),), labels),
    "label line": ("labels.jsonl", (LINES, LINES * 2), labels),
    "label Parquet": ("labels.parquet", (parquet(),), labels),
    "golden answer": ("golden.jsonl", EXAMPLES, examples),
    "sample CSV": ("sample.csv", (CSV, b"id,n\n007,1\n,2\n"), samples),
    "sample line": ("sample.jsonl", (LINES,), samples),
    "sample Parquet": ("sample.parquet", (parquet(),), samples),
    "ONNX": ("model.onnx", (onnx_file(),), onnx_files),
    "MLmodel": ("MLmodel", (MLMODEL,), mlflow_folders),
}


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The hook logs each refusal, which is not what is tested here."""
    caplog.set_level(100)
    yield
    caplog.clear()


def run(kind: str, folder: Path, seeds: range) -> int:
    """Return how many damaged files were taken; anything but our own refusal fails the test."""
    name, contents, read = KINDS[kind]
    (folder / "tensors.bin").write_bytes(b"\0" * 4)
    path, taken = folder / name, 0
    for seed in seeds:
        draw = random.Random(seed)
        path.write_bytes(damaged(draw.choice(contents), draw))
        try:
            read(path, draw)
            taken += 1
        except (ConfigurationError, SchemaError) as refusal:
            if "\n" in str(refusal).strip():
                raise AssertionError(f"not one line: {refusal!r}") from refusal
        except Exception:  # what is wrong, with the file
            print(f"{kind}, seed {seed}: {path.read_bytes()[:500]!r}")
            raise
    return taken


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(kind: str, tmp_path: Path) -> None:
    run(kind, tmp_path, range(QUICK))


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_two_thousand_damaged_files(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taken = run(kind, tmp_path, range(1_000, 1_000 + LONG))
    with capsys.disabled():
        print(f"\n{LONG} damaged files of the kind {kind!r}: {taken} taken, {LONG - taken} refused in our own words")


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "../model.onnx", "", "~", "//", "sub"])
def test_names_that_no_file_can_have(name: str, tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text(json.dumps({"flavors": {"onnx": {"data": name}}}))
    with pytest.raises(ConfigurationError):
        describe(str(tmp_path))
    for location in (name, f"xgboost:{name}", f"{name}:make", f"{name}.onnx"):
        with pytest.raises(ConfigurationError):
            describe(location)
