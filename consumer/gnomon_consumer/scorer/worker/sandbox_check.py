"""A check of a worker's sandbox on this machine, for `gnomon doctor`. Standard library only."""

import os
import subprocess
import time

from gnomon_consumer.scorer.worker import sandbox

_SECONDS = 30.0
_MEMORY = 2**30
LAYERS = ("files", "secrets", "network", "calls", "processes", "memory", "environment", "user")


def work(report: dict[str, str]) -> None:
    """Try each layer within a worker; print one line for each, and leave a process behind that must end with it."""
    for name, text in report.items():
        print(name, text, sep="=")
    print("empty", sandbox.network_is_gone(), sep="=")
    try:
        bytearray(2 * _MEMORY)
        print("memory=open: a process limited to 1 GiB could allocate 2 GiB", flush=True)
    except MemoryError:
        print("memory=limited", flush=True)
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)  # it must be killed with its worker, which doctor checks


def check_sandbox() -> dict[str, str]:
    """Return the result of each layer (see LAYERS).

    The check leaves a detached process behind, which holds open the pipe that is read here: the end of the pipe is the
    end of that process.
    """
    from gnomon_consumer.scorer.worker import launch

    command = launch.command(sandbox.Limits(_MEMORY), check=True)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        output, errors = process.communicate(timeout=_SECONDS)
    except subprocess.TimeoutExpired as late:
        process.kill()
        output, errors = late.output or b"", b""
        output += b"processes=open: a detached process outlives its worker\n"
    said = dict(line.split("=", 1) for line in output.decode().splitlines())
    if said.pop("empty", "") != "True" and said.get("network") == "none":
        said["network"] = "open: a socket could be created anyway"
    unknown = f"open: not known ({errors.decode('utf-8', 'replace').strip()[-200:]})"
    return {name: said.get(name, unknown) for name in LAYERS}
