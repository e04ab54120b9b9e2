"""The files that a Python model opens while it loads. They influence its answers, so its SHA-256 covers them.

Python reports each file that it opens by an audit event; the keeper reports those that C libraries open by themselves
(see `worker.opens`). If the kernel does not let the keeper see them, the model names them in its attribute `files`.
Files of the system and of installed packages are left out.
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
    """The files that were opened for reading and the modules that were imported between two moments."""

    def __init__(self) -> None:
        self._before = frozenset(sys.modules)
        self._paths: set[str] = set()

    def note(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Process an audit event."""
        if event == "open" and isinstance(arguments[0], (str, bytes)):
            flags = arguments[2] if isinstance(arguments[2], int) else 0
            if flags & os.O_ACCMODE != os.O_WRONLY:
                self._paths.add(os.fsdecode(arguments[0]))

    def digests(self, folder: Path, own: Path, also: Iterable[str] = ()) -> dict[str, str]:
        """Return the SHA-256 of each file by its path, relative to `folder` if it is inside.

        `own`, the file of the model's factory, is left out, because it has its own SHA-256. `also`: paths that the
        keeper saw. A file that cannot be read, such as one that the sandbox hides, is left out.
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
        """Yield the source files of imported modules:

        Python opens a cached compiled file in the place of its source.
        """
        for name in sys.modules.keys() - self._before:
            source = getattr(sys.modules.get(name), "__file__", None)
            if isinstance(source, str):
                yield source


@contextmanager
def recorded() -> Iterator[OpenedFiles]:
    """Record what is opened within the block."""
    if not _hooked:
        sys.addaudithook(_audit_hook)  # an audit hook cannot be removed
        _hooked.append(True)
    files = OpenedFiles()
    _listening.append(files)
    try:
        yield files
    finally:
        _listening.remove(files)


def _audit_hook(event: str, arguments: tuple[Any, ...]) -> None:
    for one in _listening:
        one.note(event, arguments)


def digest(own: str, files: Mapping[str, str]) -> str:
    """Return the SHA-256 of a model: of its file, or of the digests of all its files in the order of their names."""
    if not files:
        return own
    lines = [own, *(f"{name} {files[name]}" for name in sorted(files))]
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
