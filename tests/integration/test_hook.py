"""The hook over librdkafka's mock: what arrives, what does not, and the account of both."""

import asyncio
import itertools
import logging
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from tests.hooks import GOOD, assert_closed_account, captures, make_tap, raw_messages, records

from gnomon_producer import DisabledTap, Tap, TapStats
from gnomon_schemas.errors import ConfigurationError, SchemaError


@pytest.fixture
def tap(mock_bootstrap: str, stream_name: str) -> Iterator[Tap]:
    tap = make_tap(mock_bootstrap, stream_name)
    yield tap
    tap.close()


def test_a_capture_arrives_whole(mock_bootstrap: str, stream_name: str) -> None:
    tap = make_tap(mock_bootstrap, stream_name, strata=("country", "plan"), segments=("country",))
    state = {"version": "d7", "cache_hits": 2, "cache_misses": 1}
    before = datetime.now(UTC)
    with tap.capture("r1", GOOD, segments={"plan": "gold"}, cluster="u1", feature_state=state) as shot:
        shot.predicted(value=0.25, label="late", scores=np.array([0.75, 0.25]), items=("on_time", "late"))
    assert tap.close()
    assert_closed_account(tap.stats())
    (record,) = captures(mock_bootstrap, stream_name)
    assert record["producer_id"] == str(uuid.UUID(record["producer_id"]))
    assert 0 <= record["captured_at"] - before.timestamp() * 1e6 < 10e6
    assert 0 <= record["latency_us"] < 10_000_000
    expected = {
        "sequence": 0,
        "request_id": "r1",
        "capture_probability": 1.0,
        "stratum": "CH|gold",
        "segments": {"country": "CH", "plan": "gold"},
        "cluster": "u1",
        "model": {"name": "live", "version": "1"},
        "features": GOOD,
        "prediction": {"value": 0.25, "label": "late", "scores": [0.75, 0.25], "items": ["on_time", "late"]},
        "error": None,
        "feature_state": state,
    }
    assert expected.items() <= record.items()
    (message,) = raw_messages(mock_bootstrap, f"gnomon.{stream_name}.live")
    assert message.key == b"r1"
    assert message.headers == [("stratum", b"CH|gold")]


def test_the_schema_is_published_before_the_first_capture(mock_bootstrap: str, stream_name: str, tap: Tap) -> None:
    tap.record("r", GOOD, value=1.0)
    assert tap.flush(10)
    (published,) = raw_messages(mock_bootstrap, f"gnomon.{stream_name}.schemas")
    (live,) = raw_messages(mock_bootstrap, f"gnomon.{stream_name}.live")
    assert live.value.startswith(b"\xc3\x01" + bytes.fromhex(published.key.decode()))


def test_the_callers_exception_passes_and_is_recorded_by_its_type(
    mock_bootstrap: str, stream_name: str, tap: Tap
) -> None:
    error = RuntimeError("a secret in a message")
    with pytest.raises(RuntimeError) as caught, tap.capture("r1", GOOD):
        raise error
    assert caught.value is error
    with pytest.raises(TimeoutError), tap.capture("r2", GOOD) as shot:  # noqa: PT012 - both belong to the block
        shot.predicted(1.0)
        raise TimeoutError
    with pytest.raises(KeyboardInterrupt), tap.capture("r3", GOOD):
        raise KeyboardInterrupt
    with tap.capture("r4", GOOD):
        pass
    tap.record("r5", GOOD, error="no model for this market")
    assert tap.flush(10)
    found = captures(mock_bootstrap, stream_name)
    assert all(record["prediction"] is None for record in found)
    assert [(record["error"]["kind"], record["error"]["message"]) for record in found] == [
        ("exception", "builtins.RuntimeError"),
        ("timeout", "builtins.TimeoutError"),
        ("exception", "builtins.KeyboardInterrupt"),
        ("model_error", "the captured block ended without a prediction"),
        ("exception", "no model for this market"),
    ]


