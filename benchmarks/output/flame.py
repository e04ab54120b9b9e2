"""`python -m benchmarks flame`: flame graphs of a live scorer and a live joiner, drawn by py-spy into docs/images/.

py-spy comes from the path (`pip install py-spy`); it needs the right to trace processes.
"""

import argparse
import contextlib
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import psycopg
from tests.support.servers import postgres

from benchmarks.harness import workload
from benchmarks.harness.running import ROOT, Job, cores, say
from benchmarks.jobs import joiner, scorer
from benchmarks.output.frames import Stack, busy, drawn, read

IMAGES = ROOT / "docs" / "images"
SAMPLES_A_SECOND = 250
_FEWEST = 5000


def main() -> None:
    """Record what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks flame", description=__doc__)
    parser.add_argument("jobs", nargs="*", default=["scorer", "joiner"], help="scorer, joiner; default: both")
    parser.add_argument("--rows", type=int, default=400_000, help="captures in the topic; default: 400,000")
    parser.add_argument("--seconds", type=int, default=5, help="of recording; default: 5")
    arguments = parser.parse_args()
    recorder = shutil.which("py-spy")
    if recorder is None:
        parser.error("there is no py-spy on the path: pip install py-spy")
    with contextlib.ExitStack() as stack:
        setting = stack.enter_context(scorer.filled(arguments.rows, 5.0))
        bootstrap, folder = setting.bootstrap, setting.folder
        if "scorer" in arguments.jobs:
            topic, started = scorer.command(setting, "--no-sampling")
            workload.create(bootstrap, topic)
            with scorer.Seals(bootstrap, topic) as seals, Job(started, cores()[0]) as job:
                job.until(seals.seen, _FEWEST)
                record(recorder, job, "scorer", arguments.seconds, folder)
        if "joiner" in arguments.jobs:
            joining = joiner.Joining(setting, stack.enter_context(postgres.running(folder)), joiner.score(setting))
            with postgres.database(joining.server) as url:
                started = joiner.command(joining, url)
                with joiner.Counted(url, joiner.PROGRESS) as counted, Job(started, cores()[0]) as job:
                    job.until(counted, _FEWEST)
                    record(recorder, job, "joiner", arguments.seconds, folder)
                    with psycopg.connect(url) as connection:
                        say(f"joined: {connection.execute(joiner.PROGRESS).fetchone()}")


def record(recorder: str, job: Job, name: str, seconds: int, folder: Path) -> None:
    """Draw where the processes of a job spend their time, without threads that only wait."""
    recorders = {}
    # One recorder a process: if py-spy follows children itself, it silently omits those that it cannot read.
    for pid in job.pids():
        raw = folder / f"{name}.{pid}"
        to = ["--threads", "--format", "raw", "--rate", str(SAMPLES_A_SECOND), "--duration", str(seconds)]
        started = [recorder, "record", *native(recorder, pid), *to, "--output", str(raw), "--pid", str(pid)]
        recorders[raw] = subprocess.Popen(started, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found: Counter[Stack] = Counter()
    for number, (raw, process) in enumerate(recorders.items()):
        if process.wait(300) or not raw.exists():
            say(f"process {number}: nothing recorded")
            continue
        for frames, count in read(raw.read_text()).items():
            found[(f"process {number}", *frames)] += count
    stacks, waiting = busy(found)
    path = IMAGES / f"{name}-flame.svg"
    path.write_text(
        drawn(f"{name}: {stacks.total():,} samples; {waiting:,} of threads that only wait are left out", stacks)
    )
    say(str(path))


def native(recorder: str, pid: int) -> list[str]:
    """Return the option for frames of C code if they can be read: an optimised runtime may not be readable."""
    tried = subprocess.run([recorder, "dump", "--native", "--pid", str(pid)], capture_output=True, check=False)
    return [] if tried.returncode else ["--native"]
