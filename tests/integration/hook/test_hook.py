"""The hook with librdkafka's mock: delivered and dropped captures, and their account."""

import asyncio
import threading
import uuid
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from tests.support.tap import GOOD, assert_closed_account, captures, make_tap, raw_messages, records

from gnomon_producer import Tap, TapStats


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
    assert tap.flush(60)
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
    assert tap.flush(60)
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
    assert tap.flush(60)
    found = {record["request_id"]: record for record in captures(mock_bootstrap, stream_name)}
    assert set(found) == {"sync", "bad", "with"} | {f"async{number}" for number in range(20)}
    assert found["sync"]["prediction"]["value"] == 0.125
    assert found["sync"]["segments"] == {"plan": "free"}
    assert found["bad"]["error"]["message"] == "builtins.LookupError"


def test_tasks_interleave_within_observed_coroutines(mock_bootstrap: str, stream_name: str, tap: Tap) -> None:
    @tap.observe(features=lambda *_: GOOD, predicted=lambda answer: answer, request_id=lambda name, *_: name)
    async def meet(_name: str, mine: asyncio.Event, other: asyncio.Event) -> float:
        mine.set()
        await other.wait()  # forever, if one task blocked the other
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
    assert tap.flush(60)
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
    assert set(stats.dropped) - {"publisher_dead"} == {"queue_full", "delivery_failed"}


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
