"""Draws docs/images/imports.svg: which folder imports which, read from the source: `make reference`.

A row holds folders that depend only on rows below it. An arrow that follows from others (A imports B, B imports C, A
imports C as well) is left out. A test compares the picture with the source.
"""

import ast
import graphlib
from collections import defaultdict
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ("producer", "schemas", "consumer", "migrations")
# These are drawn by their own folders; everything else of the consumer is one box a folder.
STAGED = {f"gnomon_consumer.{name}" for name in ("scorer", "joiner", "quickstart", "verdict")}
CONSUMER = "gnomon_consumer"
# Their modules outside of a stage are the service itself, its options, or types that stages share.
TYPED = {"scorer", "joiner"}
SERVICES = {"service": "service", "loop": "service", "recorder": "service", "options": "options"}
PURE = {"scorer sampling", "joiner merge", "joiner pairs", "verdict rules"}  # as in tests/packaging/test_imports.py
BOX, GAP, ROW, MARGIN = (134, 30), 18, 84, 24
COLOURS = {"scorer": "#dbe9f6", "joiner": "#e2f0d9", "gnomon": "#f3f3f3", "worker": "#f8d7da"}
DASHED = ' stroke-dasharray="4 3"'

Edges = dict[str, dict[str, int]]


def box_of(module: str) -> str:
    """Return the box of a module: a distribution, a folder of the consumer, or a stage of it."""
    parts = module.replace(".__main__", ".cli.__main__").split(".")
    if parts[0] != CONSUMER:
        return parts[0]
    if len(parts) < 3 and not (ROOT / "consumer" / Path(*parts)).is_dir():
        return parts[-1]
    folder = ".".join(parts[:2])
    if folder in STAGED:
        if len(parts) > 2 and (ROOT / "consumer" / Path(*parts[:3])).is_dir():
            return f"{parts[1]} {parts[2]}"
        if parts[1] in TYPED:
            return f"{parts[1]} {SERVICES.get(parts[-1], 'types')}"
    return parts[1]


def edges() -> Edges:
    """Return how many imports lead from one box to another, for imports at the top of modules and inside functions."""
    paths = {
        ".".join(path.relative_to(ROOT / source).with_suffix("").parts).removesuffix(".__init__"): path
        for source in SOURCES
        for path in sorted((ROOT / source).rglob("*.py"))
    }
    found: Edges = defaultdict(lambda: defaultdict(int))
    for module, path in paths.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not node.module:
                continue
            for alias in node.names:
                imported = f"{node.module}.{alias.name}"
                target = imported if imported in paths else node.module
                if target in paths and box_of(target) != box_of(module):
                    found[box_of(module)][box_of(target)] += 1
    return {box: dict(sorted(targets.items())) for box, targets in sorted(found.items())}


def reduced(graph: Edges) -> Edges:
    """Return the graph without the arrows that follow from others."""

    def reach(box: str, seen: set[str]) -> set[str]:
        for other in graph.get(box, ()):
            if other not in seen:
                seen.add(other)
                reach(other, seen)
        return seen

    return {
        box: {
            target: count
            for target, count in targets.items()
            if not any(target in reach(other, set()) for other in targets if other != target)
        }
        for box, targets in graph.items()
    }


def rows(graph: Edges) -> list[list[str]]:
    """Return the boxes by row, the lowest first; a box is one row above the highest that it imports.

    If two boxes import each other, the arrow with fewer imports does not raise its box.
    """
    lifts = {
        box: {other for other, count in targets.items() if graph.get(other, {}).get(box, 0) < count}
        for box, targets in graph.items()
    }
    height: dict[str, int] = {}
    for box in graphlib.TopologicalSorter(lifts).static_order():
        height[box] = 1 + max((height[other] for other in lifts.get(box, ())), default=-1)
    made: list[list[str]] = [[] for _ in range(max(height.values()) + 1)]
    for box in sorted(height):
        made[height[box]].append(box)
    return made


def colour(box: str) -> str:
    """Return the fill of a box: the sandboxed worker apart, stages by service."""
    if box == "scorer worker":
        return COLOURS["worker"]
    return COLOURS.get(box.split(" ")[0], COLOURS["gnomon"])


def drawing() -> str:
    """Return the picture as SVG."""
    graph = reduced(edges())
    levels = rows(graph)
    width = max(len(row) for row in levels) * (BOX[0] + GAP) + 2 * MARGIN
    height = len(levels) * ROW + MARGIN
    places: dict[str, tuple[float, float]] = {}
    above: dict[str, list[str]] = defaultdict(list)
    for box, targets in graph.items():
        for target in targets:
            above[target].append(box)
    for level, row in reversed(list(enumerate(levels))):
        # A box is below the boxes that import it, within its row.
        row.sort(key=lambda box: (sum(places[x][0] for x in above[box]) / len(above[box]) if above[box] else 0, box))
        left = (width - len(row) * (BOX[0] + GAP) + GAP) / 2
        for index, box in enumerate(row):
            places[box] = (left + index * (BOX[0] + GAP), height - (level + 1) * ROW + MARGIN)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        "<title>Which folder imports which; arrows lead down to what is imported</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for box, targets in graph.items():
        for target in targets:
            x1, y1 = places[box][0] + BOX[0] / 2, places[box][1] + BOX[1]
            x2, y2 = places[target][0] + BOX[0] / 2, places[target][1]
            middle = (y1 + y2) / 2
            parts.append(
                f'<path d="M{x1:.0f} {y1:.0f}C{x1:.0f} {middle:.0f} {x2:.0f} {middle:.0f} {x2:.0f} {y2:.0f}" '
                f'fill="none" stroke="#8a8f98" stroke-opacity="0.55" stroke-width="1">'
                f"<title>{escape(box)} imports {escape(target)}</title></path>"
            )
    for box, (x, y) in sorted(places.items()):
        parts.append(
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{BOX[0]}" height="{BOX[1]}" rx="4" fill="{colour(box)}" '
            f'stroke="#5b616b"{DASHED if box in PURE else ""}/>'
            f'<text x="{x + BOX[0] / 2:.0f}" y="{y + 19:.0f}" font-size="12" text-anchor="middle">{escape(box)}</text>'
        )
    return "\n".join([*parts, *legend(), "</svg>"]) + "\n"


def legend() -> list[str]:
    """Return the meaning of colours and borders, for the top left corner, where no box is."""
    lines = []
    for index, (fill, border, meaning) in enumerate(
        (
            (COLOURS["scorer"], "", "scorer"),
            (COLOURS["worker"], "", "the sandboxed process"),
            (COLOURS["joiner"], "", "joiner"),
            (COLOURS["gnomon"], "", "everything else"),
            ("white", DASHED, "dashed: no input or output"),
        )
    ):
        y = MARGIN + 22 * index
        lines.append(
            f'<rect x="{MARGIN}" y="{y}" width="22" height="14" rx="3" fill="{fill}" stroke="#5b616b"{border}/>'
            f'<text x="{MARGIN + 30}" y="{y + 11}" font-size="12">{meaning}</text>'
        )
    return lines


if __name__ == "__main__":
    (ROOT / "docs" / "images" / "imports.svg").write_text(drawing(), encoding="utf-8")
