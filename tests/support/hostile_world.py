"""Run every attack of hostile_models in a worker, and check after each what it has changed outside.

    python -m tests.support.hostile_world FOLDER plain|container|bare FILE

FOLDER belongs to the user that runs this; FILE gets the findings as JSON. `container`: under a filter of system
calls like Docker's default one (no namespaces, no mounts); `bare`: also without Landlock, as in older engines.
"""

import errno
import fcntl
import hashlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from gnomon_consumer.scorer.captures import Row, Rows
from gnomon_consumer.scorer.pool.jobs import Job
from gnomon_consumer.scorer.pool.pool import Pool
from gnomon_consumer.scorer.worker import kernel, models, seccomp
from gnomon_consumer.scorer.worker.sandbox import Limits, keep_memory_private
from gnomon_schemas.codec import Reader
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.store import packaged_schemas
from tests.support import hostile_models
from tests.support.live_stream import FEATURES, Stream

SECRET = "canary-secret-of-the-hostile-suite"
_DOCKER = (
    "unshare", "setns", "mount", "umount2", "pivot_root", "open_tree", "move_mount", "fsopen", "fsconfig", "fsmount",
    "fspick", "mount_setattr", "add_key", "request_key", "keyctl", "userfaultfd", "kexec_load", "swapon", "swapoff",
    "acct", "reboot", "bpf", "perf_event_open", "open_by_handle_at", "init_module", "finit_module", "delete_module",
    "clock_settime", "settimeofday", "kcmp", "io_uring_setup", "io_uring_enter", "io_uring_register",
)  # fmt: skip
_LANDLOCK = ("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self")
_VICTIM = "import sys, time\nprint('ready', flush=True)\ntime.sleep(3600)"
_LONGEST_SECONDS = 60.0


def like_a_container(*, landlock: bool) -> None:
    """Filter the system calls of this process and its children as a container engine does."""
    rules = [line for name in _DOCKER for line in seccomp.deny(name)]
    rules += seccomp.any_bit("clone", 0, 0x7E020000) + seccomp.deny("clone3", errno.ENOSYS)
    if not landlock:
        rules += [line for name in _LANDLOCK for line in seccomp.deny(name)]
    seccomp.install(rules)


