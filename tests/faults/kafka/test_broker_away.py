"""The broker fails under the whole pipeline and comes back."""

import time
from pathlib import Path

import pytest
from tests.support.broker_proxy import Broker
from tests.support.full_disk import fill
from tests.support.joined_database import wait_until
from tests.support.live_stream import sum_model
from tests.support.pipeline import LiveService, Pipeline, captured, check_ledger
from tests.support.servers.kafka import wait_until_ready
from tests.support.servers.process import Gnomon
from tests.support.servers.shared import ServerUnavailableError
from tests.support.servers.tools import no_kafka
from tests.support.tap import make_tap


@pytest.mark.timeout(400)
@pytest.mark.parametrize("small_disk", [300], indirect=True)
@pytest.mark.parametrize("fault", ["killed", "full disk"])
def test_the_broker_away_and_back(
    gnomon: Gnomon, stream_name: str, database_url: str, small_disk: Path, fault: str
) -> None:
    """Scorer and joiner wait while the broker is killed or its disk is full, and continue afterwards."""
    try:
        broker = Broker(small_disk)
    except ServerUnavailableError as reason:
        no_kafka(reason)
    try:
        bootstrap = f"127.0.0.1:{broker.port}"
        wait_until_ready(bootstrap)
        model = sum_model(small_disk / "sum.onnx", "amount")
        pipeline = Pipeline(gnomon, bootstrap, database_url, stream_name, model)
        created = gnomon.enter("topics", "create", "--deployment", "challenger", env=pipeline.env)
        assert created.returncode == 0, created.stderr
        tap = make_tap(bootstrap, stream_name)
        service = LiveService(tap)
        service.serve_up_to(3000)
        running = [pipeline.score(), pipeline.join()]
        wait_until(lambda: pipeline.joined() == 3000, 120)
        if fault == "killed":
            broker.kill()
            service.serve_up_to(9000)
        else:
            ballast = fill(small_disk)
            service.serve_up_to(9000)
            broker.process.wait(120)
            ballast.unlink()
        broker.start()
        wait_until_ready(bootstrap)
        service.serve_up_to(10_000)
        assert tap.flush(120)
        stats = tap.stats()
        tap.close()
        assert stats.offered == 10_000 == stats.delivered + sum(stats.dropped.values())
        live = captured(bootstrap, stream_name)
        assert stats.delivered <= len(live) <= 10_000
        deadline = time.monotonic() + 120
        while pipeline.joined() < len(live):
            for process in running:
                assert process.popen.poll() is None, process.output
            assert time.monotonic() < deadline, "\n\n".join(process.output[-3000:] for process in running)
            time.sleep(0.05)
        assert [process.terminate() for process in running] == [0, 0], [process.output for process in running]
        check_ledger(bootstrap, stream_name, database_url, live)
    finally:
        broker.kill()
