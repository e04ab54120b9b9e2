"""Dependencies run one way; the pure cores stay pure; only one module imports onnxruntime. All read from the source."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from tests.support.servers.shared import ROOT

SOURCES = {
    "gnomon_producer": ROOT / "producer",
    "gnomon_schemas": ROOT / "schemas",
    "gnomon_consumer": ROOT / "consumer",
    "gnomon_migrations": ROOT / "migrations",
}
# producer -> schemas <- consumer -> migrations
MAY_IMPORT = {
    "gnomon_producer": {"gnomon_schemas"},
    "gnomon_schemas": set[str](),
    "gnomon_consumer": {"gnomon_schemas", "gnomon_migrations"},
    "gnomon_migrations": set[str](),
}
# The quickstart's live service *is* a user of the hook, and the command line offers the hook's schema tools.
EXCEPTIONS = {("gnomon_consumer.quickstart", "gnomon_producer"), ("gnomon_consumer.cli", "gnomon_producer")}
SERVICES = ("scorer", "joiner", "labels", "reports", "verdict")
# Pure by folder: no input or output, clocks and random sources are arguments.
PURE_FOLDERS = (
    "gnomon_consumer.scorer.sampling",
    "gnomon_consumer.joiner.merge",
    "gnomon_consumer.joiner.pairs",
    "gnomon_consumer.verdict.rules",
)
PURE_MODULES = (
    "gnomon_consumer.scorer.captures",
    "gnomon_consumer.scorer.outcomes",
    "gnomon_consumer.scorer.sealed.seal_policy",
)
# The modules of the consumer that the sandboxed process may load, besides its own folder: plain types and memory.
WORKER = "gnomon_consumer.scorer.worker"
WORKER_MAY_IMPORT = {
    "gnomon_consumer.scorer",
    "gnomon_consumer.scorer.captures",
    "gnomon_consumer.scorer.outcomes",
    "gnomon_consumer.runtime",
    "gnomon_consumer.runtime.memory",
    "gnomon_consumer.runtime.parent_death",
}
IMPURE = {
    "asyncio", "confluent_kafka", "httpx", "io", "logging", "multiprocessing", "os", "pathlib", "psycopg", "random",
    "requests", "shutil", "signal", "socket", "sqlalchemy", "structlog", "subprocess", "sys", "tempfile", "threading",
    "time", "urllib",
}  # fmt: skip
LIGHT = {"confluent_kafka", "fastavro"}
# The contract in batches belongs to the [consumer] extra; the light side never imports these four (see test_wheel.py).
COLUMNAR = {f"gnomon_schemas.{name}" for name in ("arrays", "arrow", "columnar", "peeks")}


@cache
def modules() -> dict[str, Path]:
    """Return every module of the product by its dotted name."""
    found = {}
    for root in SOURCES.values():
        for path in root.rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """Return all imports of a module, also in functions and type-checking blocks."""
    return frozenset(_imports(module, modules()[module]))


def _imports(module: str, path: Path) -> Iterator[str]:
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) + "." if node.level else ""
            source = (base + (node.module or "")).rstrip(".")
            yield source
            # `from package import module` imports the module as well.
            yield from (f"{source}.{alias.name}" for alias in node.names)


def within(name: str, package: str) -> bool:
    """Return whether a dotted name is a package or within it."""
    return name == package or name.startswith(package + ".")


def test_dependencies_run_one_way() -> None:
    assert len(modules()) > 10
    wrong = [
        f"{module} imports {imported}"
        for module in modules()
        for imported in imports(module)
        for own in [module.split(".")[0]]
        for other in SOURCES
        if within(imported, other) and other != own and other not in MAY_IMPORT[own]
        if not any(within(module, who) and other == what for who, what in EXCEPTIONS)
    ]
    assert wrong == []


@pytest.mark.parametrize("service", SERVICES)
def test_services_do_not_import_one_another(service: str) -> None:
    others = [f"gnomon_consumer.{other}" for other in SERVICES if other != service]
    wrong = [
        f"{module} imports {imported}"
        for module in modules()
        if within(module, f"gnomon_consumer.{service}")
        for imported in imports(module)
        if any(within(imported, other) for other in others) or within(imported, "gnomon_consumer.cli")
    ]
    assert wrong == []


def test_only_one_module_imports_onnxruntime() -> None:
    importers = {module for module in modules() if any(within(name, "onnxruntime") for name in imports(module))}
    # The flights service represents a user's own live service, which runs its model as it likes.
    assert importers - {"gnomon_consumer.quickstart.demo.service"} <= {"gnomon_consumer.scorer.worker.models.onnx"}


def test_pure_folders_do_no_input_or_output() -> None:
    pure = [name for name in modules() if name in PURE_MODULES or any(within(name, folder) for folder in PURE_FOLDERS)]
    assert len(pure) > len(PURE_MODULES)
    wrong = [f"{module} imports {name}" for module in pure for name in imports(module) if name.split(".")[0] in IMPURE]
    assert wrong == []


def test_the_worker_imports_nothing_of_the_scorers_side() -> None:
    wrong = [
        f"{module} imports {imported}"
        for module in modules()
        if within(module, WORKER)
        for imported in imports(module)
        if imported in modules() and within(imported, "gnomon_consumer")
        if not within(imported, WORKER) and imported not in WORKER_MAY_IMPORT
    ]
    assert wrong == []


def test_no_test_module_imports_another() -> None:
    wrong = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for imported in _imports("tests.x", path):
            parts = imported.split(".")
            if parts[0] == "tests" and any(part.startswith("test_") for part in parts):
                wrong.append(f"{path.relative_to(ROOT)} imports {imported}")
    assert wrong == []


def type_names(body: list[ast.stmt]) -> Iterator[str]:
    """Yield the classes and type aliases that the top of a module defines; constants and type variables are neither."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign) and "TypeVar(" not in ast.unparse(node):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            yield from (name for name in names if name[0].isupper() and not name.isupper())


def test_a_type_name_is_defined_once() -> None:
    """One name, one meaning, for classes and aliases: a search for a word of the glossary finds one definition."""
    where: dict[str, list[str]] = {}
    for module, path in modules().items():
        for name in type_names(ast.parse(path.read_text(encoding="utf-8")).body):
            where.setdefault(name, []).append(module)
    assert {"Batch", "Indices", "Row"} <= where.keys()
    assert {name: found for name, found in where.items() if len(found) > 1} == {}


def test_no_import_circle() -> None:
    """Follow imports at the top of modules only: a late import inside a function cannot close a circle."""
    edges = {
        module: {
            name
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.ImportFrom) and node.module and node.level == 0
            for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
            if name in modules() and name != module and not within(module, name)
        }
        for module, path in modules().items()
    }
    try:
        tuple(graphlib.TopologicalSorter(edges).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("package", ["gnomon_producer", "gnomon_schemas"])
def test_the_light_side_imports_only_its_two_libraries_at_the_top(package: str) -> None:
    """Heavier libraries (a registry client, OpenTelemetry) are imported where they are used, never at the top."""
    wrong = []
    for module, path in modules().items():
        if not within(module, package) or module in COLUMNAR:
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom) and node.level == 0
                else []
            )
            wrong += [
                f"{module} imports {name}"
                for name in names
                if name.split(".")[0] not in sys.stdlib_module_names | LIGHT | SOURCES.keys()
            ]
    assert wrong == []