def test_observe_serves_functions_and_coroutines_alike(mock_bootstrap: str, stream_name: str, tap: Tap) -> None:
    options: dict[str, Any] = {
        "request_id": lambda request: request["id"],
        "features": lambda request: request["features"],
        "predicted": lambda answer: {"value": answer, "label": "yes"},
        "segments": lambda request: {"plan": "free"},
        "cluster": lambda request: "u1",
    }

    @tap.observe(**options)
    def handler(request: dict[str, Any]) -> float:
        """Answer."""
        return float(request["features"]["amount"] / 100)

    @tap.observe(**options)
    async def coroutine_handler(request: dict[str, Any]) -> float:
        await asyncio.sleep(0)
        if request["id"] == "bad":
            raise LookupError
        return float(request["features"]["amount"] / 100)

    assert handler({"id": "sync", "features": GOOD}) == 0.125
    assert (handler.__name__, handler.__doc__) == ("handler", "Answer.")

    async def main() -> None:
        assert asyncio.iscoroutinefunction(coroutine_handler)
        requests = [coroutine_handler({"id": f"async{number}", "features": GOOD}) for number in range(20)]
        assert await asyncio.gather(*requests) == [0.125] * 20
        with pytest.raises(LookupError):
            await coroutine_handler({"id": "bad", "features": GOOD})
        async with tap.capture("with", GOOD) as shot:
            shot.predicted(0.5)

    asyncio.run(main())
    assert tap.flush(10)
    found = {record["request_id"]: record for record in captures(mock_bootstrap, stream_name)}
    assert set(found) == {"sync", "bad", "with"} | {f"async{number}" for number in range(20)}
    assert found["sync"]["prediction"]["value"] == 0.125
    assert found["sync"]["segments"] == {"plan": "free"}
    assert found["bad"]["error"]["message"] == "builtins.LookupError"


def test_tasks_interleave_within_observed_coroutines(mock_bootstrap: str, stream_name: str, tap: Tap) -> None:
    @tap.observe(features=lambda *_: GOOD, predicted=lambda answer: answer, request_id=lambda name, *_: name)
    async def meet(_name: str, mine: asyncio.Event, other: asyncio.Event) -> float:
        mine.set()
        await other.wait()  # for ever, were one task to hold up the other
        return 0.5

    async def meet_within(name: str, mine: asyncio.Event, other: asyncio.Event) -> None:
        async with tap.capture(name, GOOD) as shot:
            mine.set()
            await other.wait()
            shot.predicted(0.5)

    async def main() -> None:
        events = [asyncio.Event() for _ in range(4)]
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            for task in (meet("a", *events[:2]), meet("b", *events[1::-1])):
                tasks.create_task(task)
            for within in (meet_within("c", *events[2:]), meet_within("d", *events[:1:-1])):
                tasks.create_task(within)

    asyncio.run(main())
    assert tap.close()
    assert sorted(record["request_id"] for record in captures(mock_bootstrap, stream_name)) == ["a", "b", "c", "d"]


def test_a_cancelled_task_stays_cancelled_and_is_recorded(mock_bootstrap: str, stream_name: str, tap: Tap) -> None:
    @tap.observe(features=lambda _: GOOD, predicted=lambda answer: answer, request_id=lambda _: "observed")
    async def observed(started: asyncio.Event) -> None:
        started.set()
        await asyncio.Event().wait()

    async def within(started: asyncio.Event) -> None:
        async with tap.capture("within", GOOD):
            await observed(started)

    async def main() -> None:
        started = asyncio.Event()
        task = asyncio.create_task(within(started))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    asyncio.run(main())
    assert tap.close()
    assert_closed_account(tap.stats())
    found = {record["request_id"]: record["error"] for record in captures(mock_bootstrap, stream_name)}
    cancelled = {"kind": "exception", "message": "asyncio.exceptions.CancelledError"}
    assert found == {"observed": cancelled, "within": cancelled}


