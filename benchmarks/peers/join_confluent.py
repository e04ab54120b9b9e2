"""A join by hand: both topics through one consumer, a dict of unmatched halves, rows into PostgreSQL.

`--batch 0`: executemany; `--batch 1`: COPY to a temporary table and `insert … on conflict do nothing` from there.
Offsets are committed after the rows, so a restart repeats rows, which the key drops.
"""

import json
from typing import Any

import psycopg
from confluent_kafka import KafkaException

from benchmarks.peers.common import Codec, job, subscribed

COLUMNS = (
    "source_partition", "source_offset", "request_id", "captured_at", "features_numeric", "features_text",
    "live_value", "shadow_value", "rank", "inclusion_probability", "window_id",
)  # fmt: skip
ROWS = 5000


def main() -> None:
    run = job()
    codec = Codec(run.folder)
    header = bytes.fromhex((run.folder / "shadow.header").read_text())
    numeric = json.loads((run.folder / "numeric.json").read_text())
    connection = psycopg.connect(run.database)
    write = copy if run.batch else executemany
    if run.batch:
        connection.execute("create temporary table incoming (like pairs) on commit delete rows")
        connection.commit()
    consumer = subscribed(run, {"enable.auto.commit": False}, run.source, run.target)
    waiting: dict[tuple[int, int], tuple[bool, dict[str, Any]]] = {}
    rows: list[tuple[Any, ...]] = []
    while True:
        for message in consumer.consume(1000, timeout=0.1):
            if message.error():
                raise KafkaException(message.error())
            value = message.value() or b""
            if message.topic() == run.source:
                key, is_live = (message.partition() or 0, message.offset() or 0), True
                record = codec.decode(value)
            elif value.startswith(header):
                record = codec.decode_shadow(value)
                key, is_live = (record["source_partition"], record["source_offset"]), False
            else:
                continue
            other = waiting.pop(key, None)
            if other is None or other[0] == is_live:
                waiting[key] = is_live, record
            else:
                live, shadow = (record, other[1]) if is_live else (other[1], record)
                rows.append(row(live, shadow, numeric))
        if len(rows) >= ROWS:
            write(connection, rows)
            connection.commit()
            consumer.commit(asynchronous=True)
            rows.clear()


def row(live: dict[str, Any], shadow: dict[str, Any], numeric: list[str]) -> tuple[Any, ...]:
    """Return one pair, in the order of COLUMNS."""
    features = live["features"]
    return (
        shadow["source_partition"],
        shadow["source_offset"],
        live["request_id"],
        live["captured_at"],
        [features[name] for name in numeric],
        [value for value in features.values() if isinstance(value, str)],
        live["prediction"]["value"],
        shadow["prediction"]["value"],
        shadow["rank"],
        shadow["inclusion_probability"],
        shadow["window_id"],
    )


def executemany(connection: "psycopg.Connection[Any]", rows: list[tuple[Any, ...]]) -> None:
    """Write by one prepared statement in a pipeline."""
    places = ", ".join(["%s"] * len(COLUMNS))
    with connection.cursor() as cursor:
        cursor.executemany(
            f"insert into pairs ({', '.join(COLUMNS)}) values ({places}) on conflict do nothing",  # constants
            rows,
        )


def copy(connection: "psycopg.Connection[Any]", rows: list[tuple[Any, ...]]) -> None:
    """COPY, then one insert."""
    with connection.cursor() as cursor:
        with cursor.copy(f"copy incoming ({', '.join(COLUMNS)}) from stdin") as stream:
            for one in rows:
                stream.write_row(one)
        cursor.execute("insert into pairs select * from incoming on conflict do nothing")


if __name__ == "__main__":
    main()
