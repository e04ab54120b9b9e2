"""The SHA-256 and the version of a Python model cover all files that it loads, not only its factory's source."""

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
import xgboost
from tests.support.live_stream import FEATURES, sum_model

from gnomon_consumer.scorer.pool.pool import Pool
from gnomon_consumer.scorer.worker import launch, models
from gnomon_consumer.scorer.worker.models import ModelSpec
from gnomon_consumer.scorer.worker.sandbox import Limits
from gnomon_schemas.errors import ConfigurationError

SOURCE = """
import ctypes, os, pickle
import numpy as np
import weights_of
def make():
    factor = np.load("weights.npy")
    with open(os.path.join("data", "names.pkl"), "rb") as stream:
        pickle.load(stream)
    {more}
    class Model:
        files = {files}
        def predict(self, columns):
            return factor * columns["amount"]
    return Model()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "names.pkl").write_bytes(b"\x80\x04N.")
    (tmp_path / "weights_of.py").write_text("A = 1\n")
    np.save(tmp_path / "weights.npy", np.array(2.0))
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, more: str = "pass", files: str = "()") -> None:
    (folder / "own.py").write_text(SOURCE.format(more=more, files=files))


def opened_by_pool(hidden: tuple[str, ...] = ()) -> Pool:
    """A closed pool that has loaded the model."""
    pool = Pool(1, models.describe("own:make"), Limits(2**32, hidden=hidden), call_seconds=20.0)
    try:
        pool.start(FEATURES.live)
        return pool
    finally:
        pool.close()


def loaded(sha256: str | None = None, workers: int = 1) -> ModelSpec:
    """Return the model as a sandboxed worker has loaded it."""
    pool = Pool(workers, models.describe("own:make", sha256=sha256), Limits(2**31), call_seconds=20.0)
    try:
        pool.start(FEATURES.live)
        return pool.model
    finally:
        pool.close()


def changed(folder: Path, name: str) -> None:
    path = folder / name
    if path.suffix == ".npy":
        np.save(path, np.array(3.0))
    elif path.suffix == ".py":
        path.write_text(path.read_text() + "# other\n")
    else:
        path.write_bytes(path.read_bytes() + b"\n")


@pytest.mark.timeout(300)
def test_whatever_it_opens_changes_its_hash_and_its_version(folder: Path) -> None:
    seen = [loaded(workers=2)]
    assert loaded() == seen[0], "the same files, the same model"
    for name in ("weights.npy", "data/names.pkl", "weights_of.py", "own.py"):
        changed(folder, name)
        seen.append(loaded())
    assert len({one.sha256 for one in seen}) == len(seen)
    assert [one.version for one in seen] == [one.sha256[:12] for one in seen]
    (folder / "of_nobody.txt").write_text("x")
    assert loaded() == seen[-1]
    assert loaded(seen[-1].sha256) == models.ModelSpec(**{**seen[-1].as_json(), "required": seen[-1].sha256})
    with pytest.raises(ConfigurationError, match=r"with what it opens while loading \(data/names.pkl, weights.npy"):
        loaded(seen[0].sha256)


OPENINGS = {
    "in C": "ctypes.CDLL(None).open(b'model.bin', 0)",
    "in C, elsewhere": "ctypes.CDLL(None).open(b'{elsewhere}/model.bin', 0)",
    "in C, from a folder's descriptor": "folder = os.open('{elsewhere}', os.O_RDONLY);"
    " ctypes.CDLL(None).openat(folder, b'model.bin', 0)",
    "in C, in a thread": "import threading;"
    " t = threading.Thread(target=ctypes.CDLL(None).open, args=(b'model.bin', 0)); t.start(); t.join()",
    "in another process": "import subprocess;"
    " subprocess.run(['cat', 'model.bin'], check=True, stdout=subprocess.DEVNULL)",
    "after a change of folder": "os.chdir('{elsewhere}'); ctypes.CDLL(None).open(b'model.bin', 0)",
}  # fmt: skip


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", OPENINGS)
def test_a_file_that_python_does_not_open_counts_too(folder: Path, tmp_path_factory: Any, how: str) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    files = [place / "model.bin" for place in (folder, elsewhere)]
    for file in files:
        file.write_bytes(b"1")
    write(folder, OPENINGS[how].format(elsewhere=elsewhere))
    first = loaded()
    assert loaded() == first
    for file in files:
        file.write_bytes(b"2")
    assert loaded().sha256 != first.sha256


@pytest.mark.timeout(300)
def test_models_that_a_library_loads_itself(folder: Path) -> None:
    booster = xgboost.train({"max_depth": 1}, xgboost.DMatrix([[0.0], [1.0]], [0.0, 1.0]), 1)
    booster.save_model(folder / "model.ubj")
    data = lightgbm.Dataset(np.arange(40.0).reshape(-1, 1), np.arange(40.0))
    lightgbm.train({"verbose": -1}, data, 1).save_model(folder / "model.txt")
    sum_model(folder / "model.onnx", "amount")
    write(
        folder,
        "import lightgbm, onnxruntime, xgboost; xgboost.Booster(model_file='model.ubj');"
        " lightgbm.Booster(model_file='model.txt'); onnxruntime.InferenceSession('model.onnx')",
    )
    assert {"model.ubj", "model.txt", "model.onnx", "weights.npy"} <= set(opened_by_pool().files)


@pytest.mark.timeout(300)
def test_a_file_that_the_model_names_counts(folder: Path) -> None:
    (folder / "later.bin").write_bytes(b"1")
    write(folder, files="('later.bin',)")
    first = loaded()
    (folder / "later.bin").write_bytes(b"2")
    assert loaded().sha256 != first.sha256
    (folder / "later.bin").unlink()
    with pytest.raises(ConfigurationError, match=r"`files` names 'later\.bin', which does not exist"):
        loaded()


def test_where_the_kernel_shows_nothing_it_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A keeper that may not read the worker's memory, such as root without CAP_SYS_PTRACE, says so."""
    program = launch._READ.replace("/mem", "/no_such_file").replace("errno.ENOENT", "errno.EBADF")
    assert program != launch._READ
    monkeypatch.setattr(launch, "_READ", program)
    assert "its memory cannot be read" in opened_by_pool().unseen


def test_a_hidden_file_that_the_model_tries_is_left_out(folder: Path) -> None:
    (folder / ".env").write_text("SECRET=1")
    write(folder, "import contextlib\n    with contextlib.suppress(OSError): open('.env')")
    pool = opened_by_pool(hidden=(str(folder / ".env"),))
    assert "weights.npy" in pool.files
    assert ".env" not in pool.files


def test_a_model_of_one_file_has_the_hash_of_that_file(folder: Path) -> None:
    (folder / "own.py").write_text("def make():\n    return lambda columns: columns['amount']\n")
    assert loaded().sha256 == models.describe("own:make").sha256
