"""Tables of features in files: CSV with a header, Parquet, JSON-lines."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from gnomon_schemas.errors import ConfigurationError


def read_table(path: Path, texts: Iterable[str] = ()) -> pa.Table:
    """Return the whole file; its name determines the format (.parquet, .pq, .jsonl, .ndjson, .json; else CSV).

    `texts`: columns of a CSV file that are text even where they look like numbers. Raises ConfigurationError.
    """
    try:
        if path.suffix.lower() in {".parquet", ".pq"}:
            return pyarrow.parquet.read_table(path)
        if path.suffix.lower() in {".jsonl", ".ndjson", ".json"}:
            return pyarrow.json.read_json(path)
        options = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(texts, pa.string()))
        return pyarrow.csv.read_csv(path, convert_options=options)
    except (OSError, pa.ArrowException) as error:
        raise ConfigurationError(f"{path}: {' '.join(str(error).split())}") from error


def is_number(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds numbers; true and false count as 1 and 0."""
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind))
