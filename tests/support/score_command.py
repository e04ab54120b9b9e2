"""The shipped `gnomon score` on a stream of a test."""

from pathlib import Path

from tests.support.live_stream import (
    Stream,
)
from tests.support.servers.process import Gnomon, GnomonProcess

QUICK = {
    "GNOMON_SCORE__WINDOW_SECONDS": "2",
    "GNOMON_SCORE__MIN_WINDOW_SECONDS": "0.1",
    "GNOMON_SCORE__CALL_SECONDS": "2",
    "GNOMON_SCORE__DEADLINE_SECONDS": "20",
}


def prepare(gnomon: Gnomon, bootstrap: str, stream: str, deployments: tuple[str, ...] = ("boost",)) -> Stream:
    arguments = [part for name in deployments for part in ("--deployment", name)]
    done = gnomon.enter("topics", "create", "--stream", stream, "--bootstrap-servers", bootstrap, *arguments)
    assert done.returncode == 0, done.stderr
    return Stream(bootstrap, stream)


def start(
    gnomon: Gnomon, bootstrap: str, stream: str, model: Path, *arguments: str, deployment: str = "boost", **env: str
) -> GnomonProcess:
    return gnomon.start(
        *("score", "--stream", stream, "--bootstrap-servers", bootstrap, "--deployment", deployment),
        *("--model", model, "--member", "a", *arguments),
        env=QUICK | env,
    )
