"""Dependencies run one way; the pure cores stay pure; onnxruntime has one door. All read from the source."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from tests.servers.shared import ROOT

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
PURE = (
    "gnomon_consumer.scorer.sampler",
    "gnomon_consumer.scorer.lag",
    "gnomon_consumer.scorer.window",
    "gnomon_consumer.scorer.breaker",
    "gnomon_consumer.joiner.assemble",
    "gnomon_consumer.joiner.ledger",
    "gnomon_consumer.joiner.pairing",
    "gnomon_consumer.joiner.rollup",
)
IMPURE = {
    "asyncio", "confluent_kafka", "httpx", "io", "logging", "multiprocessing", "os", "pathlib", "psycopg", "random",
    "requests", "shutil", "signal", "socket", "sqlalchemy", "structlog", "subprocess", "sys", "tempfile", "threading",
    "time", "urllib",
}  # fmt: skip
LIGHT = {"confluent_kafka", "fastavro"}
# The contract in batches belongs to the [consumer] extra; the light side never imports these three (see test_wheel.py).
COLUMNAR = {"gnomon_schemas.columnar", "gnomon_schemas.arrow", "gnomon_schemas.peeks"}


@cache
def modules() -> dict[str, Path]:
    """Every module of the product by its dotted name."""
    found = {}
    for root in SOURCES.values():
        for path in root.rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """What a module imports anywhere in it, functions too; type-checking blocks count as well."""
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
    """Whether a dotted name is a package or lies in it."""
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
    # The flights service stands for a team's own live service, which runs its model as it likes.
    assert importers - {"gnomon_consumer.quickstart.service"} <= {"gnomon_consumer.scorer.models.onnx"}


@pytest.mark.parametrize("module", PURE)
def test_pure_cores_do_no_input_or_output(module: str) -> None:
    assert {name for name in imports(module) if name.split(".")[0] in IMPURE} == set()


@pytest.mark.parametrize("package", ["gnomon_producer", "gnomon_schemas"])
def test_the_light_side_imports_only_its_two_libraries_at_the_top(package: str) -> None:
    """Heavier ones (a registry client, OpenTelemetry) are imported where they are used, never at the top."""
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