def positional_arguments(node: ast.ClassDef) -> int:
    """Return how many arguments the constructor of a class accepts by position, from its `__init__` or its fields."""
    made = next((ast.unparse(one) for one in node.decorator_list if "dataclass" in ast.unparse(one)), None)
    if made is None:
        methods = (one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__")
        return max((len(one.args.posonlyargs) + len(one.args.args) - 1 for one in methods), default=0)
    if "kw_only=True" in made:
        return 0
    count = 0
    for field in node.body:
        kind = ast.unparse(field.annotation) if isinstance(field, ast.AnnAssign) else "ClassVar"
        if kind == "KW_ONLY":
            break
        value = field.value if isinstance(field, ast.AnnAssign) else None
        if "ClassVar" not in kind and not (value is not None and "init=False" in ast.unparse(value)):
            count += 1
    return count


def test_a_constructor_takes_four_arguments_by_position_at_most() -> None:
    """With five or more arguments a caller names them. Tuples are exempt: their fields have an order."""
    # The hook creates a Shot for each request, where two keyword arguments cost 0.12 µs (260 instead of 136 ns of CPU).
    hot = {"Shot"}
    long = {
        f"{module}.{node.name}": positional_arguments(node)
        for module, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and node.name not in hot and positional_arguments(node) > 4
    }
    assert long == {}


def test_commands_start_without_what_they_use_rarely() -> None:
    """Libraries of migrations, optimizers, model runtimes and pandas take as long to load as the rest of a command."""
    heavy = {"alembic", "matplotlib", "onnx", "onnxruntime", "pandas", "scipy.optimize", "sklearn", "sqlalchemy"}
    commands = ("report", "verdict", "promote", "join", "labels", "score", "dlq", "streams", "tail", "topics", "run")
    program = (
        f"import importlib, sys\nfor name in {commands!r}: importlib.import_module(f'gnomon_consumer.cli.{{name}}')\n"
        f"print(*sorted({heavy!r} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == []


def test_arrow_leaves_pandas_out_and_code_that_imports_it_finds_it() -> None:
    program = """
import sys
from gnomon_consumer.runtime.memory import leave_out_pandas
leave_out_pandas()
import pyarrow as pa
assert pa.array([1, None]).null_count == 1
assert "pandas" not in sys.modules
import pandas
assert pa.Table.from_pandas(pandas.DataFrame({"a": [1]})).num_rows == 1
leave_out_pandas()
assert pandas is sys.modules["pandas"]
"""
    subprocess.run([sys.executable, "-c", program], check=True)
