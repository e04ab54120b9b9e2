"""The files that hold an ONNX model's large tensors: in the model's own folder, and under the same SHA-256.

The scorer pins a model without parsing it, because a parser of untrusted bytes must not run next to credentials. So it
searches the bytes for the names of such files. Each worker parses the model and compares; it refuses a file that the
search did not find.
"""

import hashlib
import mmap
import os
import re
from pathlib import Path

from gnomon_schemas.errors import ConfigurationError

_LOCATION = re.compile(rb"\n\x08location\x12([\x00-\xff])", re.DOTALL)
"""An entry of `external_data` in protobuf: field 1 is the key, field 2 the value, after its length."""


def is_file(path: Path) -> bool:
    """Return whether the file exists; False for a name that no file can have, such as one with a NUL."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Return whether the folder exists; False for a name that no folder can have."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def own_file(model: Path, name: str | bytes) -> Path:
    """Return the file `name` in the model's own folder; raise ConfigurationError if it is not a plain file there."""
    # Text in an ONNX file that is not UTF-8 stays bytes.
    name = Path(os.fsdecode(name)).as_posix()  # without a leading ./
    place = model.parent / name
    if Path(name).name != name or not is_file(place) or place.is_symlink():
        raise ConfigurationError(
            f"{model}: a tensor is in another file, {name[:200]!r}, which is not a file in the model's own folder;"
            " put it there, or save the model as one file"
        )
    return place


def named_in(content: bytes | mmap.mmap, model: Path) -> tuple[str, ...]:
    """Return the names of the tensor files in the model's folder that its bytes name, sorted."""
    found = set()
    for match in _LOCATION.finditer(content):
        text = content[match.end() : match.end() + match[1][0]]
        try:
            name = Path(text.decode()).as_posix()
        except UnicodeDecodeError:
            continue
        if "\0" not in name and Path(name).name == name and is_file(model.parent / name):
            found.add(name)
    return tuple(sorted(found))


def digest(content: bytes | mmap.mmap, model: Path, names: tuple[str, ...]) -> str:
    """Return the SHA-256 of the model's bytes; with external files, of the digests of all of them, in order of name."""
    own = hashlib.sha256(content).hexdigest()
    if not names:
        return own
    whole = hashlib.sha256(f"{own}\n".encode())
    for name in names:
        with own_file(model, name).open("rb") as stream:
            whole.update(f"{name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()
