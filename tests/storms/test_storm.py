"""A storm of a minute, in CI of five; `make soak` runs longer ones."""

import os

import pytest

from tests.storms.storm import storm


@pytest.mark.kafka
@pytest.mark.postgres
@pytest.mark.first
@pytest.mark.timeout(1200)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount the disk that a storm fills")
def test_a_storm_loses_doubles_and_tears_nothing(kafka_bootstrap: str) -> None:
    """Seed and seconds from GNOMON_TEST_SEED and GNOMON_TEST_STORM_SECONDS."""
    seed = int(os.environ.get("GNOMON_TEST_SEED", "26"))
    report = storm(seed, float(os.environ.get("GNOMON_TEST_STORM_SECONDS", "60")))
    print(f"make soak ARGS='--first {seed}': {report}")
    assert report.verdict is not None
    assert report.verdict.holds, report.verdict
