"""Restrictions of Kubernetes: nothing to write to, no HOME, a user without a name, IPv6 only."""

import os
import shlex
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict
from tests.support import ordinary_user
from tests.support.database_commands import ASKED
from tests.support.live_stream import Stream, sum_model
from tests.support.servers import process
from tests.support.servers.process import Gnomon
from tests.support.servers.shared import ROOT

NAMELESS = 54321


def ipv6() -> bool:
    """Return whether this machine has an IPv6 loopback."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def constrained(folder: Path, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run Python as a user without a name and a home, who may write at most to `folder`; `more`: environment."""
    python = ordinary_user.interpreter()
    if python is None:
        pytest.skip("root keeps the only Python of this version to itself")
    environment = {**ordinary_user.environment(), "HOME": "/nonexistent", "TMPDIR": str(folder), **more}
    options: dict[str, Any] = {"user": NAMELESS, "group": NAMELESS, "extra_groups": []} if os.geteuid() == 0 else {}
    return subprocess.run(
        [python, "-B", *arguments], capture_output=True, text=True, cwd=folder, env=environment, timeout=120,
        check=False, **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", "from gnomon_consumer.runtime import user; assert user.user_name() == 'uid 54321'"),
        ("-m", "gnomon_consumer", "--help"),
        ("-m", "gnomon_consumer", "--version"),
        ("-m", "gnomon_consumer", "init"),
        ("-m", "gnomon_consumer", "db", "upgrade", "--sql"),
        # Matplotlib needs a folder for its cache, and warns if there is none.
        (
            "-c",
            (
                "from gnomon_consumer.runtime import logging; from gnomon_consumer.settings import LogSettings;"
                " logging.configure(LogSettings()); import gnomon_consumer.reports.html"
            ),
        ),
    ],
    ids=("user", "help", "version", "init", "upgrade --sql", "report html"),
)
def test_a_user_without_name_and_home(arguments: tuple[str, ...]) -> None:
    with ordinary_user.folder() as folder:
        folder.chmod(0o777)
        ended = constrained(folder, *arguments)
    assert (ended.returncode, ended.stderr) == (0, "")


NOWHERE = {
    "GNOMON_STREAM": "s",
    "GNOMON_DEPLOYMENT": "boost",
    "GNOMON_DATABASE_URL": "postgresql://gnomon@127.0.0.1:1/gnomon",
    "GNOMON_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "GNOMON_KAFKA__TIMEOUT_SECONDS": "1",
}
ALL = {
    **ASKED,
    "topics create": (),
    "schemas list": (),
    "dlq replay": ("--model", "model.onnx"),
    "score": ("--deployment", "boost", "--model", "model.onnx"),
    "replay": ("--model", "model.onnx", "--rate", "10"),
    "streams show": (),
    "verdict": ("--deployment", "boost"),
    "promote": ("--deployment", "boost"),
    "rollback": ("--deployment", "boost"),
}


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_every_command_says_one_line_where_nothing_may_be_written_and_nothing_answers() -> None:
    """A read-only root: libraries can write neither a cache nor a temporary file."""
    with ordinary_user.folder() as folder:
        (folder / "training.csv").write_text("amount\n1\n")
        (folder / "labels.csv").write_text("request_id,observed_at,value\nr,2026-01-01,1\n")
        (folder / "model.onnx").write_bytes(b"no model")
        folder.chmod(0o555)
        for command, arguments in ALL.items():
            ended = constrained(folder, "-m", "gnomon_consumer", *command.split(), *arguments, **NOWHERE)
            assert ended.returncode in ((1, 2, 3) if command == "doctor" else (2, 3)), (command, ended.stderr)
            assert "Traceback" not in ended.stderr, (command, ended.stderr)
            assert not any(word in ended.stderr.lower() for word in ("matplotlib", "cache", "permission denied")), (
                command, ended.stderr,
            )  # fmt: skip
        assert {one.name for one in folder.iterdir()} == {"training.csv", "labels.csv", "model.onnx"}


@pytest.mark.skipif(not ipv6(), reason="this machine has no IPv6 loopback")
def test_metrics_on_ipv6(gnomon: Gnomon, mock_bootstrap: str, database_url: str) -> None:
    process = gnomon.start(
        "labels", "consume", "--stream", "s", "--bootstrap-servers", mock_bootstrap, "--database-url", database_url,
        "--metrics", "[::1]:0",
    )  # fmt: skip
    port = process.wait_for("event=metrics").rsplit("port=", 1)[1]
    with urllib.request.urlopen(f"http://[::1]:{port}/healthz", timeout=30) as answer:
        assert answer.status == 200
    assert process.terminate(60) == 0


