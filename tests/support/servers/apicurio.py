"""Apicurio, a schema registry with the Confluent API, as its makers publish it for Maven; all data is in memory."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from gnomon_consumer.runtime.parent_death import tie_to_parent
from tests.support.servers.ports import free_port
from tests.support.servers.shared import ROOT, ServerUnavailableError

# The last version line that runs on Java 17.
VERSION = "2.6.13.Final"
API = "/apis/ccompat/v7"
START_SECONDS = 180.0


@contextlib.contextmanager
def running(folder: Path) -> Iterator[str]:
    """Yield the URL of its Confluent API.

    Raises:
        ServerUnavailableError: java or Maven is missing, or it does not start.
    """
    java = shutil.which("java")
    if java is None:
        raise ServerUnavailableError("no real schema registry: no java here")
    program, port, parent, log = _program(), free_port(), os.getpid(), folder / "apicurio.log"
    command = [
        java, "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dquarkus.http.host=127.0.0.1",
        f"-Dquarkus.http.port={port}", "-jar", str(program),
    ]  # fmt: skip
    with log.open("w") as lines:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=lines, stderr=lines, cwd=folder,
            preexec_fn=lambda: tie_to_parent(parent, signal.SIGKILL),
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}{API}"
    try:
        _wait_until_ready(url, process, log)
        yield url
    finally:
        process.kill()
        process.wait()


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"{url}/subjects", timeout=5).close()
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            if process.poll() is not None or time.monotonic() > deadline:
                last = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
                raise ServerUnavailableError(f"no real schema registry: it did not start:\n{last}") from None
            time.sleep(0.2)
        else:
            return


def _program() -> Path:
    """Return the runnable jar, fetched by Maven once and stored in `.cache/` of the checkout."""
    home = ROOT / ".cache" / f"apicurio-{VERSION}"
    home.parent.mkdir(exist_ok=True)
    with (home.parent / "apicurio.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            maven = shutil.which("mvn")
            if maven is None:
                raise ServerUnavailableError(f"no real schema registry: {home} is absent and Maven (mvn) is missing")
            partial = home.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            fetch = [
                maven, "-q", "-B", "dependency:copy", f"-DoutputDirectory={partial}",
                f"-Dartifact=io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all",
            ]  # fmt: skip
            fetched = subprocess.run(fetch, capture_output=True, text=True, check=False, cwd=home.parent)
            if fetched.returncode != 0:
                raise ServerUnavailableError(
                    f"no real schema registry: Maven cannot fetch it:\n{fetched.stdout[-2000:]}"
                )
            (packed,) = partial.glob("*.tar.gz")
            with tarfile.open(packed) as archive:
                archive.extractall(partial, filter="data")
            packed.unlink()
            partial.rename(home)
    (program,) = home.glob("*-runner.jar")
    return program
