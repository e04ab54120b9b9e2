"""Rules of CONTRIBUTING.md that no tool checks."""

import ast
from collections.abc import Iterator

from tests.support.servers.shared import ROOT

MOST_LINES, MOST_OF_A_FUNCTION = 400, 100
SOURCES = ("producer", "schemas", "consumer", "migrations")
# What may take a fixed time, and why no condition can replace it.
SLEEPS = {
    ("faults/hook/test_hook_processes.py", "check_kill"): "a kill at a drawn moment",
    ("faults/joiner/test_log_holes.py", "test_captures_that_compaction_removed_are_lost"): "the age of a segment",
    ("faults/joiner/test_silent_database.py", "test_a_joiner_notices_within_half_a_minute_and_keeps_its_group"): (
        "longer than a session of the group"
    ),
    ("faults/scorer/test_scorer_group.py", "test_a_hot_partition_starves_no_other"): "the length of a load",
    ("faults/scorer/test_scorer_transactions.py", "_fire"): "a request that is on its way for so long",
    ("support/registry.py", "answer"): "a slow server",
}
# Storms strike for drawn times; hostile models sleep as their attack.
WITHOUT = ("storms/", "support/hostile_models.py")


def test_modules_and_functions_have_a_limit() -> None:
    long = []
    for root in SOURCES:
        for path in (ROOT / root).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            lines = text.count("\n")
            if lines > MOST_LINES:
                long.append(f"{path.relative_to(ROOT)} has {lines} lines")
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    lines = (node.end_lineno or 0) - node.lineno + 1
                    if lines > MOST_OF_A_FUNCTION:
                        long.append(f"{node.name} in {path.relative_to(ROOT)} has {lines} lines")
    assert long == []


def fixed_sleeps(node: ast.AST, function: str = "") -> Iterator[str]:
    """Yield the function around each sleep that is in no loop, so that no condition ends it."""
    if isinstance(node, ast.For | ast.While):
        return
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        function = node.name
    sleeps = isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep", "asyncio.sleep")
    if sleeps and ast.unparse(node) != "asyncio.sleep(0)":  # which only lets others run
        yield function
    for child in ast.iter_child_nodes(node):
        yield from fixed_sleeps(child, function)


def test_a_fixed_sleep_is_found_and_one_of_a_loop_is_not() -> None:
    program = "def f():\n    time.sleep(1)\ndef g():\n    while not done():\n        time.sleep(0.1)\n"
    assert list(fixed_sleeps(ast.parse(program))) == ["f"]


def test_tests_wait_for_a_condition_never_for_a_fixed_time() -> None:
    found = {
        (name, function)
        for path in (ROOT / "tests").rglob("*.py")
        if not (name := str(path.relative_to(ROOT / "tests"))).startswith(WITHOUT)
        for function in fixed_sleeps(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == SLEEPS.keys()