class World:
    """The targets of the attacks, and their state before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secret = folder / "gnomon.toml"
        self.secret.write_text(f'database_url = "{SECRET}"\n')
        self.secret.chmod(0o600)
        (folder / "victim").write_bytes(b"as it was" * 1000)
        (folder / "empty").mkdir()
        os.mkfifo(folder / "pipe")
        self._fifo = os.open(folder / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        self._sockets = {
            "tcp": socket.create_server(("127.0.0.1", 0)),
            "udp": socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
            "unix": socket.socket(socket.AF_UNIX),
            "datagram": socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
            "abstract": socket.socket(socket.AF_UNIX),
        }
        self._sockets["udp"].bind(("127.0.0.1", 0))
        self._abstract = f"gnomon-hostile-{os.getpid()}"
        for name, address in (
            ("unix", str(folder / "listens")), ("datagram", str(folder / "takes")), ("abstract", f"\0{self._abstract}"),
        ):  # fmt: skip
            self._sockets[name].bind(address)
        for name in ("unix", "abstract"):
            self._sockets[name].listen()
        for one in self._sockets.values():
            one.setblocking(False)
        self.victim = subprocess.Popen(
            [sys.executable, "-c", _VICTIM], stdout=subprocess.PIPE, env=os.environ | {"CANARY": SECRET}
        )
        assert self.victim.stdout is not None
        self.victim.stdout.readline()
        for name in ("hostile_models.py",):
            shutil.copy(Path(hostile_models.__file__).with_name(name), folder / "hostile.py")
        self._site = Path(np.__file__).parents[1]
        told = {
            "secret": str(self.secret), "victim": self.victim.pid, "scorer": os.getpid(), "home": str(Path.home()),
            "site": str(self._site), "unix": str(folder / "listens"), "datagram": str(folder / "takes"),
            "abstract": self._abstract, "keeper_session": os.getpid(),
            "tcp": self._sockets["tcp"].getsockname()[1], "udp": self._sockets["udp"].getsockname()[1],
        }  # fmt: skip
        (folder / "world.json").write_text(json.dumps(told))
        self._signals: list[int] = []
        for number in (signal.SIGUSR1, signal.SIGIO, signal.SIGURG):
            signal.signal(number, lambda got, _: self._signals.append(got))

    def look(self) -> dict[str, Any]:
        """Return everything that an attack could have changed, in a comparable form."""
        victim = psutil.Process(self.victim.pid)
        files: dict[str, Any] = {}
        for path in sorted([*self.folder.rglob("*"), self.folder]):
            found = path.lstat()
            digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            files[str(path)] = (found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns, found.st_nlink, digest)
            with suppress(OSError):
                files[f"{path} attributes"] = tuple(os.listxattr(path))
        planted = [
            *map(str, self._site.glob("gnomon_planted*")), *map(str, Path("/tmp").glob("gnomon-hostile")),
            *map(str, Path("/dev/shm").glob("gnomon-hostile")),
            *map(str, Path.home().glob(".local/usercustomize.py")),
        ]  # fmt: skip
        return {
            "files": files,
            "planted": planted,
            "modules": hashlib.sha256(Path(kernel.__file__).read_bytes()).hexdigest(),
            "arrived": self._arrived(),
            "signals": list(self._signals),
            "victim": (self.victim.poll(), victim.nice(), victim.cpu_affinity(), victim.status() == "stopped"),
            "victim's limits": resource.prlimit(self.victim.pid, resource.RLIMIT_CPU),
            "scorer": (os.getpriority(os.PRIO_PROCESS, 0), sorted(os.sched_getaffinity(0))),
            "host": socket.gethostname(),
            "clock": time.time() > 1_600_000_000,
            "kernel": Path("/proc/sys/kernel/core_pattern").read_text(),
            "lock": self._can_lock(),
        }

    def left_over(self) -> list[int]:
        """Return processes that a worker has left behind, which have the folder as theirs."""
        ours = (os.getpid(), self.victim.pid)
        there = psutil.process_iter(["cwd"])
        return [one.pid for one in there if one.info["cwd"] == str(self.folder) and one.pid not in ours]

    def close(self) -> None:
        """End the processes that were started for it."""
        self.victim.kill()
        self.victim.communicate()
        for one in self._sockets.values():
            one.close()
        os.close(self._fifo)

    def _arrived(self) -> list[str]:
        found = []
        for name, one in self._sockets.items():
            with suppress(BlockingIOError):
                if name in ("udp", "datagram"):
                    one.recv(10)
                else:
                    one.accept()[0].close()
                found.append(name)
        with suppress(BlockingIOError):
            if os.read(self._fifo, 10):
                found.append("fifo")
        return found

    def _can_lock(self) -> bool:
        with (self.folder / "victim").open("rb") as found:
            try:
                fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
        return True


@contextmanager
def _pool(folder: Path, secret: Path, *, required: bool) -> Iterator[Pool]:
    limits = Limits(2**30, processes=32, hidden=(str(secret),), required=required)
    os.chdir(folder)
    pool = Pool(1, models.describe("hostile:make"), limits, call_seconds=2.0)
    try:
        pool.start(FEATURES.live)
        yield pool
    finally:
        pool.close()


def _ask(pool: Pool, visits: int) -> str:
    """Return the result of one attack, for people."""
    value = Stream("127.0.0.1:1", "none").capture("r", amount=1.0, visits=visits)
    pool.submit(
        Job(
            window_id="w",
            partition=0,
            sealed_at=0,
            rows=Rows.of([Row(0, 0, b"r", value, None, 0, 1.0)]),
            places=np.arange(1),
            single=False,
        )
    )
    deadline = time.monotonic() + _LONGEST_SECONDS
    while time.monotonic() < deadline:
        done = pool.poll(wait=0.05)
        if done:
            found = Reader(packaged_schemas()).decode(done[0].scored[0].message).record
            error, prediction = found["error"], found["prediction"]
            return str(prediction["label"]) if prediction else f"{error['kind']}: {error['message']}"
    return "no answer: the scorer hangs"


def run(folder: Path, mode: str) -> dict[str, Any]:
    """Return {"sandbox": …, "required": …, "attacks": {name: [the result, what it changed]}}."""
    keep_memory_private()
    if mode != "plain":
        like_a_container(landlock=mode == "container")
    world = World(folder)
    found: dict[str, Any] = {"attacks": {}, "required": "starts"}
    try:
        try:
            with _pool(folder, world.secret, required=True):
                pass
        except ConfigurationError as refused:
            found["required"] = str(refused)
        with _pool(folder, world.secret, required=False) as pool:
            found["sandbox"] = dict(pool.sandbox)
            for at, attack in enumerate(hostile_models.ATTACKS):
                before = world.look()
                said = _ask(pool, at)
                after = world.look()
                changed = [name for name in before if before[name] != after[name]]
                changed += ["secret"] if SECRET in said else []
                changed += ["the scorer hangs"] if said.startswith("no answer") else []
                if attack is hostile_models.read_environments and not changed:
                    said = "got its own environment"
                found["attacks"][attack.__name__] = [said.replace(SECRET, "<the secret>"), changed]
            assert _ask(pool, -1) == "nothing refused"  # and it continues to score
        found["left over"] = world.left_over()
    finally:
        world.close()
    return found


if __name__ == "__main__":
    Path(sys.argv[3]).write_text(json.dumps(run(Path(sys.argv[1]), sys.argv[2]), indent=1))
