"""Quix Streams with its own PostgreSQL sink: the outcomes only, without reading the captures and without the join."""

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from quixstreams.sinks.community.postgresql import PostgreSQLSink

from benchmarks.peers.common import Codec, job
from benchmarks.peers.quix import application


def main() -> None:
    run = job()
    codec = Codec(run.folder)
    header = bytes.fromhex((run.folder / "shadow.header").read_text())
    app = application(run, commit_every=5000)
    url = urlsplit(run.database)
    sink = PostgreSQLSink(
        host=url.hostname or parse_qs(url.query).get("host", ["localhost"])[0],
        port=url.port or 5432,
        dbname=url.path.lstrip("/"),
        user=unquote(url.username or "postgres"),
        password=unquote(url.password or ""),
        table_name="pairs",
        schema_auto_update=False,
        primary_key_columns=["source_partition", "source_offset"],
        on_conflict_do_nothing=True,
        include_metadata=False,
    )

    def row(value: bytes) -> dict[str, Any]:
        shadow = codec.decode_shadow(value)
        return {
            "source_partition": shadow["source_partition"],
            "source_offset": shadow["source_offset"],
            "request_id": shadow["request_id"],
            "shadow_value": shadow["prediction"]["value"],
            "rank": shadow["rank"],
            "inclusion_probability": shadow["inclusion_probability"],
            "window_id": shadow["window_id"],
        }

    outcomes = app.topic(run.target, value_deserializer="bytes", key_deserializer="bytes")
    frame = app.dataframe(outcomes)
    frame = frame.filter(lambda value: value.startswith(header)).apply(row)
    frame.sink(sink)
    app.run()


if __name__ == "__main__":
    main()
