"""What is fuzzed: each target takes any bytes, and raises nothing but what its product function promises."""

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
    """A framed message: the columnar reader takes what the reference takes, and refuses what it refuses."""
    reference, columnar = _readers()
    try:
        reference.decode(data)
        taken = True
    except DecodeError:
        taken = False
    batches = columnar.decode([data])
    assert taken == (not batches.errors), batches.errors


def peeking(data: bytes) -> None:
    """The few fields that are read of a capture without decoding it."""
    with contextlib.suppress(DecodeError):
        peek(data)


def settings(data: bytes) -> None:
    """A configuration file."""
    with tempfile.NamedTemporaryFile(suffix=".toml") as file:
        Path(file.name).write_bytes(data)
        with contextlib.suppress(ConfigurationError):
            load_settings({}, file.name)


def labels(data: bytes) -> None:
    """A file of labels: CSV, or JSON Lines where it begins like it."""
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
