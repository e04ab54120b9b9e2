"""Check a release before it is tagged: `make release-check`. Builds from a clean tree and installs as users do.

No file of the working folder is used: sources come from git, environments are new. Ends with status 1 at the first
failure, whose output is shown.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
EXTRAS = ("consumer", "registry", "otel")
# Pure tests that need nothing but the wheel and pytest.
UNIT = (
    "tests/unit/scorer/test_breaker.py",
    "tests/unit/hook/test_hook_classes.py",
    "tests/unit/runtime/test_stalls.py",
)
IMPORTS = (
    "import gnomon_producer, gnomon_producer.metrics, gnomon_schemas.codec, gnomon_migrations.runner,"
    " gnomon_consumer.scorer.service, gnomon_consumer.joiner.service, gnomon_consumer.labels.service,"
    " gnomon_consumer.reports.html, gnomon_consumer.verdict.service, gnomon_consumer.doctor"
)
# A model of ONNX Runtime and the columnar codec, from bytes to bytes.
SMOKE = "import numpy, onnxruntime, pyruhvro, pgpq, scipy.special"


def run(command: Sequence[str | Path], **options: object) -> str:
    """Run one step; show its output if it fails."""
    done = subprocess.run(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        **options,  # type: ignore[call-overload]
    )  # fmt: skip
    if done.returncode != 0:
        sys.exit(
            f"{done.stdout}\nrelease-check: {' '.join(map(str, command))[:200]} ended with status {done.returncode}"
        )
    return str(done.stdout)


def say(text: str) -> None:
    """Print a line of the log with the time since the start."""
    print(f"{time.monotonic() - BEGAN:6.0f} s  {text}", flush=True)


BEGAN = time.monotonic()


def clean_tree(folder: Path) -> Path:
    """Return a checkout of HEAD; refuse uncommitted changes."""
    if changes := run(["git", "-C", ROOT, "status", "--porcelain"]):
        sys.exit(f"release-check: commit first:\n{changes}")
    tree = folder / "tree"
    tree.mkdir()
    archive = folder / "tree.tar"
    run(["git", "-C", ROOT, "archive", "--format=tar", "-o", archive, "HEAD"])
    run(["tar", "-xf", archive, "-C", tree])
    return tree


def build(tree: Path, out: Path) -> tuple[Path, Path]:
    """Build sdist and wheel; the wheel is built from the sdist, as installers may do."""
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", out, tree])
    (wheel,) = out.glob("*.whl")
    (sdist,) = out.glob("*.tar.gz")
    return wheel, sdist


def interpreter(uv: str, version: str) -> str | None:
    """Return an installed interpreter of this version; None if there is none."""
    # pyenv keeps each version in a separate folder, which uv does not search.
    for found in sorted(
        Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*/bin/python")
    ):
        return str(found)
    done = subprocess.run(
        [uv, "python", "find", "--no-python-downloads", version], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else None


def resolve(uv: str, version: str, tree: Path, folder: Path) -> None:
    """Check for a Python that is not installed that every dependency has a wheel for it, in compatible versions."""
    extras = [part for name in EXTRAS for part in ("--extra", name)]
    run(
        [uv, "pip", "compile", "--quiet", "--no-python-downloads", "--python-version", version, "--only-binary",
         ":all:", *extras, tree / "pyproject.toml", "--output-file", folder / f"resolved-{version}.txt"]
    )  # fmt: skip


def install(uv: str, python: str, wheel: Path, folder: Path, resolution: str) -> Path:
    """Create an environment with the wheel, its extras and the lowest or the newest versions that the ranges allow."""
    environment = folder / f"{Path(python).parts[-3]}-{resolution}"
    run([uv, "venv", "--quiet", "--python", python, environment])
    target = environment / "bin" / "python"
    run(
        [uv, "pip", "install", "--quiet", "--python", target, "--resolution", resolution,
         f"gnomon[{','.join(EXTRAS)}] @ {wheel.as_uri()}", "pytest>=8.3", "pytest-timeout>=2.3"]
    )  # fmt: skip
    return target


def smoke(python: Path, tree: Path, folder: Path) -> str:
    """Import, call and test the installed packages, from a folder without the sources."""
    gnomon = python.with_name("gnomon")
    run([gnomon, "--help"], cwd=folder)
    version = run([gnomon, "--version"], cwd=folder).splitlines()[0]
    run([python, "-c", f"{IMPORTS}; {SMOKE}"], cwd=folder)
    run([gnomon, "init", "--output", folder / "gnomon.toml", "--force"], cwd=folder)
    run([gnomon, "db", "upgrade", "--sql"], cwd=folder)
    # The tests come from the tree, the code from the wheel.
    bare = folder / "bare"
    shutil.rmtree(bare, ignore_errors=True)
    for test in UNIT:
        (bare / test).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tree / test, bare / test)
    run([python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", *UNIT], cwd=bare)
    return version


def main() -> None:
    """Run every step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "release", help="Folder of what is built.")
    parser.add_argument("--uv", default="uv")
    parser.add_argument("--demo", action="store_true", help="Also run a small demo from the wheel.")
    given = parser.parse_args()
    shutil.rmtree(given.out, ignore_errors=True)
    given.out.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="gnomon-release-") as name:
        folder = Path(name)
        tree = clean_tree(folder)
        wheel, sdist = build(tree, given.out)
        say(f"built {wheel.name} ({wheel.stat().st_size:,} bytes) and {sdist.name} ({sdist.stat().st_size:,} bytes)")
        tools = folder / "tools"
        run([given.uv, "venv", "--quiet", "--python", sys.executable, tools])
        run([given.uv, "pip", "install", "--quiet", "--python", tools / "bin/python", "twine", "cyclonedx-bom"])
        run([tools / "bin/twine", "check", "--strict", wheel, sdist])
        say("twine check: both pass")
        missing = []
        for version in VERSIONS:
            python = interpreter(given.uv, version)
            if python is None:
                resolve(given.uv, version, tree, folder)
                say(f"Python {version} is not here: every dependency has a wheel for it; nothing was run")
                missing.append(version)
                continue
            for resolution in ("lowest-direct", "highest"):
                target = install(given.uv, python, wheel, folder, resolution)
                said = smoke(target, tree, folder)
                say(f"Python {version}, {resolution} versions: installed, imported, tested ({said})")
                if version == VERSIONS[0] and resolution == "highest":
                    bom = given.out / "sbom.cdx.json"
                    run([tools / "bin/cyclonedx-py", "environment", target, "--output-file", bom, "--of", "JSON"])
                    say(f"software bill of materials: {bom.name} ({bom.stat().st_size:,} bytes)")
        if given.demo:
            demo(given.uv, wheel, folder)
    say(f"done; not tried, because no such Python is here: {', '.join(missing) or 'none'}")


def demo(uv: str, wheel: Path, folder: Path) -> None:
    """Run the demo from the wheel in a separate environment."""
    environment = folder / "demo"
    run([uv, "venv", "--quiet", "--python", sys.executable, environment])
    target = environment / "bin" / "python"
    run([uv, "pip", "install", "--quiet", "--python", target, f"gnomon[quickstart] @ {wheel.as_uri()}"])
    said = run([target.with_name("gnomon"), "demo", "--captures", "2000", "--json"], cwd=folder)
    say(f"the demo from the wheel: {said.splitlines()[-1][:120]}")


if __name__ == "__main__":
    main()