def test_features_are_what_they_were_on_entry(mock_bootstrap: str, stream_name: str) -> None:
    tap = make_tap(mock_bootstrap, stream_name, features={"xs": {"type": "array", "items": "double"}})
    features = {"xs": [1.0, 2.0]}
    with tap.capture("r", features) as shot:
        features["xs"].clear()
        features.clear()
        shot.predicted(1.0)
    assert tap.close()
    assert captures(mock_bootstrap, stream_name)[0]["features"] == {"xs": [1.0, 2.0]}


def test_numpy_values_are_taken_for_what_they_are(mock_bootstrap: str, stream_name: str) -> None:
    features = {
        "flag": "boolean",
        "small": "int",
        "large": "long",
        "single": "float",
        "number": "double",
        "text": "string",
        "xs": {"type": "array", "items": "float"},
    }
    tap = make_tap(mock_bootstrap, stream_name, features=features)
    row = {
        "flag": np.bool_(True),
        "small": np.int16(-7),
        "large": np.uint32(7),
        "single": np.float32(0.5),
        "number": np.float64(0.25),
        "text": np.str_("x"),
        "xs": np.array([1, 2], dtype="float32"),
    }
    tap.record("r", row, value=np.float32(0.5), latency_us=np.int64(4))  # type: ignore[arg-type]  # as services do
    assert tap.close()
    assert tap.stats().dropped == {}
    assert captures(mock_bootstrap, stream_name)[0]["features"] == {
        "flag": True,
        "small": -7,
        "large": 7,
        "single": 0.5,
        "number": 0.25,
        "text": "x",
        "xs": [1.0, 2.0],
    }


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"visits": None}, "visits"),
        ({"visits": 1.0}, "visits"),
        ({"visits": True}, "visits"),
        ({"visits": "SECRET"}, "visits"),
        ({"visits": 2**63}, "visits"),
        ({"amount": "SECRET"}, "amount"),
        ({"amount": Decimal(1)}, "amount"),
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
        tap.record("r", {"amount": 1.0, "visits": 1}, value=1.0)
        assert tap.close()
    assert tap.stats().dropped == {"invalid_features": 1}
    assert "feature 'country' is missing (1 since" in caplog.text


