"""What an ONNX file may hold: operators of the standard only, and everything within the one file that was pinned."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import onnx
import onnx.defs
from google.protobuf.message import DecodeError

from gnomon_schemas.errors import ConfigurationError

_DOMAINS = {"": "", "ai.onnx": "", "ai.onnx.ml": "ai.onnx.ml"}


def inspect(content: bytes, path: Path) -> None:
    """Raise ConfigurationError that names what is not allowed: other operators, external data, no ONNX at all."""
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
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ConfigurationError(f"{path}: the tensor {tensor.name!r} lies in another file; save the model as one")


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
