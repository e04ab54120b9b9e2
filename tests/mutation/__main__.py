"""`python -m tests.mutation`: plant each bug in a copy, and print which test found it and after how long."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutation.mutants import MUTANTS, ROOT, Mutant

_COPIED = ("producer", "schemas", "consumer", "migrations", "tests", "pyproject.toml", "docs")
_LONGEST_S = 300.0


def main() -> int:
    """Return 1 if a bug was not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("names", nargs="*", help="bugs, by a part of their names; default all")
    parser.add_argument("--seeds", type=int, default=150, help="most seeds of the simulation for each; default 150")
    options = parser.parse_args()
    chosen = [one for one in MUTANTS if not options.names or any(name in one.name for name in options.names)]
    missed = 0
    print("| planted bug | found by | seconds |\n|---|---|---|", flush=True)
    for mutant in chosen:
        begun = time.monotonic()
        found = found_by(mutant, options.seeds)
        missed += not found
        print(f"| {mutant.name} | {found or 'NOT FOUND'} | {time.monotonic() - begun:.0f} |", flush=True)
    print(f"\n{len(chosen)} planted, {len(chosen) - missed} found")
    return missed > 0


def found_by(mutant: Mutant, seeds: int) -> str:
    """Return what finds a bug: a seed of the simulation, or one of the tests named with it; '' if nothing does."""
    with tempfile.TemporaryDirectory(prefix="gnomon-mutant-") as folder:
        copy = Path(folder)
        for name in _COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy / name)
        target = copy / mutant.path
        target.write_text(mutant.applied(target.read_text()))
        simulated = _run(copy, "-m", "tests.simulation", "--stop", "--seeds", str(seeds))
        if simulated is not None:
            return "a simulation that does not end" if simulated == "" else f"simulation, {simulated}"
        for test in mutant.tests:
            if _run(copy, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test) is not None:
                return f"`{test}`"
    return ""


def _run(copy: Path, *arguments: str) -> str | None:
    """Return None if a command of the copy succeeds, else its first line; '' if it does not end."""
    packages = [str(copy / name) for name in ("producer", "schemas", "consumer", "migrations", ".")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(packages), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        ended = subprocess.run(
            [sys.executable, *arguments],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_LONGEST_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return ""
    first = (ended.stdout.strip() or ended.stderr.strip() or "?").splitlines()[0]
    return first.partition(" (python")[0][:110] if ended.returncode else None


if __name__ == "__main__":
    sys.exit(main())
