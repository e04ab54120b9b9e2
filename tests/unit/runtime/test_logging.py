"""A module's logger writes as the newest configuration says, however often it was used before."""

import logging
from collections.abc import Iterator

import pytest
import structlog

from gnomon_consumer.runtime.logging import configure, get_logger
from gnomon_consumer.settings import LogSettings

log = get_logger("part")


@pytest.fixture
def configured() -> Iterator[None]:
    """Restore what was configured before."""
    root = logging.getLogger()
    handlers, level, before = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


@pytest.mark.usefixtures("configured")
def test_a_logger_follows_the_newest_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogSettings(format="json"))
    log.warning("first")
    configure(LogSettings(format="logfmt"))
    log.warning("second")
    with structlog.testing.capture_logs() as captured:
        log.warning("third")
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith('{"component": "part", "event": "first"')
    assert second.startswith("timestamp=")
    assert "event=second component=part" in second
    assert [event["event"] for event in captured] == ["third"]
