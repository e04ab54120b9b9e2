"""`gnomon run`: one command scores, joins and reads labels; it ends with its children, and they with it."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg
import pytest
from tests.support.servers.process import Gnomon, GnomonProcess

from gnomon_consumer.quickstart.demo import flights, training
from gnomon_consumer.quickstart.demo.folder import STREAM

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
        "run", "--stream", STREAM, "--bootstrap-servers", bootstrap, "--database-url", database_url,
        "--challenger", f"boosting={models / 'gradient-boosting.onnx'}",
        "--control", f"control={models / 'logistic-regression.onnx'}",
    )  # fmt: skip


@pytest.mark.timeout(600)
def test_it_scores_joins_takes_labels_and_ends_on_sigterm(
    gnomon: Gnomon, models: Path, mock_bootstrap: str, database_url: str
) -> None:
    service = [sys.executable, "-m", "gnomon_consumer.quickstart.demo.service", "--captures", str(CAPTURES)]
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
def test_a_killed_process_is_started_again_and_a_refusal_ends_all(
    gnomon: Gnomon, models: Path, mock_bootstrap: str, database_url: str
) -> None:
    (gnomon.cwd / "gnomon.toml").write_text(
        f'stream = "{STREAM}"\n[run.deployments.boosting]\nmodel = "{models / "gradient-boosting.onnx"}"\n'
    )
    process = gnomon.start("run", "--bootstrap-servers", mock_bootstrap, "--database-url", database_url)
    # All have read their settings by this time.
    for event in ("waiting for the first capture's schema", "event=joining", "consuming labels"):
        process.wait_for(event, TIMEOUT_S)
    family = psutil.Process(process.pid).children(recursive=True)
    victim = next(member for member in family if "labels" in member.cmdline())
    victim.send_signal(signal.SIGKILL)
    process.wait_for("ended.*service=labels.*signal=9", TIMEOUT_S)
    process.wait_for("restarted.*service=labels", TIMEOUT_S)
    # The next start reads a file that is invalid by then.
    (gnomon.cwd / "gnomon.toml").write_text("[score]\nworkers = 0\n")
    family = psutil.Process(process.pid).children(recursive=True)
    next(member for member in family if "labels" in member.cmdline()).send_signal(signal.SIGKILL)
    assert process.wait(TIMEOUT_S) == 2
    assert "gnomon: labels refuses to run (status 2); the line above says why" in process.output
    assert "GNOMON_SCORE__WORKERS (file key score.workers): 0" in process.output
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([], "nothing to run"),
        (["--challenger", "boosting"], "write NAME=MODEL"),
        (["--challenger", "boosting=nowhere.onnx"], "no such file"),
        (["--challenger", "boosting="], "write NAME=MODEL"),
        (["--challenger", "a b=gnomon.toml"], "deployment 'a b' must be"),
        (["--challenger", "a=gnomon.toml", "--control", "a=gnomon.toml"], "named twice"),
    ],
)
def test_what_cannot_run_is_refused_in_one_line(gnomon: Gnomon, options: list[str], complaint: str) -> None:
    (gnomon.cwd / "gnomon.toml").write_text('stream = "s"\ndatabase_url = "postgresql://localhost/x"\n')
    done = gnomon.run("run", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ('[run.deployments.a]\nmodel = "nowhere.onnx"\n', "deployment a, nowhere.onnx: no such file"),
        ("[run.deployments.a]\n", "file key run.deployments.a.model"),
        ('[run.deployments.a]\nmodel = "m.onnx"\nrole = "champion"\n', "file key run.deployments.a.role): 'champion'"),
        (
            '[run.deployments.a]\nmodel = "m.onnx"\nversion = "1"\n',
            "unknown setting: file key run.deployments.a.version",
        ),
        ('[run.deployments."a b"]\nmodel = "m.onnx"\n', "run.deployments.a b"),
        ('[run]\ndeployments = ["a"]\n', "file key run.deployments"),
    ],
)
def test_a_wrong_table_of_deployments_is_one_line(gnomon: Gnomon, table: str, complaint: str) -> None:
    (gnomon.cwd / "gnomon.toml").write_text('stream = "s"\ndatabase_url = "postgresql://localhost/x"\n' + table)
    done = gnomon.run("run")
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1
