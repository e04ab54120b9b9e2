"""Flame graphs from collapsed stacks, as `py-spy record --threads --format raw` writes them. No I/O."""

import re
from collections import Counter
from collections.abc import Iterator
from html import escape

from benchmarks.harness.running import ROOT

Stack = tuple[str, ...]
# A thread that is at one place this often only waits there.
_WAITING = 0.95
_WIDTH, _HEIGHT, _MARGIN, _TITLE = 1200, 16, 10, 28
_LETTER, _NARROWEST = 6.2, 1.5
_OF_GNOMON, _OF_PYTHON, _NATIVE, _IDLE = "#9ecae1", "#fdd99b", "#f4b9a0", "#d9d9d9"
# The frames before a command's work are not interesting.
_WORK = re.compile(r"gnomon_(?!consumer/(cli/|__main__))")
_WAITS = re.compile(
    r"process |cnd_timedwait|pthread_cond|PyThread_acquire_lock|_queue_SimpleQueue_get|Connection\.wait|_exactly "
    r"|(e?poll|select|read)\w* \(libc"
)


def read(raw: str) -> Counter[Stack]:
    """Return the samples of each stack, outermost first: process, thread, then from our first frame on."""
    stacks: Counter[Stack] = Counter()
    for line in raw.splitlines():
        frames, _, count = line.rpartition(" ")
        stack = [_named(frame) for frame in frames.split(";")]
        whose = [frame for frame in stack if frame.startswith(("process ", "thread "))]
        inner = [frame for frame in stack[len(whose) :] if not frame.startswith("0x")]
        ours = next((at for at, frame in enumerate(inner) if _WORK.search(frame)), 0)
        stacks[(*whose, *inner[ours:])] += int(count)
    return stacks


def _named(frame: str) -> str:
    named = re.sub(r'^(process \d+):".*', r"\1", frame).replace(f"{ROOT}/", "")
    return re.sub(r":\d+\)$", ")", named)


def busy(stacks: Counter[Stack]) -> tuple[Counter[Stack], int]:
    """Return the stacks of the threads that do not only wait, without their thread names; and the others' samples."""
    threads: dict[Stack, Counter[Stack]] = {}
    for stack, count in stacks.items():
        whose = tuple(frame for frame in stack if frame.startswith(("process ", "thread ")))
        threads.setdefault(whose, Counter())[stack] += count
    kept: Counter[Stack] = Counter()
    left_out = 0
    for found in threads.values():
        if max(found.values()) >= _WAITING * found.total():
            left_out += found.total()
            continue
        for stack, count in found.items():
            kept[tuple(frame for frame in stack if not frame.startswith("thread "))] += count
    return kept, left_out


def boxes(stacks: Counter[Stack]) -> Iterator[tuple[int, int, int, str]]:
    """Return depth, first sample, samples and name of every box; those with the same callers share one."""
    paths = sorted(stacks)
    depth = 0
    while paths := [path for path in paths if len(path) > depth]:
        start, at = 0, {}
        for path in sorted(stacks):
            at[path] = start
            start += stacks[path]
        begun: dict[Stack, tuple[int, int]] = {}
        for path in paths:
            first, count = begun.get(path[: depth + 1], (at[path], 0))
            begun[path[: depth + 1]] = first, count + stacks[path]
        for prefix, (first, count) in begun.items():
            yield depth, first, count, prefix[-1]
        depth += 1


def drawn(title: str, stacks: Counter[Stack]) -> str:
    """Return an SVG, callers above what they call; each box has its name, samples and share as its title."""
    total = stacks.total()
    scale = (_WIDTH - 2 * _MARGIN) / total
    found = [box for box in boxes(stacks) if box[2] * scale >= _NARROWEST]
    height = _TITLE + _HEIGHT * (1 + max(depth for depth, _, _, _ in found)) + _MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"',
        ' font-family="monospace" font-size="10">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{_MARGIN}" y="18" font-size="13">{escape(title)}</text>',
    ]
    for depth, first, count, name in found:
        x, y, width = _MARGIN + first * scale, _TITLE + depth * _HEIGHT, count * scale
        shown = name if len(name) * _LETTER < width - 4 else name[: max(0, int((width - 4) / _LETTER) - 1)] + "…"
        label = f'<text x="{x + 2:.1f}" y="{y + 11}">{escape(shown)}</text>' if len(shown) > 2 else ""
        lines.append(
            f"<g><title>{escape(name)}: {count:,} samples, {count / total:.1%}</title>"
            f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_HEIGHT - 1}" fill="{_colour(name)}"/>{label}</g>'
        )
    return "\n".join([*lines, "</svg>", ""])


def _colour(name: str) -> str:
    if _WAITS.match(name):
        return _IDLE
    if "gnomon_" in name:
        return _OF_GNOMON
    return _OF_PYTHON if name.endswith(".py)") else _NATIVE
