"""The sink with a real PostgreSQL: whole windows once, whatever else is written and whatever a row holds."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from tests.support.joined_windows import READER, Connection, one, sink_of, window
from tests.support.logs import FEATURES, START_US, capture, start

from gnomon_consumer.joiner.merge.identity import IdentityError
from gnomon_consumer.joiner.merge.window import JoinedWindow
from gnomon_consumer.joiner.pairs.copy_format import copy_parts
from gnomon_consumer.joiner.postgres.sink import DoublePairError, ProgressMovedError, Sink
from gnomon_consumer.times import EARLIEST_US, LATEST_US, moment
from gnomon_schemas.codec import Codec
from gnomon_schemas.columnar import ColumnarReader
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.records import DeploymentStart, from_dict
from gnomon_schemas.store import MemorySchemas


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with psycopg.connect(database_url) as opened:
        yield opened


def begin(sink: Sink, joined: JoinedWindow, reader: ColumnarReader = READER) -> None:
    sink.start([joined], sink.assembled([joined], reader))


def test_a_pair_holds_what_both_sides_said(connection: Connection) -> None:
    state = {"version": "d7", "cache_hits": 3, "cache_misses": 1}
    error = {"kind": "exception", "message": "no"}
    changes: dict[int, dict[str, Any]] = {
        0: {"cluster": "N14228", "segments": {"origin": "JFK", "k": 'a"b'}, "feature_state": state},
        1: {"prediction": None, "error": error, "features": {"amount": float("nan"), "country": None, "repeat": True}},
    }
    answers = {1: {"prediction": {"value": None, "label": None, "scores": [0.5, 0.5], "items": ["a", "b"]}}}
    assert sink_of(connection).apply([window(0, 2, changes=changes, answers=answers)], READER) == 2
    names = (
        "request_id, cluster, segments, features_numeric, features_text, live_value, live_error_kind, live_latency_us,"
        " live_feature_version, live_cache_hits, shadow_value, shadow_scores, shadow_items, outcome, weight,"
        " extract(epoch from event_time) * 1000000, producer_id::text"
    )
    first, second = connection.execute(f"select {names} from gnomon.pairs order by source_offset").fetchall()
    producer = capture(0, "")["producer_id"]
    assert first == (
        "r0", "N14228", {"origin": "JFK", "k": 'a"b'}, [0.0, 1.0], ["CH"], 0.5, None, 800, "d7", 3, 0.25, None, None,
        "scored", 1.0, START_US, producer,
    )  # fmt: skip
    assert second[:3] == ("r1", None, {"origin": "JFK"})
    assert str(second[3]) == "[nan, 1.0]"
    assert second[4:14] == ([None], None, "exception", 800, None, None, None, [0.5, 0.5], ["a", "b"], "scored")


def test_two_joiners_on_one_partition(connection: Connection, database_url: str) -> None:
    mine = sink_of(connection)
    with psycopg.connect(database_url) as other:
        theirs = sink_of(other)
        assert theirs.apply([window(0, 3)], READER) == 3
        with pytest.raises(ProgressMovedError):
            mine.apply([window(0, 3)], READER)
        assert one(other, "select count(*) from gnomon.pairs") == (3,)
        assert mine.apply([window(3, 2), window(5, 1)], READER) == 3
        assert one(other, "select sum(seen), sum(joined_scored) from gnomon.cells") == (6, 6)


def test_a_pair_that_stands_already_stops_the_joiner(connection: Connection) -> None:
    sink = sink_of(connection)
    sink.apply([window(0, 3)], READER)
    connection.execute("update gnomon.join_progress set next_source_offset = 0")
    with pytest.raises(DoublePairError):
        sink.apply([window(0, 3)], READER)
    assert one(connection, "select next_source_offset from gnomon.join_progress") == (0,)


@pytest.mark.parametrize("at", [0, 3, 6])
def test_a_row_that_postgresql_refuses_is_a_dead_letter(connection: Connection, at: int) -> None:
    connection.execute("alter table gnomon.pairs add constraint refused check (live_latency_us is distinct from 17)")
    connection.commit()
    changes: dict[int, dict[str, Any]] = {place: {"latency_us": 17} for place in (at, 5)}
    assert sink_of(connection).apply([window(0, 7, changes=changes)], READER) == 5
    letters = connection.execute(
        "select source_offset, stage, reason, request_id from gnomon.dead_letters order by 1"
    ).fetchall()
    assert letters == [(n, "join", "refused", f"r{n}") for n in sorted({at, 5})]
    assert one(connection, "select seen, scored, joined_scored, joined_dead_lettered from gnomon.cells") == (7, 7, 5, 2)
    assert one(connection, "select sum(seen), sum(sampled), sum(scored), sum(dead_lettered) from gnomon.rollups") == (
        7, 7, 5, 2,
    )  # fmt: skip


@pytest.fixture
def held(database_url: str, connection: Connection) -> Iterator[Connection]:
    """Yield a connection that blocks every COPY of pairs until it is closed, or its transaction ends."""
    connection.execute(
        "create function gnomon.held() returns trigger language plpgsql as"
        " $$ begin perform pg_advisory_xact_lock_shared(1); return new; end $$"
    )
    connection.execute("create trigger held before insert on gnomon.pairs for each row execute function gnomon.held()")
    connection.commit()
    with psycopg.connect(database_url) as holder:
        holder.execute("select pg_advisory_xact_lock(1)")
        yield holder


def test_a_write_that_goes_on_is_done_before_anything_else_is_asked(connection: Connection, held: Connection) -> None:
    sink = sink_of(connection)
    begin(sink, window(0, 3))
    assert sink.push()
    assert not sink.finish_write(0.05)
    assert (sink.busy, sink.written()) == (True, [])
    held.rollback()
    assert (sink.progress([0])[0].next_source, sink.busy) == (3, False)
    assert [pairs for _, pairs in sink.written()] == [3]
    begin(sink, window(3, 2))
    begin(sink, window(5, 1))
    sink.caught_up([0])
    assert [pairs for _, pairs in sink.written()] == [2, 1]
    assert one(connection, "select next_source_offset, caught_up from gnomon.join_progress") == (6, True)
    assert one(connection, "select count(*) from gnomon.pairs") == (6,)


def test_an_open_copy_whose_server_goes_away_writes_nothing(
    connection: Connection, held: Connection, database_url: str
) -> None:
    sink = sink_of(connection)
    begin(sink, window(0, 3))
    held.execute("select pg_terminate_backend(%s)", [connection.info.backend_pid])
    with pytest.raises(psycopg.OperationalError):
        sink.finish_write()
    assert not sink.busy
    held.rollback()
    with psycopg.connect(database_url, autocommit=True) as again:
        assert one(again, "select next_source_offset from gnomon.join_progress") == (0,)
        assert one(again, "select count(*) from gnomon.pairs") == (0,)
        assert sink_of(again).apply([window(0, 3)], READER) == 3


def test_a_sink_closed_with_an_open_copy_writes_nothing(
    connection: Connection, held: Connection, database_url: str
) -> None:
    sink = sink_of(connection)
    begin(sink, window(0, 3))
    sink.close()
    assert not sink.busy
    held.rollback()
    with psycopg.connect(database_url, autocommit=True) as again:
        assert sink_of(again).apply([window(0, 3)], READER) == 3


def test_what_cannot_be_laid_out_ends_an_open_copy(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """The transaction is rolled back, and the connection can be used again."""

    def broken(batch: pa.RecordBatch) -> Iterator[bytes]:
        yield next(iter(copy_parts(batch)))
        raise RuntimeError("no memory")

    sink = sink_of(connection)
    with monkeypatch.context() as patch:
        patch.setattr("gnomon_consumer.joiner.postgres.sink.copy_parts", broken)
        with pytest.raises(RuntimeError):
            sink.apply([window(0, 3)], READER)
    assert sink.apply([window(0, 3)], READER) == 3


def test_a_schema_that_is_new_while_a_write_goes_on(connection: Connection, held: Connection) -> None:
    """Positions are allocated after the write, because a connection does one thing at a time."""
    sink = sink_of(connection)
    begin(sink, window(0, 3))
    held.rollback()
    evolved = FeatureSchema.of({"age": ["null", "int"]}).live
    joined = window(3, 1)
    joined.matches.values = [Codec(evolved).encode({**capture(3, "r3"), "features": {"age": 4}})]
    begin(sink, joined, ColumnarReader(MemorySchemas([FEATURES.live, evolved])))
    sink.finish_write()
    assert [pairs for _, pairs in sink.written()] == [3, 1]


def test_an_evolved_schema_never_reinterprets_a_row(connection: Connection) -> None:
    evolved = FeatureSchema.of(
        {"repeat": "boolean", "age": ["null", "int"], "country": "double", "marks": {"type": "array", "items": "int"}}
    )
    reader = ColumnarReader(MemorySchemas([FEATURES.live, evolved.live]))
    sink = sink_of(connection)
    sink.apply([window(0, 1)], reader)
    later = window(1, 1)
    features = {"repeat": False, "age": 40, "country": 2.5, "marks": [1, 2]}
    value = Codec(evolved.live).encode({**capture(1, "r1"), "features": features})
    later.matches.values[:] = [value]
    sink.apply([later], reader)
    columns = connection.execute("select name, kind, position from gnomon.feature_columns order by 2, 3").fetchall()
    assert columns == [
        ("amount", "numeric", 1), ("repeat", "numeric", 2), ("age", "numeric", 3), ("country", "numeric", 4),
        ("country", "text", 1), ("marks", "text", 2),
    ]  # fmt: skip
    rows = connection.execute("select features_numeric, features_text from gnomon.pairs order by source_offset")
    assert rows.fetchall() == [([0.0, 1.0], ["CH"]), ([None, 0.0, 40.0, 2.5], [None, "[1, 2]"])]


def test_event_times_choose_the_table_partition(connection: Connection) -> None:
    sink = sink_of(connection)
    sink.apply([window(0, 2)], READER)
    assert one(connection, "select defaulted from gnomon.join_progress") == (2,)
    micros = 1_365_000_000_000_000
    begin = one(connection, "select to_timestamp(1365000000) - interval '1 day'")[0]
    sink.declare_replay(begin, begin.replace(year=2014))
    sink.apply([window(2, 2, changes={2: {"captured_at": micros}, 3: {"captured_at": micros}})], READER)
    assert one(connection, "select defaulted from gnomon.join_progress") == (2,)
    found = connection.execute("select tableoid::regclass::text, count(*) from gnomon.pairs group by 1 order by 1")
    assert found.fetchall() == [("gnomon.pairs_2013_04", 2), ("gnomon.pairs_default", 2)]


def test_numbers_that_come_again_in_a_later_window_show(connection: Connection) -> None:
    """Within a window repeats are counted; across windows, only those that exceed the range of the numbers."""
    sink = sink_of(connection)
    twice = {4: {"sequence": 3}}
    sink.apply([window(0, 3), window(3, 4, changes=twice)], READER)
    counts = "select received, repeated, missing from gnomon.producers"
    assert one(connection, counts) == (7, 1, 1)  # 4 is missing, 3 arrived twice
    sink.apply([window(7, 3, changes={7: {"sequence": 0}, 8: {"sequence": 1}, 9: {"sequence": 2}})], READER)
    assert one(connection, counts) == (10, 3, 0)
    assert one(connection, "select sum(repeated) from gnomon.producer_tallies") == (1,)


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("0-0-0-0-0000000000000000000000000009", ["00000000-0000-0000-0000-000000000009"]),
        ("ABCDEFAB-0000-0000-0000-000000000007", ["abcdefab-0000-0000-0000-000000000007"]),
        ("never-was-a-uuid-and-will-never-be-it", []),
        ("}{,\"\\'--}{,\"\\'--}{,\"\\'--}{,\"\\'--", []),
    ],
)
def test_a_producer_id_that_others_write_in_their_way(connection: Connection, written: str, stored: list[str]) -> None:
    """What Python takes for a UUID, PostgreSQL may not; and two ways to write one are one run."""
    of_others: dict[int, dict[str, Any]] = {0: {"producer_id": written}, 1: {"producer_id": written.lower()}}
    sink_of(connection).apply([window(0, 3, changes=of_others)], READER)
    tallies = "select producer_id::text, received from gnomon.producer_tallies where producer_id <> %s"
    assert connection.execute(tallies, [capture(0, "")["producer_id"]]).fetchall() == [(name, 2) for name in stored]


def test_the_tally_of_a_run_from_the_first_year_to_the_last(connection: Connection) -> None:
    times: dict[int, dict[str, Any]] = {0: {"captured_at": EARLIEST_US}, 1: {"captured_at": LATEST_US}}
    sink_of(connection).apply([window(0, 2, changes=times)], READER)
    # As texts: before PostgreSQL 14 `extract` returns a double, which holds no microsecond of these years.
    ends = ", ".join(f"{end}_captured_at = %s::text::timestamptz" for end in ("first", "last"))
    row = connection.execute(
        f"select {ends} from gnomon.producer_tallies", [moment(at).isoformat() for at in (EARLIEST_US, LATEST_US)]
    ).fetchone()
    assert row == (True, True)


def test_rollups_are_the_sums_of_the_pairs(connection: Connection) -> None:
    answers: dict[int, dict[str, Any]] = {
        0: {"prediction": {"value": 0.75, "label": "on_time", "scores": None, "items": None}},
        1: {"prediction": None, "error": {"kind": "timeout", "message": "late"}, "inclusion_probability": 0.5},
        2: {"prediction": None, "error": {"kind": "model_error", "message": "no"}, "inclusion_probability": 0.25},
        3: {"inclusion_probability": 0.5},
    }
    ranked = {"value": None, "label": None, "scores": None, "items": ["a", "b"]}
    hour = 3_600_000_000
    changes: dict[int, dict[str, Any]] = {
        4: {"captured_at": START_US + hour, "prediction": ranked},
        5: {"captured_at": START_US + hour, "prediction": None, "error": {"kind": "exception", "message": "x"}},
    }
    answers[4] = {"prediction": {**ranked, "items": ["b", "a"]}}
    sink = sink_of(connection)
    sink.apply([window(0, 6, changes=changes, answers=answers), window(6, 3)], READER)
    names = "sampled, scored, failed, timed_out, live_failed, comparable, agreed"
    assert connection.execute(f"select seen, {names} from gnomon.rollups order by hour").fetchall() == [
        (7, 7, 5, 1, 1, 0, 5, 4),
        (2, 2, 2, 0, 0, 1, 1, 0),
    ]
    recomputed = """
        select date_trunc('hour', event_time), sum(weight), sum(weight ^ 2),
               coalesce(sum(weight) filter (where outcome = 'failed'), 0),
               coalesce(sum(weight) filter (where outcome = 'timed_out'), 0),
               coalesce(sum(weight * (shadow_value - live_value)), 0),
               coalesce(sum(weight * (shadow_value - live_value) ^ 2), 0)
        from gnomon.pairs group by 1 order by 1"""
    stored = """
        select hour, weight, weight_squared, failed_weight, timed_out_weight, value_difference,
               value_difference_squared
        from gnomon.rollups order by hour"""
    assert connection.execute(stored).fetchall() == connection.execute(recomputed).fetchall()


@pytest.mark.parametrize(
    "changes",
    [
        {"cluster_id": "another"},
        {"topic_id": "x"},
        {"start_offset": 5},
        {"model": {"name": "gb", "version": "1", "sha256": "cd" * 32}},
        {"started_at": START_US + 1},
    ],
)
def test_another_identity_is_refused(connection: Connection, changes: dict[str, Any]) -> None:
    sink = sink_of(connection)
    with pytest.raises(IdentityError):
        sink.begin(0, from_dict(DeploymentStart, {**start(0, "c", None), **changes}), 0)
