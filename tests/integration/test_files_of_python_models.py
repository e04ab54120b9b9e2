"""The SHA-256 and the version of a Python model cover all files that it loads, not only its factory's source."""

from pathlib import Path

import numpy as np
import pytest
from tests.support.live_stream import FEATURES

from gnomon_consumer.scorer.pool.pool import Pool
from gnomon_consumer.scorer.worker import models
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


@pytest.mark.timeout(300)
def test_a_file_that_a_library_in_c_opens_counts_where_the_model_names_it(folder: Path) -> None:
    (folder / "model.bin").write_bytes(b"1")
    write(folder, "ctypes.CDLL(None).open(b'model.bin', 0)", "('model.bin',)")
    first = loaded()
    (folder / "model.bin").write_bytes(b"2")
    assert loaded().sha256 != first.sha256
    (folder / "model.bin").unlink()
    with pytest.raises(ConfigurationError, match=r"`files` names 'model\.bin', which does not exist"):
        loaded()


def test_a_model_of_one_file_has_the_hash_of_that_file(folder: Path) -> None:
    (folder / "own.py").write_text("def make():\n    return lambda columns: columns['amount']\n")
    assert loaded().sha256 == models.describe("own:make").sha256
