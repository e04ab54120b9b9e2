"""A commented `gnomon.toml`, drawn from the settings themselves so that it cannot say anything else than they do."""

import json
from typing import Any

from pydantic_core import PydanticUndefined

from gnomon_consumer.settings import Section, Settings, environment_name

WIDTH = 100

HEAD = """\
# Configuration of Gnomon. A flag goes before the environment (GNOMON_…), which goes before this file.
# Lines that begin with '#' show the defaults; take the '#' away to change one.
"""


def commented_file(stream: str) -> str:
    """The text of a `gnomon.toml` for this stream, every other setting shown as a comment."""
    lines = [HEAD]
    sections: list[tuple[str, type[Section]]] = []
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            sections.append((name, field.annotation))
            continue
        lines += _setting(name, name, field, {"stream": stream}.get(name))
    for name, section in sections:
        lines += [f"[{name}]", ""]
        for key, field in section.model_fields.items():
            lines += _setting(key, f"{name}.{key}", field, None)
    return "\n".join(lines).rstrip() + "\n"


def _setting(key: str, path: str, field: Any, given: Any) -> list[str]:
    """A setting's own description, its environment variable, and the line that would set it."""
    description = f"# {field.description}  ({environment_name(path)})"
    default = field.get_default(call_default_factory=True)
    value = given if given is not None else EXAMPLES.get(path, default)
    if value is None or value is PydanticUndefined:
        return [description, f"# {key} =", ""]
    shown = "{}" if value == {} else json.dumps(value)
    return [description, f"{'' if given is not None else '# '}{key} = {shown}", ""]


# What has no default is shown by an example.
EXAMPLES = {"database_url": "postgresql://gnomon@localhost:5432/gnomon"}
