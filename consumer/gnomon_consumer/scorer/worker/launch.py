"""The start of a keeper. This module reads its program when the scorer starts, before any model has run."""

import json
import os
import sys
from pathlib import Path

from gnomon_consumer.scorer.worker.sandbox import Limits

_PACKAGE = "gnomon_consumer.scorer.worker"
_MODULES = ("kernel", "seccomp", "landlock", "opens", "process_limit", "sandbox", "sandbox_check", "keeper")
_PROGRAM = """
import json, sys, types
name = ""
for part in {package!r}.split("."):
    name = name + "." * bool(name) + part
    package = sys.modules[name] = types.ModuleType(name)
    package.__path__ = []
for part, text in {texts!r}.items():
    module = sys.modules[name + "." + part] = types.ModuleType(name + "." + part)
    setattr(package, part, module)
    exec(compile(text, part + ".py", "exec"), module.__dict__)
package.keeper.main(json.loads(sys.argv[1]))
"""


def _program() -> str:
    folder = Path(__file__).parent
    texts = {name: folder.joinpath(f"{name}.py").read_text(encoding="utf-8") for name in _MODULES}
    return _PROGRAM.format(package=_PACKAGE, texts=texts)


_READ = _program()


def command(limits: Limits, *, check: bool = False) -> list[str]:
    """Return the command line of a keeper that ends with this process; `check`: it checks the sandbox instead.

    Python runs isolated (`-I -S`): it ignores site-packages, environment variables and the working folder.
    """
    told = {
        "parent": os.getpid(),
        "limits": limits.as_json(),
        # In the caller's folder, a model's files could shadow our modules.
        "path": [path for path in sys.path if Path(path).is_absolute() and not _same(path, Path.cwd())],
        "check": check,
    }
    return [sys.executable, "-I", "-S", "-c", _READ, json.dumps(told)]


def _same(path: str, folder: Path) -> bool:
    try:
        return folder.samefile(path)
    except OSError:
        return False
