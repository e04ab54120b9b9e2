"""The permitted content of an ONNX file: standard operators, and data in its own folder that the SHA-256 covers too."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import onnx
import onnx.defs
from google.protobuf.message import DecodeError

from gnomon_consumer.scorer.worker.models import external
from gnomon_schemas.errors import ConfigurationError

_DOMAINS = {"": "", "ai.onnx": "", "ai.onnx.ml": "ai.onnx.ml"}


@dataclass(frozen=True)
class Inspected:
    """A parsed model, and the sorted names of the files next to it that hold its tensors."""

    model: Any
    external: tuple[str, ...]


def inspect(content: bytes, path: Path) -> Inspected:
    """Raise ConfigurationError that names forbidden content: other operators, data elsewhere, or not an ONNX file."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError:
        raise ConfigurationError(f"{path}: not an ONNX file") from None
    if not model.graph.node:
        raise ConfigurationError(f"{path}: not an ONNX file, or one without any operator")
    local = {(function.domain, function.name) for function in model.functions}
    nodes = [node for function in model.functions for node in function.node]
    for node in _nodes([*model.graph.node, *nodes]):
        known = (_DOMAINS.get(node.domain, node.domain), node.op_type)
        if known not in _allowed() and (node.domain, node.op_type) not in local:
            name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            raise ConfigurationError(f"{path}: the operator {name!r} is not one of the ONNX standard's")
    files = {_location(tensor, path) for tensor in _tensors(model) if _lies_elsewhere(tensor)}
    return Inspected(model, tuple(sorted(files)))


def _lies_elsewhere(tensor: Any) -> bool:
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data)


def _location(tensor: Any, path: Path) -> str:
    locations = [entry.value for entry in tensor.external_data if entry.key == "location"]
    if len(locations) != 1:
        raise ConfigurationError(f"{path}: the tensor {tensor.name!r} is in another file, which is not named")
    return external.own_file(path, locations[0]).name


@cache
def _allowed() -> frozenset[tuple[str, str]]:
    return frozenset(
        (schema.domain, schema.name) for schema in onnx.defs.get_all_schemas() if schema.domain in _DOMAINS.values()
    )


def _nodes(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _nodes(graph.node)


def _tensors(model: Any) -> Iterator[Any]:
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        yield from _node_tensors(function.node)


def _graph_tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors)
            for sparse in (*([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),):
                yield from (sparse.values, sparse.indices)
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graph_tensors(graph)
