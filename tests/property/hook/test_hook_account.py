"""The hook's account closes after every step, and no exception of a feature object reaches the caller."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from confluent_kafka import KafkaError
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.support.tap import FEATURES, GOOD, make_tap

from gnomon_producer import Tap
from gnomon_schemas.codec import Reader
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.store import MemorySchemas

LIVE = "gnomon.s.live"


class Held:
    """A producer that holds every message until the test decides its delivery."""

    def __init__(self) -> None:
        self.held: list[tuple[bytes, Callable[..., None]]] = []
        self.full = False

    def produce(self, topic: str, value: bytes, _key: bytes, on_delivery: Callable[..., None], **_: Any) -> None:
        if topic != LIVE:
            on_delivery(None, None)
        elif self.full:
            raise BufferError
        else:
            self.held.append((value, on_delivery))

    def poll(self, _timeout: float) -> int:
        return 0

    def flush(self, _timeout: float) -> int:
        return len(self.held)

    def purge(self) -> None:
        while self.held:
            self.held.pop()[1](KafkaError(KafkaError._PURGE_QUEUE), None)


def tap_on(producer: Held, **given: Any) -> Tap:
    """Return a Tap with the stand-in as client."""
    tap = make_tap("nowhere", "s", **given)
    tap.delivery._make_producer = lambda _config: producer
    return tap


class Account(RuleBasedStateMachine):
    """A second account, kept by hand: what was offered, what the client holds, and the results."""

    def __init__(self) -> None:
        super().__init__()
        self.on = True
        self.producer = Held()
        self.tap = tap_on(self.producer, enabled=lambda: self.on)
        self.offered = self.delivered = self.switched_off = 0
        self.dropped: Counter[str] = Counter()
        self.closed = False

    @rule(features=st.sampled_from([GOOD, {}, None, GOOD | {"visits": "x"}]), how=st.sampled_from(["record", "with"]))
    def capture(self, features: Any, how: str) -> None:
        if how == "record":
            self.tap.record("r", features, value=0.5)
        else:
            with self.tap.capture("r", features) as shot:
                shot.predicted(0.5)
        if not self.on:
            self.switched_off += 1
            return
        self.offered += 1
        if features is not GOOD:
            self.dropped["invalid_features"] += 1
        elif self.closed:
            self.dropped["closed"] += 1
        elif self.producer.full:
            self.dropped["queue_full"] += 1

    @precondition(lambda self: self.producer.held)
    @rule(error=st.sampled_from([None, KafkaError._MSG_TIMED_OUT, KafkaError.MSG_SIZE_TOO_LARGE]), data=st.data())
    def report(self, error: int | None, data: st.DataObject) -> None:
        _, on_delivery = self.producer.held.pop(data.draw(st.integers(0, len(self.producer.held) - 1)))
        on_delivery(None if error is None else KafkaError(error), None)
        if error is None:
            self.delivered += 1
        else:
            self.dropped["too_large" if error == KafkaError.MSG_SIZE_TOO_LARGE else "delivery_failed"] += 1

    @rule(full=st.booleans(), on=st.booleans())
    def turn(self, full: bool, on: bool) -> None:
        self.producer.full, self.on = full, on

    @rule()
    def close(self) -> None:
        given_up = len(self.producer.held)
        assert self.tap.close(0) == (given_up == 0)
        self.dropped["delivery_failed"] += given_up
        self.closed = True

    @invariant()
    def closes(self) -> None:
        stats = self.tap.stats()
        assert (stats.offered, stats.delivered, stats.switched_off) == (self.offered, self.delivered, self.switched_off)
        assert stats.dropped == +self.dropped
        assert stats.in_flight == len(self.producer.held)
        assert stats.offered == stats.delivered + sum(stats.dropped.values()) + stats.in_flight

    def teardown(self) -> None:
        self.tap.close(0)


def test_the_account_closes_after_every_step() -> None:
    run_state_machine_as_test(Account, settings=settings(max_examples=40, stateful_step_count=30))


class Trouble(Exception):  # noqa: N818 - anybody's exception
    """The exception that hostile objects raise."""


def _raise(*_: Any, **__: Any) -> Any:
    raise Trouble


def _same(given_to_it: Any) -> Any:
    return given_to_it


def _countless(*_: Any) -> Iterator[str]:
    number = 0
    while True:
        yield str(number := number + 1)


HOOKS = (
    *("__getitem__", "__iter__", "__len__", "__contains__", "__eq__", "__hash__", "__bool__", "__str__", "__repr__"),
    *("__float__", "__int__", "__index__", "__getattr__", "__class__", "__dict__", "keys", "items", "get", "tolist"),
    *("encode", "__dataclass_fields__", "__format__", "__le__", "__lt__", "__abs__"),
)
_ANSWERS: list[Any] = [_raise, _countless, lambda *_: None, lambda *_: 10**9, lambda *_: "x", lambda *_: object()]
_BASES: list[type] = [object, dict, str, int, float, list]


@st.composite
def hostile(draw: st.DrawFn) -> Any:
    """Return an object of its own class, some of whose special methods raise, never end or return nonsense."""
    body: dict[str, Any] = {
        name: property(_raise) if name in ("__class__", "__dict__") else draw(st.sampled_from(_ANSWERS))
        for name in draw(st.sets(st.sampled_from(HOOKS), max_size=6))
    }
    base = draw(st.sampled_from(_BASES))
    if draw(st.booleans()) and base is object:
        Mapping.register(kind := type("Hostile", (), body))
    else:
        kind = type("Hostile", (base,), body)
    try:
        return kind(GOOD) if base is dict else kind()
    except Exception:  # noqa: BLE001 - not even made: then it harms nobody
        return object()


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.characters(categories=["Cs"]),
    st.binary(max_size=3),
    st.complex_numbers(),
    hostile(),
)
features = st.one_of(
    values,
    st.dictionaries(st.one_of(st.sampled_from(sorted(FEATURES)), st.text(max_size=3), st.integers()), values),
    st.fixed_dictionaries(dict.fromkeys(FEATURES, values)),
)


@pytest.mark.parametrize("listed", [False, True])
@settings(max_examples=60)
@given(data=st.data())
def test_nothing_made_of_features_gets_through(listed: bool, data: st.DataObject) -> None:
    allowed = tuple(FEATURES) if listed else None
    producer = Held()
    tap = tap_on(producer, allowed_features=allowed)
    reader = Reader(MemorySchemas([FeatureSchema.of(FEATURES).live]))
    for count in range(1, 6):
        given_features, answer = data.draw(features), data.draw(values)
        with tap.capture(data.draw(values), given_features, segments=data.draw(values)) as shot:
            shot.predicted(answer, *(data.draw(values) for _ in range(3)))
        observed = tap.observe(features=_same, predicted=_same)(_same)
        assert observed(given_features) is given_features
        stats = tap.stats()
        assert stats.offered == 2 * count
        assert stats.in_flight == len(producer.held)
        assert set(stats.dropped) <= {"invalid_features", "internal_error"}
    for value, _ in producer.held:
        record = reader.decode(value).record
        assert set(record["features"]) == set(FEATURES)
    tap.close(0)
