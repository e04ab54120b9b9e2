"""Users' CSV, Parquet and JSON-lines files, plain or compressed: detect the format and read them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pyarrow import csv

from gnomon_schemas.errors import ConfigurationError

FileKind = Literal["csv", "parquet", "json"]
SUFFIXES: dict[str, FileKind] = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
}
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}
_COMPRESSED_SUFFIXES = frozenset({".gz", ".bz2", ".zst"})
DELIMITERS = (",", ";", "\t", "|")
_HEAD_BYTES = 65_536


def kind_of(path: Path) -> FileKind:
    """Return the format by a file's name (`labels.csv.gz` is CSV); raise ConfigurationError."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSED_SUFFIXES:
        suffixes.pop()
    kind = SUFFIXES.get(suffixes[-1]) if suffixes else None
    if kind is None:
        raise ConfigurationError(f"{path}: the name must end in {', '.join(SUFFIXES)}, with or without .gz")
    return kind


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a file for reading as an Arrow stream; detect compression by the first bytes and decompress."""
    with path.open("rb") as file:
        head = file.read(4)
    compression = next((name for magic, name in _COMPRESSED.items() if head.startswith(magic)), None)
    with pa.input_stream(str(path), compression=compression) as stream:
        yield stream


def delimiter_of(path: Path) -> str:
    """Return the delimiter in the header of a CSV file: comma, semicolon, tab or bar."""
    with opened(path) as stream:
        header = bytes(stream.read(_HEAD_BYTES)).partition(b"\n")[0].decode("utf-8", "replace")
    unquoted = "".join(header.split('"')[::2])
    return max(DELIMITERS, key=lambda one: (unquoted.count(one), -DELIMITERS.index(one)))


def csv_options(delimiter: str) -> csv.ParseOptions:
    """Return the parse options for a CSV file with this delimiter; quoted values may span lines."""
    return csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)


def refuse_repeated(path: Path, names: list[str]) -> None:
    """Raise ConfigurationError if two columns have one name, because it is unclear which one is meant."""
    repeated = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if repeated is not None:
        raise ConfigurationError(f"{path} has two columns named {repeated!r}")