MANIFESTS = ROOT / "deploy" / "kubernetes" / "base"
# A read-only root file system and /dev/shm, no HOME, no capability, a user without a name. As in a pod, only $TMPDIR is
# writable.
CONFINE = """#!/bin/bash
set -e
exec unshare --mount --propagation private bash -c '
set -e
mount -o remount,bind,ro /
mount -t tmpfs -o ro,size=64k tmpfs /dev/shm
mount -t tmpfs -o mode=1777,size=64m tmpfs {tmp}
cd /
exec env -i PATH="$PATH" LANG=C.UTF-8 PYTHONPATH={path} TMPDIR={tmp} \
    setpriv --reuid={user} --regid={user} --clear-groups --no-new-privs --bounding-set=-all \\
    --inh-caps=-all {python} -B -m gnomon_consumer "$@"
' gnomon "$@"
"""


def args(manifest: str) -> list[str]:
    """Return the arguments of a manifest's container."""
    (found,) = [
        container["args"]
        for item in yaml.safe_load_all((MANIFESTS / manifest).read_text(encoding="utf-8"))
        for container in _containers(item)
    ]
    return list(found)


def _containers(item: dict[str, Any]) -> list[dict[str, Any]]:
    spec = item.get("spec", {})
    spec = spec.get("jobTemplate", {}).get("spec", spec)
    containers: list[dict[str, Any]] = spec.get("template", {}).get("spec", {}).get("containers", [])
    return containers


@pytest.fixture
def pod(gnomon: Gnomon, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Confine `gnomon` as in a pod from here on; the folder holds the mounted files of pods."""
    python = ordinary_user.interpreter()
    tried = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "mount", "-o", "remount,bind,ro", "/"],
        capture_output=True, check=False,
    )  # fmt: skip
    if python is None or tried.returncode != 0:
        pytest.skip("only root may make a file system read only, with a Python that others may run")
    with ordinary_user.folder() as folder:
        folder.chmod(0o755)
        (folder / "tmp").mkdir()
        command = folder / "gnomon"
        path = shlex.quote(ordinary_user.environment()["PYTHONPATH"])
        command.write_text(CONFINE.format(tmp=folder / "tmp", path=path, user=NAMELESS, python=python))
        command.chmod(0o755)
        monkeypatch.setattr(process, "COMMAND", command)
        yield folder


def test_the_file_system_of_these_tests_is_really_read_only(gnomon: Gnomon, pod: Path) -> None:
    refused = gnomon.run("init", "--output", str(pod / "gnomon.toml"))
    assert refused.returncode == 2
    assert "Read-only file system" in refused.stderr
    assert gnomon.run("init", "--output", str(pod / "tmp" / "gnomon.toml")).returncode == 0


@pytest.mark.timeout(600)
def test_every_command_of_the_manifests_works_as_in_a_pod(
    gnomon: Gnomon, pod: Path, mock_bootstrap: str, empty_database_url: str
) -> None:
    """The five containers of deploy/kubernetes/base, with their own arguments, except for model and port."""
    kafka = ("--stream", "pods", "--bootstrap-servers", mock_bootstrap)
    database = ("--database-url", empty_database_url)
    # The server of the tests is reached by a socket in a folder of its own user.
    sockets = Path(str(conninfo_to_dict(empty_database_url)["host"]))
    sockets.chmod(0o755)
    for socket_file in sockets.glob(".s.PGSQL.*[0-9]"):
        socket_file.chmod(0o777)

    def ended(manifest: str, *more: str) -> None:
        done = gnomon.run(*args(manifest), *more)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr

    def here(manifest: str) -> list[str]:
        replaced = {
            "0.0.0.0:9464": "127.0.0.1:0",
            "/models/model.onnx": str(model),
            "$(POD_NAME)": "score-challenger-0",
        }
        return [replaced.get(argument, argument) for argument in args(manifest)]

    ended("set-up.yaml", *database)
    stream = Stream(mock_bootstrap, "pods")
    stream.publish_schema()
    stream.send(200)
    model = sum_model(pod / "model.onnx", "amount")
    model.chmod(0o644)
    scorer = gnomon.start(*here("scorer.yaml"), *kafka)
    joiner = gnomon.start(*here("joiner.yaml"), *kafka, *database)
    labels = gnomon.start(*here("labels.yaml"), *kafka, *database)
    scorer.wait_for("event=scoring")
    labels.wait_for("consuming labels")
    joiner.wait_for(r"event=progress.* windows=[1-9]")
    for service in (scorer, joiner, labels):
        assert service.page("/healthz")[0] == 200
        assert service.page("/metrics")[0] == 200
    ended("maintenance.yaml", *database)
    for service in (scorer, joiner, labels):
        assert service.terminate(60) == 0, service.output
        assert "Traceback" not in service.output
        assert "onnxruntime" not in service.output.lower(), "nothing of a home folder that is missing"
