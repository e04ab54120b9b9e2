"""Results as a Markdown table and as JSON, with the date, the machine and the command they come from."""

import importlib.metadata
import json
import os
import platform
import re
import shlex
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import confluent_kafka
import psutil

from benchmarks.harness.running import Series

RESULTS = Path(__file__).parents[1] / "results"
_VERSIONS = ("confluent-kafka", "fastavro", "numpy", "onnxruntime", "pgpq", "psycopg", "pyarrow", "pyruhvro")
_REASON = 160
Data = dict[str, Any]


@dataclass
class Result:
    """One table: its contenders in the order of the table;

    `baseline` is the base of the ratios, `rows` fill the topic.
    """

    name: str
    title: str
    series: list[Series]
    baseline: str
    rows: int


def machine() -> Data:
    """Return where, when and how: processor, cores, memory, Python, libraries, the other load, the command."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command(),
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "librdkafka": confluent_kafka.libversion()[0],
        "libraries": {name: importlib.metadata.version(name) for name in _VERSIONS},
        "load_average": [round(one, 1) for one in os.getloadavg()],
    }


def command() -> str:
    """Return the command line of this measurement."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    name = str(spec.name).removesuffix(".__main__") if spec else Path(sys.argv[0]).name
    # One of the measurements of Gnomon alone is the last word of the program's name: see benchmarks/__main__.py.
    given = [
        re.sub(r"^(.*=)?[a-z]+://.*", r"\1URL", one) for one in sys.argv[1:]
    ]  # of this machine, maybe with a password
    arguments = " ".join((*sys.argv[0].split(" ")[1:], shlex.join(given))).strip()
    if name == "benchmarks":
        return f'make bench ARGS="{arguments}"' if arguments else "make bench"
    return f"python -m {name} {arguments}".strip()


def place(where: Data) -> str:
    """Return the time, the machine and its load."""
    at = f"{where['at'][:10]} {where['at'][11:16]} UTC"
    return (
        f"{at}, {where['processor']}, {where['cores']} cores, Python {where['python']},"
        f" librdkafka {where['librdkafka']}; load average at the end {where['load_average'][0]}"
    )


def measured(where: Data) -> str:
    """Return the line above a table: the command, when and where."""
    command = where.get("command")
    return f"{f'`{command}`, ' if command else ''}{place(where)}:"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table; the first column is text."""
    return [line(heads), f"|---|{'---:|' * (len(heads) - 1)}", *map(line, rows)]


def line(cells: Sequence[str]) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def spread(runs: Sequence[Data], of: str, form: str = ",.0f") -> str:
    """Return the median of a field of the runs (the least – the most)."""
    values = [run[of] for run in runs]
    return f"{statistics.median(values):{form}} ({min(values):{form}} – {max(values):{form}})"


def median(runs: Sequence[Data], of: str) -> float:
    """Return the median of a field of the runs."""
    return float(statistics.median(run[of] for run in runs))


def contenders(data: Data) -> list[str]:
    """Return the table of a stored result."""
    baseline = data["baseline"]
    base = next((one["runs"] for one in data["series"] if one["name"] == baseline and one["runs"]), None)
    heads = ("", "rows/s: median (least – most)", "µs CPU a row: median (least – most)", "most memory, MB", "runs")

    def cells(one: Data) -> Iterator[str]:
        runs = one["runs"]
        yield one["name"]
        if not runs:
            yield from (f"cannot run: {reason(one['error'])}", "", "", "0", "", "")
            return
        yield from (spread(runs, "rows_per_second"), spread(runs, "cpu_us", ".2f"))
        yield from (f"{max(run['peak_bytes'] for run in runs) / 1e6:,.0f}", str(len(runs)))
        for of in ("rows_per_second", "cpu_us"):
            yield f"{median(runs, of) / median(base, of):.2f} ×" if base else ""

    ratios = (f"rate against {baseline}", "CPU against it")
    return table([*heads, *ratios], [list(cells(one)) for one in data["series"]])


def reason(error: str) -> str:
    """Return the last line of a contender's output, as a cell."""
    last = (error.strip().splitlines() or ["no output"])[-1]
    return re.sub(r"\s+", " ", last).replace("|", "/")[:_REASON]


def markdown(data: Data) -> str:
    """Return one table with its title, in Markdown."""
    return "\n".join([f"## {data['title']}", "", measured(data["machine"]), "", *contenders(data), ""])


def write(result: Result, folder: Path = RESULTS) -> Path:
    """Write NAME.md and NAME.json; return the first."""
    folder.mkdir(parents=True, exist_ok=True)
    data = {"machine": machine(), **asdict(result)}
    path = folder / f"{result.name}.md"
    path.write_text(markdown(data))
    path.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n")
    return path
