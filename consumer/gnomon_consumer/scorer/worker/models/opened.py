"""The files that a Python model opens while it loads: they decide what it answers, so its SHA-256 covers them.

Python tells of each file that it opens (an audit event), the keeper of all others, which libraries in C open (see
`worker.opens`). Where a kernel does not let the keeper see them, the model names such files in its attribute `files`.
What belongs to the system and to the installed packages is left out.
"""

import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/usr", "/lib", "/lib64", "/run")
_OURS = ("gnomon_consumer", "gnomon_schemas", "gnomon_producer")
_listening: list["OpenedFiles"] = []
_hooked: list[bool] = []


class OpenedFiles:
    """What was opened for reading, and which modules were imported, between two moments."""

    def __init__(self) -> None:
        self._before = frozenset(sys.modules)
        self._paths: set[str] = set()

    def note(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take an audit event."""
        if event == "open" and isinstance(arguments[0], (str, bytes)):
            flags = arguments[2] if isinstance(arguments[2], int) else 0
            if flags & os.O_ACCMODE != os.O_WRONLY:
                self._paths.add(os.fsdecode(arguments[0]))

    def digests(self, folder: Path, own: Path, also: Iterable[str] = ()) -> dict[str, str]:
        """Return the SHA-256 of each file by its path, relative to `folder` where it lies within.

        `own`, the file of the model's factory, is left out: it has a SHA-256 of its own. `also`: paths that the keeper
        saw. A file that could not be read, such as one that the sandbox hides, decides nothing and is left out.
        """
        installed = [Path(path) for key, path in sysconfig.get_paths().items() if key not in ("data", "scripts")]
        ours = [Path(str(sys.modules[name].__file__)).parent for name in _OURS if name in sys.modules]
        libraries = [Path(prefix) / "lib" for prefix in (sys.prefix, sys.base_prefix)]
        left_out = [path.resolve() for path in (*installed, *libraries, *ours, *map(Path, _SYSTEM))]
        found = {}
        paths = {one.resolve() for one in map(Path, (*self._paths, *self._modules(), *also))}
        for path in sorted(paths - {own.resolve()}):
            if path.suffix == ".pyc" or any(path.is_relative_to(one) for one in left_out):
                continue
            name = path.relative_to(folder.resolve()) if path.is_relative_to(folder.resolve()) else path
            with suppress(OSError):
                if path.is_file():
                    with path.open("rb") as stream:
                        found[name.as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
        return found

    def _modules(self) -> Iterator[str]:
        """The sources of what was imported: a compiled module in the cache is opened in the place of its source."""
        for name in sys.modules.keys() - self._before:
            source = getattr(sys.modules.get(name), "__file__", None)
            if isinstance(source, str):
                yield source


@contextmanager
def recorded() -> Iterator[OpenedFiles]:
    """Note what is opened within the block."""
    if not _hooked:
        sys.addaudithook(_heard)  # there is no way to take it back
        _hooked.append(True)
    files = OpenedFiles()
    _listening.append(files)
    try:
        yield files
    finally:
        _listening.remove(files)


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    for one in _listening:
        one.note(event, arguments)


def digest(own: str, files: Mapping[str, str]) -> str:
    """Return the SHA-256 of a model: its own file's; with others, of the digests of all of them, in order of name."""
    if not files:
        return own
    lines = [own, *(f"{name} {files[name]}" for name in sorted(files))]
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
