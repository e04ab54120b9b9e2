"""A request with a caller's error is not a failure of the live model."""

from typing import Any

import pytest
from tests.support.tap import GOOD, captures, make_tap

from gnomon_schemas.errors import ConfigurationError


class HTTPException(Exception):  # noqa: N818 - as FastAPI names it
    def __init__(self, status_code: int) -> None:
        self.status_code = status_code


class NotFound(Exception):  # noqa: N818 - as web frameworks name it
    pass


def test_a_refused_request_is_counted_and_not_captured(mock_bootstrap: str, stream_name: str) -> None:
    tap = make_tap(mock_bootstrap, stream_name, ignore=(HTTPException, NotFound))
    for error in (HTTPException(422), HTTPException(404), NotFound()):
        with pytest.raises(type(error)), tap.capture("r", {"nothing": "fits"}):
            raise error
    with tap.capture("r", GOOD) as shot:
        shot.rejected()
    tap.record("r", GOOD, error=HTTPException(400))

    @tap.observe(features=lambda _: GOOD, predicted=float)
    def handler(_: Any) -> float:
        raise HTTPException(413)

    with pytest.raises(HTTPException):
        handler(1)
    for failure in (HTTPException(500), HTTPException(503), ValueError("the model")):
        with pytest.raises(type(failure)), tap.capture("failed", GOOD):
            raise failure
    assert tap.close()
    stats = tap.stats()
    assert (stats.rejected, stats.offered, stats.delivered, dict(stats.dropped)) == (6, 3, 3, {})
    found = captures(mock_bootstrap, stream_name)
    assert [record["error"]["kind"] for record in found] == ["exception"] * 3
    assert [record["sequence"] for record in found] == [0, 1, 2], "a rejected request takes no number"


def test_a_callable_decides_and_its_own_error_is_a_failure(mock_bootstrap: str, stream_name: str) -> None:
    def ignore(error: BaseException) -> bool:
        return bool(error.args[0] < 0)

    tap = make_tap(mock_bootstrap, stream_name, ignore=ignore)
    for argument in (-1, 1, "no number"):
        with pytest.raises(ValueError), tap.capture("r", GOOD):
            raise ValueError(argument)
    assert tap.close()
    assert (tap.stats().rejected, tap.stats().offered) == (1, 2)


@pytest.mark.parametrize("wrong", ["HTTPException", (422,), ValueError, None])
def test_what_names_no_exceptions_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="ignore"):
        make_tap("127.0.0.1:1", "s", ignore=wrong)
