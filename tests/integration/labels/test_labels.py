"""`gnomon labels`: every version is stored once, from file and topic; cohorts seal by the watermark and stay fixed."""

import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.command import Command
from tests.support.join_processes import arguments
from tests.support.joined_database import drain
from tests.support.logs import CODECS, PRODUCER, START_US, Logs, label, make_logs, seal

from gnomon_consumer.labels.store import LabelBatch, LabelStore
from gnomon_schemas.codec import Codec
from gnomon_schemas.records import ProducerReport, as_dict
from gnomon_schemas.schema import Schema, checked, record_schema

DAY_US = 86_400_000_000
START = datetime.fromtimestamp(START_US / 1e6, UTC)


def publish(logs: Logs, records: list[dict[str, Any]]) -> None:
    for record in records:
        partition = int(record["request_id"][1:]) % 4
        logs.producer.produce(
            logs.topics.labels, CODECS["Label"].encode(record), record["request_id"].encode(), partition=partition
        )
    logs.producer.flush(60)


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()


def test_versions_from_the_topic_are_kept_once(
    command: Command, broker: str, stream_name: str, database_url: str
) -> None:
    logs = make_logs(broker, stream_name)
    records = [label(f"r{n}", START_US + n) for n in range(100)]
    corrections = [label(f"r{n}", START_US + DAY_US + n, value=0.0) for n in range(0, 100, 2)]
    publish(logs, records + corrections + records[:10])
    logs.producer.produce(logs.topics.labels, b"no label", b"r1", partition=1)
    report = ProducerReport(
        producer_id=PRODUCER, service="s", host="h", pid=1, started_at=START_US, reported_at=START_US + 1, offered=5,
        delivered=4, dropped={"queue_full": 1}, sampled_out=0, switched_off=0, closed=True,
    )  # fmt: skip
    logs.producer.produce(logs.topics.producers, CODECS["ProducerReport"].encode(as_dict(report)), PRODUCER.encode())
    logs.producer.flush(60)
    options = arguments(broker, stream_name, database_url)
    del options[4:6]
    for _ in range(2):
        ended = command("labels", "consume", *options, "--drain")
        assert ended.returncode == 0, ended.stderr
        assert rows(database_url, "select count(*), count(distinct request_id) from gnomon.labels") == [(150, 100)]
    assert rows(
        database_url, "select sum(received), sum(stored), sum(duplicates), sum(rejected) from gnomon.label_watermarks"
    ) == [(161, 150, 10, 1)]
    assert rows(database_url, "select offered, delivered, dropped, closed from gnomon.producer_reports") == [
        (5, 4, {"queue_full": 1}, True)
    ]


def with_types(name: str, **types: Any) -> Schema:
    """Return a packaged record's schema with other types of some fields."""
    whole = record_schema(name).json
    fields = [field | {"type": types.get(field["name"], field["type"])} for field in whole["fields"]]
    return checked({**whole, "fields": fields})