class Hostile:
    """Raises whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("hostile")

    def _raise(self, *_: object) -> Any:
        raise RuntimeError("hostile")

    __getitem__ = __iter__ = __len__ = __contains__ = __repr__ = __str__ = __bool__ = _raise
    __eq__ = __hash__ = __float__ = __int__ = __index__ = __format__ = __call__ = _raise


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


@pytest.mark.parametrize("number", range(len(HOSTILE)))  # not the objects: pytest itself would trip over them
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
    """A type that raises when it is asked for its name."""

    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError("hostile")


class Unspeakable(Exception, metaclass=Nameless):  # noqa: N818 - whoever throws it does not keep to any style
    """An exception that can only be passed on: not even its class may be asked for."""

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
    """A mapping with an answer to every key, and no last one."""

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


def test_the_account_at_any_moment_under_many_threads(mock_bootstrap: str, stream_name: str, tap: Tap) -> None:
    seen: list[TapStats] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.append(tap.stats())

    def work(number: int) -> None:
        for index in range(250):
            with tap.capture(f"{number}-{index}", GOOD if index % 5 else {}) as shot:
                shot.predicted(0.5)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    watchers = [threading.Thread(target=watch) for _ in range(2)]
    for thread in (*watchers, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    assert tap.flush(20)
    done.set()
    for thread in watchers:
        thread.join()
    stats = tap.stats()
    assert (stats.offered, stats.delivered, stats.dropped) == (2000, 1600, {"invalid_features": 400})
    for moment in seen:
        assert moment.in_flight >= 0
        assert moment.offered == moment.delivered + sum(moment.dropped.values()) + moment.in_flight
        assert moment.delivered <= 1600
        assert moment.offered <= 2000
    found = captures(mock_bootstrap, stream_name)
    assert len({record["sequence"] for record in found}) == len({record["request_id"] for record in found}) == 1600
    assert max(record["sequence"] for record in found) < 2000


def test_what_is_offered_after_close_is_counted(tap: Tap) -> None:
    tap.record("r", GOOD, value=1.0)
    assert tap.close()
    assert tap.close()
    tap.record("r", GOOD, value=1.0)
    tap.label("r", value=1.0)
    stats = tap.stats()
    assert (stats.offered, stats.delivered, stats.dropped) == (2, 1, {"closed": 1})
    assert stats.labels is not None
    assert stats.labels.dropped == {"closed": 1}


def test_a_record_over_the_limit(mock_bootstrap: str, stream_name: str) -> None:
    tap = make_tap(mock_bootstrap, stream_name, properties={"message.max.bytes": 2000})
    tap.record("r", GOOD | {"country": "x" * 4000}, value=1.0)
    tap.record("r", GOOD, value=1.0)
    assert tap.close()
    assert (tap.stats().delivered, tap.stats().dropped) == (1, {"too_large": 1})


def test_a_full_buffer_drops_and_counts_and_memory_is_bounded_in_bytes(stream_name: str) -> None:
    tap = make_tap("127.0.0.1:1", stream_name, max_buffer_bytes=200_000)
    for number in range(3000):
        tap.record(f"r{number}", GOOD | {"country": "x" * 1000}, value=1.0)
    stats = tap.stats()
    assert stats.offered == 3000
    assert stats.in_flight == 3000 - stats.dropped["queue_full"]
    assert 50 <= stats.in_flight <= 100  # half of the bytes hold payloads of about 1,100
    assert not tap.close(0.2)
    stats = tap.stats()
    assert_closed_account(stats)
    assert set(stats.dropped) == {"queue_full", "delivery_failed"}


def test_labels(mock_bootstrap: str, stream_name: str, tap: Tap) -> None:
    landed = datetime(2013, 1, 1, 12, 0, 0, 1, tzinfo=UTC)
    tap.label("r1", value=1.0, occurred_at=landed)
    tap.label("r2", label="late", occurred_at=1_357_041_600_000_001, observed_at=landed)
    tap.label("r3", relevance=[1, 0.5], items=["a", "b"])
    assert tap.close()
    found = {record["request_id"]: record for record in records(mock_bootstrap, stream_name, "labels")}
    assert found["r1"]["value"] == 1.0
    assert found["r1"]["occurred_at"] == 1_357_041_600_000_001
    assert found["r2"]["observed_at"] == found["r2"]["occurred_at"] == 1_357_041_600_000_001
    assert found["r1"]["observed_at"] > found["r1"]["occurred_at"]
    assert (found["r3"]["relevance"], found["r3"]["items"]) == ([1.0, 0.5], ["a", "b"])
    assert found["r1"]["source"]
    keys = {message.key for message in raw_messages(mock_bootstrap, f"gnomon.{stream_name}.labels")}
    assert keys == {b"r1", b"r2", b"r3"}


def test_a_replay_states_its_own_time(mock_bootstrap: str, stream_name: str, tap: Tap) -> None:
    tap.record("r1", GOOD, value=0.3, captured_at=1_357_041_600_000_001, latency_us=840)
    tap.record("r2", GOOD, value=0.3, captured_at=datetime(2013, 1, 1, 12, tzinfo=UTC))
    assert tap.close()
    one, two = captures(mock_bootstrap, stream_name)
    assert (one["captured_at"], one["latency_us"]) == (1_357_041_600_000_001, 840)
    assert (two["captured_at"], two["latency_us"]) == (1_357_041_600_000_000, None)


def test_heartbeats_at_the_start_on_the_way_and_closing(mock_bootstrap: str, stream_name: str) -> None:
    tap = make_tap(mock_bootstrap, stream_name, heartbeat_s=0.2, service="checkout")
    tap.record("r1", GOOD, value=0.3)
    tap.record("r2", {}, value=0.3)
    threading.Event().wait(0.6)
    assert tap.close()
    found = sorted(records(mock_bootstrap, stream_name, "producers"), key=lambda report: report["reported_at"])
    assert len(found) >= 3
    assert [report["closed"] for report in found] == [False] * (len(found) - 1) + [True]
    last = found[-1]
    assert (last["offered"], last["delivered"], last["dropped"]) == (2, 1, {"invalid_features": 1})
    assert last["service"] == "checkout"
    assert {report["producer_id"] for report in found} == {captures(mock_bootstrap, stream_name)[0]["producer_id"]}


def test_a_switch_is_asked_at_every_capture(mock_bootstrap: str, stream_name: str) -> None:
    on = True

    def enabled() -> bool:
        if on is None:
            raise RuntimeError("flag server away")
        return on

    tap = make_tap(mock_bootstrap, stream_name, enabled=enabled)
    for state in (True, False, None, True):
        on = state  # type: ignore[assignment]
        tap.record(str(state), GOOD, value=1.0)
    assert tap.close()
    stats = tap.stats()
    assert (stats.offered, stats.delivered, stats.switched_off) == (2, 2, 2)
    assert [record["sequence"] for record in captures(mock_bootstrap, stream_name)] == [0, 1]


@pytest.mark.parametrize("by", ["request", "cluster"])
def test_sampling_at_the_source_is_sticky_and_stated(mock_bootstrap: str, stream_name: str, by: str) -> None:
    tap = make_tap(mock_bootstrap, stream_name, sample_rate=0.25, sample_by=by)
    for number in range(2000):
        tap.record(f"r{number}", GOOD, value=1.0, cluster=f"u{number % 200}")
    assert tap.close()
    stats = tap.stats()
    assert stats.offered == stats.delivered == 2000 - stats.sampled_out
    found = captures(mock_bootstrap, stream_name)
    assert {record["capture_probability"] for record in found} == {0.25}
    assert [record["sequence"] for record in found] == list(range(len(found)))
    clusters = {record["cluster"] for record in found}
    if by == "cluster":
        assert len(found) == 10 * len(clusters)
        assert 25 <= len(clusters) <= 75  # 50 expected, four standard deviations
    else:
        assert 422 <= len(found) <= 578  # 500 expected, four standard deviations
        assert len(clusters) > 150
    again = make_tap(mock_bootstrap, stream_name, sample_rate=0.25, sample_by=by)
    again.record(found[0]["request_id"], GOOD, value=1.0, cluster=found[0]["cluster"])
    assert again.stats().offered == 1
    again.close()


def test_the_environment_switches_everything_off(
    mock_bootstrap: str, stream_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GNOMON_DISABLED", "1")
    for tap in (Tap(stream="not even checked"), Tap.from_env()):
        assert isinstance(tap, DisabledTap)
        with tap.capture("r", Hostile(), cluster="u") as shot:
            shot.predicted(1.0, label="x")

        async def asynchronous(tap: Tap = tap) -> None:
            async with tap.capture("r", {}) as shot:
                shot.predicted(1.0)

        asyncio.run(asynchronous())
        tap.record("r", {}, value=1.0)
        tap.label("r", value=1.0)
        assert tap.observe(features=len, predicted=len)(len) is len
        assert tap.stats().offered == 0
        assert not tap.start()
        assert tap.flush()
        assert tap.close()


def test_from_env(monkeypatch: pytest.MonkeyPatch, mock_bootstrap: str, stream_name: str, tmp_path: Any) -> None:
    schema = tmp_path / "features.avsc"
    schema.write_text('{"type": "record", "name": "F", "fields": [{"name": "a", "type": "double"},'
                      ' {"name": "b", "type": "string"}]}')  # fmt: skip
    variables = {
        "GNOMON_STREAM": stream_name,
        "GNOMON_MODEL": "logreg:2013.03",
        "GNOMON_FEATURE_SCHEMA": str(schema),
        "GNOMON_FEATURES": "a",
        "GNOMON_BOOTSTRAP_SERVERS": mock_bootstrap,
        "GNOMON_STRATA": "a",
        "GNOMON_MAX_BUFFER_BYTES": "1000000",
        "GNOMON_KAFKA__PROPERTIES": '{"linger.ms": 1}',
        "GNOMON_HANDLE_SIGTERM": "no",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    tap = Tap.from_env(service="given")
    assert tap.config.model == ("logreg", "2013.03")
    assert tap.config.service == "given"
    assert tap.config.max_buffer_bytes == 1_000_000
    tap.record("r", {"a": 1.0, "b": "unlisted"}, value=1.0)
    assert tap.close()
    assert captures(mock_bootstrap, stream_name)[0]["features"] == {"a": 1.0}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GNOMON_SAMPLE_RATE", "2"),
        ("GNOMON_SAMPLE_RATE", "half"),
        ("GNOMON_MODEL", "no version"),
        ("GNOMON_MAX_BUFFER_BYTES", "12"),
        ("GNOMON_KAFKA__PROPERTIES", "[1]"),
        ("GNOMON_FEATURE_SCHEMA", "/nowhere.avsc"),
        ("GNOMON_STREAM", "a.b"),
        ("GNOMON_HMAC_FIELDS", "cluster"),
    ],
)
def test_a_wrong_variable_disables_the_hook_and_says_so(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    given = {"stream": "s", "features": {"a": "double"}, "model": ("m", "1")}
    field = {"GNOMON_MODEL": "model", "GNOMON_FEATURE_SCHEMA": "features", "GNOMON_STREAM": "stream"}.get(name)
    monkeypatch.setenv(name, value)
    tap = Tap.from_env(**{key: setting for key, setting in given.items() if key != field})
    assert isinstance(tap, DisabledTap)
    assert value in caplog.text or "hmac_key" in caplog.text


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"features": {"a": "bytes"}}, SchemaError),
        ({"sample_rate": 0}, ConfigurationError),
        ({"model": "ab"}, ConfigurationError),
        ({"allowed_features": ("nosuch",)}, ConfigurationError),
        ({"allowed_features": ()}, ConfigurationError),
        ({"hmac_fields": ("cluster",)}, ConfigurationError),
        ({"heartbeat_s": 0}, ConfigurationError),
    ],
)
def test_what_cannot_work_is_refused_when_a_tap_is_made(settings: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        make_tap("localhost:1", "s", **settings)


def test_properties_that_librdkafka_refuses_drop_and_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    tap = make_tap("localhost:1", "s", properties={"no.such.property": 1})
    for _ in range(50):
        tap.record("r", GOOD, value=1.0)
    assert not tap.start()
    assert tap.close()
    assert tap.stats().dropped == {"internal_error": 50}
    assert caplog.text.count("no.such.property") == 1


def test_callables_for_stratum_and_segments(mock_bootstrap: str, stream_name: str) -> None:
    tap = make_tap(
        mock_bootstrap,
        stream_name,
        strata=lambda features, segments: "large" if features["amount"] > 10 else None,
        segments=lambda features: {"country": features["country"]},
    )
    tap.record("r1", GOOD, value=1.0)
    tap.record("r2", GOOD | {"amount": 1}, value=1.0, segments={"country": "given"})
    assert tap.close()
    one, two = captures(mock_bootstrap, stream_name)
    assert (one["stratum"], one["segments"]) == ("large", {"country": "CH"})
    assert (two["stratum"], two["segments"]) == (None, {"country": "given"})


def test_a_callable_that_raises_is_counted(mock_bootstrap: str, stream_name: str) -> None:
    tap = make_tap(mock_bootstrap, stream_name, strata=lambda features, segments: features["nosuch"])
    tap.record("r1", GOOD, value=1.0)
    assert tap.close()
    assert tap.stats().dropped == {"internal_error": 1}


def test_request_ids_that_are_no_text(mock_bootstrap: str, stream_name: str, tap: Tap) -> None:
    tap.record(17, GOOD, value=1.0)  # type: ignore[arg-type]  # a number is the usual mistake, and harmless
    tap.record(None, GOOD, value=1.0)
    tap.record("\ud800", GOOD, value=1.0)
    assert tap.close()
    one, two = captures(mock_bootstrap, stream_name)
    assert one["request_id"] == "17"
    assert uuid.UUID(two["request_id"])
    assert sum(tap.stats().dropped.values()) == 1
