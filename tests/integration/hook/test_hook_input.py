"""Arguments that a caller may pass to the hook by mistake or in malice; none of them causes an exception."""

import asyncio
import itertools
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from tests.support.hostile_objects import Hostile
from tests.support.tap import GOOD, assert_closed_account, captures

from gnomon_producer import Tap, TapStats


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"visits": None}, "visits"),
        ({"visits": 1.5}, "visits"),
        ({"visits": True}, "visits"),
        ({"visits": "SECRET"}, "visits"),
        ({"visits": 2**63}, "visits"),
        ({"amount": "SECRET"}, "amount"),
        ({"amount": Decimal("0.12345678901234567890")}, "amount"),
        ({"amount": True}, "amount"),
        ({"amount": 10**400}, "amount"),
        ({"country": b"SECRET"}, "country"),
        ({"country": "SECRET\ud800"}, "country"),
        ({"extra": "SECRET"}, "extra"),
    ],
)
@pytest.mark.parametrize("warmed", [False, True])
def test_what_does_not_fit_is_dropped_and_named_without_its_value(
    tap: Tap, change: dict[str, Any], named: str, warmed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    if warmed:
        tap.record("good", GOOD, value=1.0)
        assert tap.stats().dropped == {}
    with caplog.at_level(logging.WARNING):
        tap.record("r", GOOD | change, value=1.0)
        tap.record("r", {name: value for name, value in GOOD.items() if name != named} | change, value=1.0)
        assert tap.close()
    assert tap.stats().dropped == {"invalid_features": 2}
    assert f"feature '{named}'" in caplog.text
    assert "SECRET" not in caplog.text


def test_a_missing_feature_is_named(tap: Tap, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        tap.record("r", {"amount": 1.0, "country": "CH"}, value=1.0)
        tap.record("r", {"amount": 1.0, "visits": 1}, value=1.0)  # a country may be null, and so may be absent
        assert tap.close()
    assert tap.stats().dropped == {"invalid_features": 1}
    assert "feature 'visits' is missing (1 since" in caplog.text


class HostileDict(dict[str, Any]):
    """A dict that raises when it is read."""

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError("hostile")

    __iter__ = __len__ = __contains__ = __repr__ = __str__ = get = items = keys = __getitem__  # type: ignore[assignment]


class Endless(dict[str, Any]):
    """A mapping whose iterator never ends and whose length lies."""

    def __iter__(self) -> Iterator[str]:
        number = 0
        while True:
            yield str(number := number + 1)

    def __len__(self) -> int:
        return 10**9


HOSTILE: list[Any] = [
    Hostile(),
    HostileDict(GOOD),
    Endless(GOOD),
    GOOD | {"amount": Hostile()},
    {Hostile: 1},
    {1: 2, "amount": 1.0, "country": None, "visits": 1},
    None,
    7,
    "text",
    [],
    object(),
    {"amount": [[[[]]]], "country": {}, "visits": ()},
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))  # not the objects, because pytest itself would fail on them
def test_hostile_arguments_never_get_through_to_the_caller(tap: Tap, number: int) -> None:
    hostile = HOSTILE[number]
    tap.record("r", hostile, value=1.0)
    tap.record("r", GOOD, value=Hostile())
    tap.record("r", GOOD, label=Hostile())
    tap.record("r", GOOD, scores=Hostile())
    tap.record("r", GOOD, items=[Hostile()])
    tap.record("r", GOOD, error=Hostile())
    tap.record(Hostile(), GOOD, value=1.0)  # type: ignore[arg-type]
    tap.record("r", GOOD, value=1.0, segments=Hostile())  # type: ignore[arg-type]
    tap.record("r", GOOD, value=1.0, cluster=Hostile())  # type: ignore[arg-type]
    tap.record("r", GOOD, value=1.0, captured_at=Hostile())
    tap.record("r", GOOD, value=1.0, captured_at=datetime(2020, 1, 1))  # noqa: DTZ001 - naive on purpose
    tap.record("r", GOOD, value=1.0, captured_at=2**63)
    tap.record("r", GOOD, value=1.0, latency_us=Hostile())  # type: ignore[arg-type]
    tap.record("r", GOOD, value=1.0, feature_state=Hostile())
    with tap.capture("r", hostile) as shot:
        shot.predicted(Hostile())
    tap.label(Hostile(), value=1.0)  # type: ignore[arg-type]
    tap.label("r", value=Hostile(), occurred_at=Hostile())
    tap.label("r")

    @tap.observe(request_id=Hostile(), features=Hostile(), predicted=Hostile())
    def handler() -> int:
        return 7

    assert handler() == 7
    assert tap.close()
    stats = tap.stats()
    assert_closed_account(stats)
    assert stats.delivered == 0
    assert stats.offered == 16
    assert set(stats.dropped) <= {"invalid_features", "internal_error"}
    assert stats.labels is not None
    assert_closed_account(stats.labels)
    assert stats.labels.offered == 3


class Nameless(type):
    """A type that raises when its name is read."""

    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError("hostile")


class Unspeakable(Exception, metaclass=Nameless):  # noqa: N818 - the service's own class, in no style
    """An exception that can only be passed on: even reading its class raises."""

    @property  # type: ignore[misc]  # that is the hostile part
    def __class__(self) -> Any:
        raise RuntimeError("hostile")


def test_errors_that_cannot_be_named_never_get_through_and_the_callers_own_passes(tap: Tap) -> None:
    error = Unspeakable()

    def throw(*_: object) -> Any:
        raise error

    throwing = type("Throwing", (dict,), {"get": throw, "keys": throw, "__getitem__": throw, "__len__": throw})
    got_through = False
    try:
        tap.record("r", throwing(GOOD), value=1.0)
        tap.record("r", GOOD | {"amount": error}, value=1.0)
        tap.record("r", GOOD, value=error)
        tap.record("r", GOOD, value=1.0, captured_at=error, segments=throwing(GOOD))
        assert tap.observe(features=throw, predicted=throw)(lambda: 7)() == 7
        assert tap.observe(features=lambda: GOOD, predicted=throw)(lambda: 7)() == 7
        tap.label("r", value=error)
    except Exception:  # noqa: BLE001 - whatever it is; pytest itself would trip over it
        got_through = True
    assert not got_through
    with pytest.raises(BaseException) as caught, tap.capture("r", GOOD):
        throw()
    assert caught.value is error
    stats = tap.stats()
    assert (stats.offered, sum(stats.dropped.values())) == (7, 7)


class EndlessMapping(Mapping[str, Any]):
    """A mapping that has a value for every key, and an endless iterator."""

    def __getitem__(self, key: str) -> Any:
        return 1.0

    def __iter__(self) -> Iterator[str]:
        return map(str, itertools.count())

    def __len__(self) -> int:
        return 4


class EndlessList(list[float]):
    """A list whose iterator never ends."""

    def __iter__(self) -> Iterator[float]:
        return itertools.repeat(0.5)


def test_the_hook_comes_to_an_end_where_its_arguments_do_not(mock_bootstrap: str, stream_name: str, tap: Tap) -> None:
    endless = EndlessMapping()
    tap.record("r", endless, value=1.0)
    tap.record("r", GOOD, value=1.0, segments=endless)
    assert tap.observe(features=lambda held: GOOD, predicted=lambda held: held)(lambda held: held)(endless) is endless
    assert tap.stats().dropped == {"invalid_features": 3}
    growing: defaultdict[str, Any] = defaultdict(lambda: 1.0)
    tap.record("r", growing, value=1.0)
    assert not growing
    tap.record("list", GOOD, scores=EndlessList([0.5, 0.5]))
    assert tap.close()
    (record,) = captures(mock_bootstrap, stream_name)
    assert record["prediction"]["scores"] == [0.5, 0.5]


@pytest.mark.parametrize("control_flow", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit])
def test_the_callers_own_control_flow_is_never_swallowed(tap: Tap, control_flow: type[BaseException]) -> None:
    class Interrupting:
        def __float__(self) -> float:
            raise control_flow

    with pytest.raises(control_flow):
        tap.record("r", GOOD, value=Interrupting())
    with pytest.raises(control_flow):
        tap.label("r", value=Interrupting())
    assert tap.stats().labels == TapStats(offered=1, dropped={"internal_error": 1})
    assert tap.close()
    assert_closed_account(tap.stats())
