"""A commented `gnomon.toml`, generated from the settings, so that the file and the settings always agree."""

import json
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from gnomon_consumer.sections import Section
from gnomon_consumer.settings import Settings, environment_name

WIDTH = 100

HEAD = """\
# Configuration of Gnomon. A flag overrides the environment (GNOMON_…), which overrides this file.
# Lines that begin with '#' show the defaults; remove the '#' to change one.
"""


def commented_file(stream: str) -> str:
    """Return the text of a `gnomon.toml` for this stream, with every other setting as a comment."""
    lines = [HEAD]
    own, sections = _parts(Settings)
    for name, field in own:
        lines += _setting(name, name, field, {"stream": stream}.get(name))
    for name, section in sections:
        lines += _table(name, section)
    return "\n".join(lines).rstrip() + "\n"


def _parts(model: type[BaseModel]) -> tuple[list[tuple[str, Any]], list[tuple[str, type[Section]]]]:
    """Return the settings of a pydantic model, and its sections."""
    own, sections = [], []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            sections.append((name, field.annotation))
        else:
            own.append((name, field))
    return own, sections


def _table(name: str, section: type[Section]) -> list[str]:
    own, sections = _parts(section)
    lines = [f"[{name}]", ""]
    for key, field in own:
        lines += _setting(key, f"{name}.{key}", field, None)
    for key, inner in sections:
        lines += _table(f"{name}.{key}", inner)
    return lines


def _setting(key: str, path: str, field: Any, given: Any) -> list[str]:
    """Return the lines for one setting: description, environment variable, and the commented assignment."""
    description = f"# {field.description}  ({environment_name(path)})"
    default = field.get_default(call_default_factory=True)
    value = given if given is not None else EXAMPLES.get(path, default)
    if value is None or value is PydanticUndefined:
        return [description, f"# {key} =", ""]
    shown = "{}" if value == {} else json.dumps(value)
    return [description, f"{'' if given is not None else '# '}{key} = {shown}", ""]


# What has no default is shown by an example.
EXAMPLES = {"database_url": "postgresql://gnomon@localhost:5432/gnomon"}
