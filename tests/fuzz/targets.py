"""The fuzz targets: each takes any bytes, and raises only what its product function documents."""

import contextlib
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from gnomon_consumer.labels.files import read_labels
from gnomon_consumer.settings import load_settings
from gnomon_schemas.codec import Reader, peek
from gnomon_schemas.columnar import ColumnarReader
from gnomon_schemas.errors import ConfigurationError, DecodeError
from gnomon_schemas.store import ChainedSchemas, MemorySchemas, packaged_schemas
from tests.support.logs import FEATURES


@cache
def _readers() -> tuple[Reader, ColumnarReader]:
    schemas = ChainedSchemas(packaged_schemas(), MemorySchemas([FEATURES.live]))
    return Reader(schemas), ColumnarReader(schemas)


def decoding(data: bytes) -> None:
    """Decode a framed message: the columnar reader gives the reference's values, or refuses what it refuses."""
    reference, columnar = _readers()
    try:
        record = reference.decode(data).record
    except DecodeError:
        record = None
    batches = columnar.decode([data])
    assert (record is None) == bool(batches.errors), batches.errors
    if record is not None:
        (decoded,) = batches.groups[0].records()
        assert repr(decoded) == repr(record), "repr: a NaN does not equal itself"


def peeking(data: bytes) -> None:
    """Read the few fields of a capture that are read without decoding it."""
    with contextlib.suppress(DecodeError):
        peek(data)


def settings(data: bytes) -> None:
    """Read a configuration file."""
    with tempfile.NamedTemporaryFile(suffix=".toml") as file:
        Path(file.name).write_bytes(data)
        with contextlib.suppress(ConfigurationError):
            load_settings({}, file.name)


def labels(data: bytes) -> None:
    """Read a file of labels: CSV, or JSON Lines if it begins like that."""
    suffix = ".jsonl" if data.lstrip()[:1] == b"{" else ".csv"
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        Path(file.name).write_bytes(data)
        with contextlib.suppress(ConfigurationError):
            for _ in read_labels(Path(file.name), {}, "fuzz"):
                pass


TARGETS: dict[str, Callable[[bytes], None]] = {
    "decoding": decoding,
    "peeking": peeking,
    "settings": settings,
    "labels": labels,
}
CORPUS = Path(__file__).with_name("corpus")
