"""The messages of the Open Inference Protocol v2: tensors as JSON, and in the binary extension of an answer. No I/O."""

import base64
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from gnomon_consumer.scorer.worker.models.tensor import Tensor
from gnomon_schemas.errors import ConfigurationError

LENGTH = "Inference-Header-Content-Length"
"""The header with the length of the JSON before the bytes of the binary extension."""

_DTYPES: Mapping[str, Any] = {
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "BOOL": np.bool_,
    "BYTES": object,
    "STRING": object,  # as some servers call it
}


def tensor(said: Any) -> Tensor:
    """Return a tensor as the metadata describes it; raise ConfigurationError."""
    try:
        kind = str(said["datatype"])
        dims = tuple(dim if isinstance(dim, int) and dim >= 0 else None for dim in map(_dim, said["shape"]))
        return Tensor(str(said["name"]), _DTYPES.get(kind), dims, declared=kind)
    except (KeyError, TypeError):
        raise ConfigurationError(f"the server describes a tensor as {str(said)[:100]}") from None


def _dim(dim: Any) -> Any:
    """Convert numbers that some servers write as texts."""
    return int(dim) if isinstance(dim, str) and dim.removeprefix("-").isdecimal() else dim


def undescribed(name: str, datatype: str = "FP64") -> Tensor:
    """Return a tensor of a server that sends no metadata; raise ConfigurationError for an unknown type."""
    if datatype not in _DTYPES:
        raise ConfigurationError(
            f"input {name!r}: {datatype[:50]!r} is not a datatype (there are: {', '.join(_DTYPES)})"
        )
    return Tensor(name, _DTYPES[datatype], (None, None), declared=datatype)


def request(feed: Mapping[str, NDArray[Any]], types: Mapping[str, str], outputs: Iterable[str]) -> bytes:
    """Return the body of a request: flat data, row by row. JSON has no NaN, so null represents it."""
    inputs = [
        {"name": name, "shape": list(value.shape), "datatype": types[name], "data": _data(value)}
        for name, value in feed.items()
    ]
    return json.dumps({"inputs": inputs, "outputs": [{"name": name} for name in outputs]}, allow_nan=False).encode()


def _data(value: NDArray[Any]) -> list[Any]:
    flat = value.reshape(-1).tolist()
    return flat if value.dtype.kind != "f" else [None if math.isnan(one) else one for one in flat]


def parted(text: bytes, length: str | None) -> tuple[dict[str, Any], bytes]:
    """Return the JSON of an answer and the bytes after it, `length` being the LENGTH header; raise ValueError."""
    end = len(text)
    if length is not None:
        if not length.isdecimal() or int(length) > end:
            raise ValueError(f"the server's answer has the header {LENGTH}: {length[:20]}, of {end} bytes")
        end = int(length)
    try:
        loaded = json.loads(text[:end])
    except (ValueError, RecursionError):
        raise ValueError(f"the server's answer is not JSON: {complaint(text)}") from None
    if not isinstance(loaded, dict):
        raise ValueError("the server's answer is not a JSON object")  # noqa: TRY004 - bad data, not a bad argument
    return loaded, text[end:]


def outputs(said: Mapping[str, Any], tail: bytes) -> dict[str, NDArray[Any]]:
    """Return the outputs of an answer by name; raise ValueError that names the output at fault."""
    listed = said.get("outputs")
    if not isinstance(listed, list):
        raise ValueError(f"the server's answer has no outputs: {str(said)[:200]}")  # noqa: TRY004 - bad data
    values: dict[str, NDArray[Any]] = {}
    at = 0
    for one in listed:
        name = one.get("name") if isinstance(one, dict) else None
        try:
            kind, shape = _DTYPES[one["datatype"]], [int(_dim(dim)) for dim in one["shape"]]
            size = (one.get("parameters") or {}).get("binary_data_size")
            if size is None:
                values[str(name)] = _from_json(one["data"], kind).reshape(shape)
                continue
            values[str(name)] = _from_bytes(_piece(tail, at, size), kind).reshape(shape)
            at += size
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            text = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"the server's output {name!r} cannot be read: {text[:200]}") from None
    return values


def _piece(tail: bytes, at: int, size: Any) -> bytes:
    if not isinstance(size, int) or not 0 <= size <= len(tail) - at:
        raise ValueError(f"it is in the binary extension, with {size!r} bytes, of which {len(tail) - at} are there")
    return tail[at : at + size]


def _from_json(data: Any, kind: Any) -> NDArray[Any]:
    """Return flat or nested data, as servers send it, as an array; null becomes NaN."""
    if kind is object:
        return np.array(list(_flat(data)), dtype=object)
    flat = [np.nan if one is None else one for one in _flat(data)]
    if any(not isinstance(one, (int, float)) for one in flat):
        raise ValueError("its data are not numbers")
    if np.dtype(kind).kind in "iub" and any(isinstance(one, float) for one in flat):
        raise ValueError(f"its data are not {np.dtype(kind).name}")
    return np.array(flat, dtype=kind)


def _flat(data: Any) -> Iterable[Any]:
    if not isinstance(data, list):
        raise TypeError("its data are not a list")
    for one in data:
        if isinstance(one, list):
            yield from _flat(one)
        else:
            yield one


def _from_bytes(raw: bytes, kind: Any) -> NDArray[Any]:
    if kind is not object:
        return np.frombuffer(raw, np.dtype(kind).newbyteorder("<"))
    texts, at = [], 0
    while at < len(raw):  # four bytes of length, then the text
        length = int.from_bytes(raw[at : at + 4], "little")
        if at + 4 + length > len(raw):
            raise ValueError("a text of the binary extension is cut off")
        texts.append(raw[at + 4 : at + 4 + length])
        at += 4 + length
    return np.array(texts, dtype=object)


def complaint(text: bytes) -> str:
    """Return the error text of an answer: its `error`, or its beginning."""
    try:
        said = json.loads(text)
        if isinstance(said, dict) and isinstance(said.get("error") or said.get("detail"), str):
            return str(said.get("error") or said.get("detail"))[:300]
    except (ValueError, RecursionError):
        pass
    return text[:200].decode("utf-8", "replace")


def basic(user: str | None, password: str | None) -> str | None:
    """Return the Authorization header for the user and password in an address, None without them."""
    if user is None:
        return None
    return "Basic " + base64.b64encode(f"{unquote(user)}:{unquote(password or '')}".encode()).decode()