def test_heartbeats_and_labels_that_no_hook_writes_stop_nothing(
    command: Command, broker: str, stream_name: str, database_url: str
) -> None:
    logs = make_logs(broker, stream_name)
    report = ProducerReport(
        producer_id=f"urn:uuid:{PRODUCER}", service="s\0", host="h", pid=1, started_at=START_US,
        reported_at=START_US + 1, offered=5, delivered=4, dropped={"queue\0full": 1}, sampled_out=0, switched_off=0,
        closed=True,
    )  # fmt: skip
    fields = [field for field in record_schema("ProducerReport").json["fields"] if field["name"] != "offered"]
    without = checked({"type": "record", "name": "ProducerReport", "namespace": "gnomon.v1", "fields": fields})
    typed = with_types("ProducerReport", service=["null", "string"], dropped={"type": "array", "items": "string"})
    numbered = with_types("Label", request_id="long", label=["null", "long"])
    no_uuid, no_time = replace(report, producer_id="7"), replace(report, reported_at=-(2**62))
    values = [
        Codec(typed).encode(as_dict(report) | {"service": None, "dropped": ["x"]}),
        CODECS["SamplingWindow"].encode(seal(0, 0, 4, [], str(uuid.UUID(int=1)))),
        Codec(without).encode({name: value for name, value in as_dict(report).items() if name != "offered"}),
        *(CODECS["ProducerReport"].encode(as_dict(one)) for one in (no_uuid, no_time, report)),
    ]
    for schema in (without, typed, numbered):
        logs.producer.produce(logs.topics.schemas, schema.text.encode(), str(schema.fingerprint))
    publish(logs, [label("r1", START_US)])
    foreign = label("r1", START_US) | {"request_id": 1, "label": 2}
    logs.producer.produce(logs.topics.labels, Codec(numbered).encode(foreign), b"r1", partition=1)
    for value in values:
        logs.producer.produce(logs.topics.producers, value, b"k")
    logs.producer.flush(60)
    options = arguments(broker, stream_name, database_url)
    del options[4:6]
    ended = command("labels", "consume", *options, "--drain")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("unreadable heartbeat") == 5
    assert rows(database_url, "select sum(stored), sum(rejected) from gnomon.label_watermarks") == [(1, 1)]
    found = rows(database_url, "select producer_id::text, service, offered, dropped from gnomon.producer_reports")
    assert found == [(PRODUCER, "s\ufffd", 5, {"queue\ufffdfull": 1})]


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_a_file_is_loaded_whole_and_once(command: Command, database_url: str, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"labels.{suffix}"
    columns = {
        "id": ["007", "b", "c"],
        "late": [1.0, 0.0, None],
        "seen": [START, START + timedelta(days=1), START],
        "label": [None, "on_time", "late"],
    }
    if suffix == "parquet":
        pq.write_table(pa.table(columns), path)
    else:
        lines = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        if suffix == "jsonl":
            path.write_text("".join(json.dumps({**line, "seen": line["seen"].isoformat()}) + "\n" for line in lines))
        else:
            text = [
                ",".join("" if v is None else v.isoformat() if k == "seen" else str(v) for k, v in line.items())
                for line in lines
            ]
            path.write_text("\n".join([",".join(columns), *text]))
    options = ["--map", "id=request_id", "--map", "late=value", "--map", "seen=observed_at"]
    for stored in (3, 0):
        ended = command(
            "labels", "load", str(path), *options, "--stream", "s", "--database-url", database_url, "--json"
        )
        assert ended.returncode == 0, ended.stderr
        said = json.loads(ended.stdout)
        assert (said["stored"], said["complete_until"], said["mature_until"]) == (stored, None, {})
    assert rows(database_url, "select request_id, observed_at, value, label from gnomon.labels order by 1") == [
        ("007", START, 1.0, None),
        ("b", START + timedelta(days=1), 0.0, "on_time"),
        ("c", START, None, "late"),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,observed_at\na,2024-01-01\n", "no column for request_id"),
        ("request_id,observed_at\na,2024-01-01\n", "row 1: it has neither value"),
        ("request_id,observed_at,value\na,yesterday,1\n", "row 1"),
        ("request_id,observed_at,value\na,2024-01-01,1\n,2024-01-01,1\n", "row 2: it has no request id"),
        ("request_id,observed_at,value\na,2024-01-01,one\n", "row 1"),
        ("", "cannot be read"),
    ],
)
def test_a_bad_file_is_refused_whole(
    command: Command, database_url: str, tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    ended = command("labels", "load", str(path), "--stream", "s", "--database-url", database_url)
    assert ended.returncode == 2
    assert words in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert rows(database_url, "select count(*) from gnomon.labels") == [(0,)]


def test_sealed_cohorts_never_change(
    command: Command, mock_bootstrap: str, stream_name: str, database_url: str
) -> None:
    logs = make_logs(mock_bootstrap, stream_name)
    hours = 24 * 8
    for hour in range(hours):
        logs.capture(1, captured_at=START_US + hour * DAY_US // 24)
    logs.score()
    drain(logs, database_url)
    publish(logs, [label(f"r{n}", START_US + n * DAY_US // 24 + 1, value=1.0) for n in range(hours)])
    options = arguments(mock_bootstrap, stream_name, database_url)
    del options[4:6]
    consume = ("labels", "consume", *options, "--drain", "--idle-seconds", "0")
    assert command(*consume).returncode == 0
    sealed = "select horizon, since, until, source_offsets, label_offsets from gnomon.cohorts order by horizon, until"
    first = rows(database_url, sealed)
    watermark = rows(database_url, "select gnomon.label_watermark(1)")[0][0]
    midnight = {"hour": 0, "minute": 0, "second": 0, "microsecond": 0}
    assert [(horizon.days, until) for horizon, _, until, _, _ in first] == [
        (days, (watermark - timedelta(days=days)).replace(**midnight)) for days in (1, 3, 7)
    ]
    # A later label moves the watermark: new slices begin where the old ones end, and the old ones do not change.
    publish(logs, [label(f"r{n}", START_US + 12 * DAY_US, value=0.0) for n in range(4)])
    assert command(*consume).returncode == 0
    second = rows(database_url, sealed)
    assert set(map(str, first)) < set(map(str, second))
    for days in (1, 3, 7):
        old, new = [row for row in second if row[0].days == days]
        assert old[2] == new[1]
        assert new[4]["0"] == old[4]["0"] + 1


def test_labels_wait_for_their_predictions(command: Command, broker: str, stream_name: str, database_url: str) -> None:
    """Labels of a whole day are stored before the first of its captures is joined; none is lost."""
    logs = make_logs(broker, stream_name)
    options = arguments(broker, stream_name, database_url)
    consume = ("labels", "consume", *options[:4], *options[6:], "--drain", "--idle-seconds", "0")
    hours = 24 * 3
    publish(logs, [label(f"r{n}", START_US + n * DAY_US // 24 + 1) for n in range(hours)])
    assert command(*consume).returncode == 0
    assert rows(database_url, "select count(*) from gnomon.labels") == [(hours,)]
    assert rows(database_url, "select count(*) from gnomon.cohorts") == [(0,)]
    for hour in range(hours):
        logs.capture(1, captured_at=START_US + hour * DAY_US // 24)
    logs.score()
    drain(logs, database_url)
    assert command(*consume).returncode == 0
    found = rows(
        database_url,
        f"select n, labelled, late, missing from report_v1.labels('{stream_name}', horizon => interval '1 day')",
    )
    sealed = rows(database_url, "select max(until) from gnomon.cohorts")[0][0]
    n = sum(START + timedelta(hours=hour) < sealed for hour in range(hours))
    assert n > 24
    assert found == [(n, 1.0, 0.0, 0.0)]


def test_the_watermark_is_that_of_the_slowest_partition_at_work(database_url: str) -> None:
    """Idle partitions do not hold it back, clocks far ahead do not move it, a file may state it."""
    hour = 3_600_000_000
    now = START_US + 10 * hour
    ends = [0, 0, 0]

    with psycopg.connect(database_url) as connection:
        store = LabelStore(connection, "s")
        for partition in range(3):
            store.begin(partition, 0, "c", None)

        def take(partition: int, *observed: int) -> None:
            batch = LabelBatch(ends[partition], ends[partition] + len(observed))
            batch.labels += [(ends[partition] + n, label(f"r{partition}-{t}", t)) for n, t in enumerate(observed)]
            ends[partition] = batch.end
            store.apply({partition: batch}, now)

        def watermark() -> int | None:
            known = connection.execute("select gnomon.label_watermark(1)").fetchone()
            assert known is not None
            return None if known[0] is None else round((known[0] - START).total_seconds() * 1e6) // hour

        assert watermark() is None
        take(0, START_US + 3 * hour, START_US + 2 * hour)
        take(1, START_US + 5 * hour)
        assert watermark() is None  # nothing is known about the third
        store.set_idle({2: True})
        assert watermark() == 3
        take(0, START_US + 11 * hour + 1)  # more than an hour ahead of the clock
        assert watermark() == 3
        take(0, START_US + 7 * hour)
        assert watermark() == 5
        take(2, START_US + 4 * hour)  # active again
        assert watermark() == 4
        store.set_idle({0: True, 1: True, 2: True})
        assert watermark() == 7
        until = START + timedelta(hours=9)
        store.load([], "f.csv", "x", 0, until)
        assert watermark() == 9


def test_a_load_says_what_matures_and_what_to_add(command: Command, database_url: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("request_id,observed_at,value\na,2024-01-01,1\n")
    load = ("labels", "load", str(tmp_path / "labels.csv"), "--stream", "s", "--database-url", database_url)
    bare = command(*load)
    assert bare.returncode == 0, bare.stderr
    assert "no request is mature" in bare.stdout
    assert "--complete-until" in bare.stdout
    whole = command(*load, "--complete-until", "2024-01-05T12:00")
    assert "complete until 2024-01-05 12:00 UTC" in whole.stdout
    assert "1 day for requests before 2024-01-04 12:00" in whole.stdout
