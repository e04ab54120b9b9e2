"""The sidecar of a model: one YAML file written by hand. Its scalars are texts as they are written.

YAML 1.1 reads `no`, `on`, `007` and `1.10` as false, true, 7 and 1.1. Here they may be names of classes, so every
scalar is read as its text.
"""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from gnomon_consumer.scorer.worker.models.names import NOTHING, classes_in, names_in
from gnomon_schemas.errors import ConfigurationError

ROLES = ("value", "label", "scores")
TASKS = ("classification", "regression", "ranking")
Roles = str | None | tuple[str | None, ...]
"""The roles of an output: one for all of it, none, or one (or none) for each of its columns."""

_MAX_BYTES = 1_000_000
_MAX_BATCH = 1_000_000


class _Texts(yaml.BaseLoader):
    """A loader that returns texts, lists and mappings only, and refuses a repeated key."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [one.value for one, _ in node.value if isinstance(one, yaml.ScalarNode)]
        twice = next((key for at, key in enumerate(keys) if key in keys[:at]), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice!r} occurs twice", node.start_mark)
        result: dict[Any, Any] = super().construct_mapping(node, deep)
        return result


def load_texts(path: Path) -> Mapping[str, Any]:
    """Return a YAML mapping whose scalars are texts; raise ConfigurationError that names the file."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigurationError(f"{path}: over the limit of {_MAX_BYTES} bytes")
        loaded = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Texts)  # noqa: S506 - it creates only texts
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path}: not YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(loaded, dict):
        raise ConfigurationError(f"{path}: not a mapping of keys to values")
    return loaded


def read(path: Path) -> dict[str, Any]:
    """Return the content of a sidecar as the fields of a Signature; raise ConfigurationError with file and key."""
    loaded = load_texts(path)
    for key in loaded:
        if key not in _READERS:
            raise ConfigurationError(f"{path}: unknown key {key!r}{nearest(key, _READERS)}")
    said: dict[str, Any] = {}
    for key, value in loaded.items():
        said |= _READERS[key](value, f"{path}: `{key}`")
    return said


def nearest(name: Any, known: Any) -> str:
    """Return the existing names in brackets, after the most similar one, if there is one."""
    listed = sorted(map(str, known))
    close = get_close_matches(str(name), listed, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f" ({hint}there are: {', '.join(listed[:50]) or 'none'})"


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if value in NOTHING:
        return {}
    if not isinstance(value, dict):
        raise ConfigurationError(f"{where} is not a mapping of names to values")
    return value


def _text(value: Any, where: str) -> str | None:
    if not isinstance(value, str):
        raise ConfigurationError(f"{where} is not a text")
    return None if value in NOTHING else value


def _features(value: Any, where: str) -> dict[str, Any]:
    return {"features": names_in(value, where)}


def _inputs(value: Any, where: str) -> dict[str, Any]:
    """Return each input: one feature, a list of features, or a mapping of `features` and `datatype`."""
    inputs: dict[str, tuple[str, ...]] = {}
    datatypes: dict[str, str] = {}
    for name, said in _mapping(value, where).items():
        here = f"{where}, input {name!r}"
        if isinstance(said, dict):
            unknown = next((key for key in said if key not in ("features", "datatype")), None)
            if unknown is not None:
                raise ConfigurationError(f"{here}: unknown key {unknown!r}{nearest(unknown, ('features', 'datatype'))}")
            datatype = _text(said.get("datatype", ""), f"{here}, datatype")
            if datatype is not None:
                datatypes[name] = datatype.upper()
            said = said.get("features", name)
        one = isinstance(said, str) and said.strip()[:1] not in ("[", "{", "(")
        inputs[name] = (said,) if one and said not in NOTHING else names_in(said, here)
    return {"inputs": inputs, "datatypes": datatypes}


def _outputs(value: Any, where: str) -> dict[str, Any]:
    return {"outputs": {name: _roles(said, f"{where}, {name!r}") for name, said in _mapping(value, where).items()}}


def _roles(said: Any, where: str) -> Roles:
    if isinstance(said, list):
        return tuple(_role(one, where) for one in said)
    return _role(said, where)


def _role(said: Any, where: str) -> str | None:
    if said in NOTHING:
        return None
    if not isinstance(said, str) or said not in ROLES:
        shown = repr(said[:50]) if isinstance(said, str) else "not a text"
        raise ConfigurationError(f"{where} is {shown}, not one of {', '.join(ROLES)} or null")
    return said


def _classes(value: Any, where: str) -> dict[str, Any]:
    classes, class_names = classes_in(value, where)
    return {"classes": classes, "class_names": class_names}


def _positive(value: Any, where: str) -> dict[str, Any]:
    return {"positive": _text(value, where)}


def _task(value: Any, where: str) -> dict[str, Any]:
    task = _text(value, where)
    if task is not None and task not in TASKS:
        raise ConfigurationError(f"{where} is {task[:50]!r}, not one of {', '.join(TASKS)}")
    return {"task": task}


def _missing(value: Any, where: str) -> dict[str, Any]:
    said = _mapping(value, where)
    for name, default in said.items():
        if not isinstance(default, str):
            raise ConfigurationError(f"{where}, {name!r} is not one value")
    return {"missing": dict(said)}


def _batch(value: Any, where: str) -> dict[str, Any]:
    text = _text(value, where)
    if text is None:
        return {"batch": None}
    if not (text.isascii() and text.isdigit() and 1 <= len(text) <= 7 and 1 <= int(text) <= _MAX_BATCH):
        raise ConfigurationError(f"{where} is {text[:50]!r}, not a number of rows from 1 to {_MAX_BATCH}")
    return {"batch": int(text)}


def _for_people(value: Any, where: str) -> dict[str, Any]:
    _text(value, where)
    return {}


_READERS: Mapping[str, Callable[[Any, str], dict[str, Any]]] = {
    "features": _features,
    "inputs": _inputs,
    "outputs": _outputs,
    "classes": _classes,
    "positive": _positive,
    "task": _task,
    "missing": _missing,
    "batch": _batch,
    "name": _for_people,
    "version": _for_people,
}
