"""`gnomon run`: one command scores, joins and takes labels; it ends with its children, and they with it."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg
import pytest
from tests.servers.process import Gnomon, GnomonProcess

from gnomon_consumer.quickstart import flights, training

CAPTURES = 300
TIMEOUT_S = 240.0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for model in training.train(flights.load()[0]):
        model.write(folder)
    return folder


def start(gnomon: Gnomon, models: Path, bootstrap: str, database_url: str) -> GnomonProcess:
    return gnomon.start(
        "run", "--stream", flights.STREAM, "--bootstrap-servers", bootstrap, "--database-url", database_url,
        "--challenger", f"boosting={models / 'gradient-boosting.onnx'}",
        "--control", f"control={models / 'logistic-regression.onnx'}",
    )  # fmt: skip


@pytest.mark.timeout(600)
def test_it_scores_joins_takes_labels_and_ends_on_sigterm(
    gnomon: Gnomon, models: Path, mock_bootstrap: str, database_url: str
) -> None:
    service = [sys.executable, "-m", "gnomon_consumer.quickstart.service", "--captures", str(CAPTURES)]
    service += ["--bootstrap-servers", mock_bootstrap, "--model", str(models / "logistic-regression.onnx")]
    subprocess.run(service, check=True, stdout=subprocess.DEVNULL, timeout=TIMEOUT_S)
    process = start(gnomon, models, mock_bootstrap, database_url)
    want = [("boosting", "challenger", CAPTURES), ("control", "control", CAPTURES)]
    found: list[tuple[object, ...]] = []
    labels = 0
    deadline = time.monotonic() + TIMEOUT_S
    with psycopg.connect(database_url, autocommit=True) as connection:
        while (found != want or not labels) and time.monotonic() < deadline and process.popen.poll() is None:
            time.sleep(0.2)
            found = connection.execute(
                "select d.name, d.role, sum(w.joined_seen)::int from gnomon.windows w"
                " join gnomon.deployments d using (deployment_id) group by d.name, d.role order by d.name"
            ).fetchall()
            (labels,) = connection.execute("select count(*) from gnomon.labels").fetchone() or (0,)
    assert found == want, process.output
    assert labels > 0.9 * CAPTURES
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 5
    assert process.terminate(60) == 0, process.output
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []


@pytest.mark.timeout(600)
def test_the_death_of_one_ends_all_with_status_1(
    gnomon: Gnomon, models: Path, mock_bootstrap: str, database_url: str
) -> None:
    process = start(gnomon, models, mock_bootstrap, database_url)
    process.wait_for("consuming labels", TIMEOUT_S)
    family = psutil.Process(process.pid).children(recursive=True)
    victim = next(member for member in family if "labels" in member.cmdline())
    victim.send_signal(signal.SIGKILL)
    assert process.wait(TIMEOUT_S) == 1
    assert "gnomon: labels was killed by signal 9" in process.output
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([], "nothing to run"),
        (["--challenger", "boosting"], "write NAME=FILE"),
        (["--challenger", "boosting=nowhere.onnx"], "no such file"),
        (["--challenger", "a=gnomon.toml", "--control", "a=gnomon.toml"], "named twice"),
    ],
)
def test_what_cannot_run_is_refused_in_one_line(gnomon: Gnomon, options: list[str], complaint: str) -> None:
    (gnomon.cwd / "gnomon.toml").write_text('stream = "s"\ndatabase_url = "postgresql://localhost/x"\n')
    done = gnomon.run("run", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1
