"""`python -m tests.mutation`: plant each bug in a copy, and print which test found it and after how much CPU time."""

import argparse
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.mutation.mutants import MUTANTS, ROOT, Mutant

_COPIED = ("producer", "schemas", "consumer", "migrations", "tests", "pyproject.toml", "docs")
_CPU_S = 900
"""A command that uses more CPU time than this does not end. The machine's load does not change this time."""
_WALL_S = 4 * 3600.0
"""A command that waits longer than this gives no result."""
_FIRST_SEEDS = 20
"""So many seeds cost a few CPU seconds, less than most tests; they run first, and the other seeds last."""


def main() -> int:
    """Return 1 if a bug was not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("names", nargs="*", help="bugs, by a part of their names; default all")
    parser.add_argument("--seeds", type=int, default=150, help="most seeds of the simulation for each; default 150")
    options = parser.parse_args()
    chosen = [one for one in MUTANTS if not options.names or any(name in one.name for name in options.names)]
    missed = 0
    print("| planted bug | found by | CPU seconds |\n|---|---|---|", flush=True)
    for mutant in chosen:
        begun = _children_cpu_s()
        found = found_by(mutant, options.seeds)
        missed += not found
        print(f"| {mutant.name} | {found or 'NOT FOUND'} | {_children_cpu_s() - begun:.0f} |", flush=True)
    print(f"\n{len(chosen)} planted, {len(chosen) - missed} found")
    return missed > 0


def found_by(mutant: Mutant, seeds: int) -> str:
    """Return what finds a bug: a seed of the simulation, or one of the tests named with it; '' if nothing does."""
    with _copied() as copy:
        target = copy / mutant.path
        target.write_text(mutant.applied(target.read_text()))
        if found := _simulation(copy, 0, min(seeds, _FIRST_SEEDS)):
            return found
        for test in mutant.tests:
            if _test_fails(copy, test):
                with _copied() as sound:
                    if _test_fails(sound, test):
                        raise RuntimeError(f"{test} fails without the bug as well")
                return f"`{test}`"
        return _simulation(copy, _FIRST_SEEDS, seeds - _FIRST_SEEDS) if seeds > _FIRST_SEEDS else ""


@contextmanager
def _copied() -> Iterator[Path]:
    """Copy the product and its tests into a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="gnomon-mutant-") as folder:
        for name in _COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, Path(folder, name), ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, Path(folder, name))
        yield Path(folder)


def _simulation(copy: Path, first: int, seeds: int) -> str:
    """Return which seed failed first, '' if every seed holds."""
    ended = _run(copy, "-m", "tests.simulation", "--stop", "--first", str(first), "--seeds", str(seeds))
    if ended.returncode == -signal.SIGXCPU:
        return f"simulation, a seed that does not end within {_CPU_S} CPU seconds"
    first_line = (ended.stdout.strip() or ended.stderr.strip() or "?").splitlines()[0]
    return f"simulation, {first_line.partition(':')[0]}" if ended.returncode else ""


def _test_fails(copy: Path, test: str) -> bool:
    ended = _run(copy, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test)
    if ended.returncode not in (0, 1, -signal.SIGXCPU):
        raise RuntimeError(f"{test} did not run: {ended.stdout[-2000:]}{ended.stderr[-2000:]}")
    return ended.returncode != 0


def _run(copy: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of the copy; raise TimeoutExpired if it waits for too long."""
    packages = [str(copy / name) for name in ("producer", "schemas", "consumer", "migrations", ".")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(packages), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        ["/bin/sh", "-c", f'ulimit -S -t {_CPU_S}; exec "$@"', "sh", sys.executable, *arguments],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_WALL_S,
        check=False,
    )


def _children_cpu_s() -> float:
    """Return the CPU time of the commands that have ended; load of the machine does not lengthen it much."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
