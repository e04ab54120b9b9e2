"""Results as a Markdown table and as JSON, with the date and the machine they come from."""

import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import confluent_kafka
import psutil

from benchmarks.running import Series

RESULTS = Path(__file__).with_name("results")
_VERSIONS = ("confluent-kafka", "fastavro", "numpy", "onnxruntime", "pgpq", "psycopg", "pyarrow", "pyruhvro")


@dataclass
class Result:
    """One table: its contenders in the order of the table; `baseline` is what ratios are of."""

    name: str
    title: str
    series: list[Series]
    baseline: str
    note: str = ""


def machine() -> dict[str, Any]:
    """Where and when: processor, cores, memory, Python, libraries, the load beside this."""
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
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "librdkafka": confluent_kafka.libversion()[0],
        "libraries": {name: importlib.metadata.version(name) for name in _VERSIONS},
        "load_average": [round(one, 1) for one in os.getloadavg()],
    }


def markdown(result: Result, where: dict[str, Any]) -> str:
    """One table."""
    place = f"{where['at']}, {where['processor']}, {where['cores']} cores, Python {where['python']}"
    versions = f"librdkafka {where['librdkafka']}; load average at the end {where['load_average'][0]}."
    rate_head, cpu_head = "rows/s: median (least – most)", "µs CPU a row: median (least – most)"
    against = f"rate against {result.baseline} | CPU against it"
    lines = [
        f"## {result.title}",
        "",
        f"{place}, {versions}",
        "",
        f"| | {rate_head} | {cpu_head} | most memory, MB | runs | {against} |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    base = next((one for one in result.series if one.name == result.baseline and one.runs), None)
    for one in result.series:
        if not one.runs:
            lines.append(f"| {one.name} | could not be measured | | | 0 | | |")
            continue
        rate, cpu = one.median("rows_per_second"), one.median("cpu_us")
        (slow, fast), (cheap, dear) = one.spread("rows_per_second"), one.spread("cpu_us")
        faster = f"{rate / base.median('rows_per_second'):.2f} ×" if base else ""
        share = f"{cpu / base.median('cpu_us'):.2f} ×" if base else ""
        lines.append(
            f"| {one.name} | {rate:,.0f} ({slow:,.0f} – {fast:,.0f}) | {cpu:.2f} ({cheap:.2f} – {dear:.2f})"
            f" | {one.spread('peak_bytes')[1] / 1e6:,.0f} | {len(one.runs)} | {faster} | {share} |"
        )
    return "\n".join([*lines, *(["", result.note] if result.note else []), ""])


def write(result: Result, folder: Path = RESULTS) -> Path:
    """Write NAME.md and NAME.json; return the first."""
    folder.mkdir(parents=True, exist_ok=True)
    where = machine()
    path = folder / f"{result.name}.md"
    path.write_text(markdown(result, where))
    (folder / f"{result.name}.json").write_text(json.dumps({"machine": where, **asdict(result)}, indent=1) + "\n")
    return path


def series_named(series: Sequence[Series], name: str) -> Series | None:
    """The series of a contender, if it was measured."""
    return next((one for one in series if one.name == name and one.runs), None)
