"""A broker that is replaced by an empty one on the same address, under running services: none starts from nothing."""

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from tests.support.broker_proxy import Broker
from tests.support.joined_database import wait_until
from tests.support.live_stream import sum_model
from tests.support.pipeline import Pipeline
from tests.support.servers.kafka import wait_until_ready
from tests.support.servers.process import Gnomon
from tests.support.servers.shared import ServerUnavailableError
from tests.support.servers.tools import no_kafka
from tests.support.tap import GOOD, make_tap


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """One of this test's own."""
    try:
        own = Broker(tmp_path)
    except ServerUnavailableError as reason:
        no_kafka(reason)
    wait_until_ready(f"127.0.0.1:{own.port}")
    yield own
    own.kill()


def record(bootstrap: str, stream: str, numbers: range) -> None:
    """Capture and label requests as a service does."""
    tap = make_tap(bootstrap, stream)
    for number in numbers:
        tap.record(f"r{number}", GOOD, value=0.5)
        tap.label(f"r{number}", value=1.0)
    assert tap.close(60)


@pytest.mark.timeout(500)
@pytest.mark.parametrize("topics", ["none", "longer"])
def test_services_stop_and_say_so(
    gnomon: Gnomon, broker: Broker, stream_name: str, database_url: str, tmp_path: Path, topics: str
) -> None:
    bootstrap = f"127.0.0.1:{broker.port}"
    pipeline = Pipeline(gnomon, bootstrap, database_url, stream_name, sum_model(tmp_path / "sum.onnx", "amount"))

    def create() -> None:
        done = gnomon.enter("topics", "create", "--deployment", "challenger", env=pipeline.env)
        assert done.returncode == 0, done.stderr

    def stored() -> tuple[int, int]:
        with psycopg.connect(database_url) as connection:
            row = connection.execute("select (select count(*) from gnomon.pairs), (select count(*) from gnomon.labels)")
            return row.fetchone() or (0, 0)

    create()
    services = {
        "score": pipeline.score("--no-sampling", "--from", "earliest"), "join": pipeline.join(),
        "labels": gnomon.start("labels", "consume", env=pipeline.env),
    }  # fmt: skip
    record(bootstrap, stream_name, range(200))
    wait_until(lambda: stored() == (200, 200), 120)
    broker.kill()
    broker.empty("BBBBBBBBBBBBBBBBBBBBBA")
    wait_until_ready(bootstrap)
    if topics != "none":
        create()
        record(bootstrap, stream_name, range(1000, 1400))
    for name, service in services.items():
        assert service.wait(150) == 2, (name, service.output)
        said = service.output.splitlines()[-1]
        assert re.search("re-created|no topic|cannot be read|before offset", said), (name, said)
        assert "Traceback" not in service.output
    assert stored() == (200, 200), "nothing of the other cluster"
