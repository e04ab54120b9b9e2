"""The wheel as a live service installs it: the hook and its two libraries, no other library, no missing file."""

import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from tests.support.servers.shared import ROOT

# One wheel serves all of them, so they belong in one worker.
pytestmark = pytest.mark.xdist_group("wheel")

HEAVY = ("onnxruntime", "sqlalchemy", "pydantic", "click", "numpy", "pyarrow", "psycopg")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel of this checkout, built by the installed pinned build tools."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def light_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a new virtual environment with the wheel, no extras, and its two dependencies as pinned, by hash."""
    folder = tmp_path_factory.mktemp("light")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    entries = re.split(r"\n(?=\S)", (ROOT / "requirements" / "all.txt").read_text().strip())
    needed = [entry for entry in entries if entry.startswith(("confluent-kafka==", "fastavro=="))]
    assert len(needed) == 2
    requirements = folder / "requirements.txt"
    requirements.write_text("\n".join(needed))
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*install, "--require-hashes", "--requirement", str(requirements)], check=True)
    subprocess.run([*install, "--no-index", str(wheel)], check=True)
    return python


def test_the_light_install_declares_only_two_dependencies(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = archive.read(name).decode()
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert sorted(re.split(r"[ <>=!]", line.removeprefix("Requires-Dist: "))[0] for line in required) == [
        "confluent-kafka",
        "fastavro",
    ]


def test_the_hook_imports_without_anything_heavy(light_python: Path) -> None:
    program = f"""
import sys
import gnomon_producer, gnomon_schemas.codec, gnomon_schemas.store
assert gnomon_producer.Tap
import importlib.util
print([name for name in {HEAVY!r} if name in sys.modules or importlib.util.find_spec(name)])
"""
    run = subprocess.run([light_python, "-I", "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"


def test_the_hook_imports_nothing_heavy_even_where_everything_is_installed() -> None:
    program = f"import sys, gnomon_producer; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_command_names_the_extra_to_install(light_python: Path) -> None:
    command = light_python.with_name("gnomon")
    run = subprocess.run([command, "report", "agreement"], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "pip install 'gnomon[report]'" in run.stderr
    assert "'gnomon[consumer]'" in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    """Schemas, SQL, migrations, templates, type markers: every file in a package folder is included."""
    with zipfile.ZipFile(wheel) as archive:
        shipped = set(archive.namelist())
    source = {
        str(path.relative_to(root))
        for root in (ROOT / "producer", ROOT / "schemas", ROOT / "consumer", ROOT / "migrations")
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert source - shipped == set()
    assert {name for name in shipped if ".dist-info/" not in name} - source == set()
    for suffix in (".avsc", ".sql", "py.typed"):
        assert any(name.endswith(suffix) for name in shipped), suffix
    assert any(name.startswith("gnomon_migrations/versions/") for name in shipped)
