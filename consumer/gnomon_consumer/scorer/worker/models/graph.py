"""The class labels in an ONNX graph: they identify the label output and name the scores."""

from collections.abc import Iterator, Mapping
from typing import Any

from onnx import numpy_helper

Labels = tuple[str, ...]
_ATTRIBUTES = ("classlabels_strings", "classlabels_int64s", "classlabels_ints")
_SAME = ("Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten")
_FROM_LIST = ("ArrayFeatureExtractor", "Gather")
_MOST_STEPS, _MOST_CLASSES = 50, 100_000


def own_labels(model: Any) -> dict[str, Labels]:
    """Return the class labels of each output of a parsed model that returns a label or a map of scores."""
    made_by = {output: node for node in model.graph.node for output in node.output}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    found = {}
    for output in model.graph.output:
        labels = _labels(output.name, made_by, constants)
        if labels:
            found[output.name] = labels
    return found


def _labels(name: str, made_by: Mapping[str, Any], constants: Mapping[str, Any]) -> Labels:
    """Walk back from an output, through nodes that change only type or shape, to the node that holds the labels."""
    for _ in range(_MOST_STEPS):
        node = made_by.get(name)
        if node is None or not node.input:
            return ()
        if listed := tuple(_listed(node)):
            # A classifier's first output is the label, its second one holds scores.
            return listed if node.op_type == "ZipMap" or node.output[0] == name else ()
        if node.op_type in _FROM_LIST and node.input[0] in constants:
            return _constant(constants[node.input[0]])
        if node.op_type not in _SAME:
            return ()
        name = node.input[0]
    return ()


def _listed(node: Any) -> Iterator[str]:
    for attribute in node.attribute:
        if attribute.name in _ATTRIBUTES:
            yield from (one.decode("utf-8", "replace") for one in attribute.strings)
            yield from map(str, attribute.ints)


def _constant(tensor: Any) -> Labels:
    """Return a constant of texts or whole numbers as labels; empty for anything else."""
    size = 1
    for dim in tensor.dims:
        size *= dim
    if not 0 < size <= _MOST_CLASSES or tensor.external_data:
        return ()
    try:
        array = numpy_helper.to_array(tensor).reshape(-1)
    except (ValueError, TypeError):
        return ()
    if array.dtype.kind in "iu":
        return tuple(map(str, array.tolist()))
    if array.dtype.kind in "OSU":
        return tuple(one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one) for one in array.tolist())
    return ()
