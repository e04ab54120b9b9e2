"""A database and topics that the first development version wrote: today's code upgrades, queries and joins them."""

import base64
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer
from tests.support.command import Command
from tests.support.servers import postgres
from tests.support.servers.process import Gnomon

from gnomon_schemas.codec import Codec, Reader
from gnomon_schemas.schema import record_schema
from gnomon_schemas.store import packaged_schemas

FIRST = Path(__file__).parent / "first_development_version"
STREAM = "flight-delay"
REPORTS: dict[str, list[dict[str, Any]]] = json.loads((FIRST / "reports.json").read_text(encoding="utf-8"))
# That version counted all clusters and days; now only those of the rows that these metrics depend on are counted.
RECOUNTED = {"precision", "recall", "f1", "auc"}


def load_dump(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(gzip.decompress((FIRST / "database.sql.gz").read_bytes()))


@pytest.fixture(scope="module")
def upgraded_url(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres.database(postgres_server) as url:
        load_dump(url)
        done = Gnomon(tmp_path_factory.mktemp("upgrade")).run("db", "upgrade", "--database-url", url)
        assert done.returncode == 0, done.stderr
        yield url


def report(command: Command, url: str, name: str) -> list[dict[str, Any]]:
    done = command("report", name, "--stream", STREAM, "--database-url", url, "--format", "json")
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)["rows"]
    return rows


@pytest.mark.parametrize("name", REPORTS)
def test_the_upgraded_database_gives_the_same_counts_and_estimates(
    command: Command, upgraded_url: str, name: str
) -> None:
    now = report(command, upgraded_url, name)
    for then in REPORTS[name]:
        (row,) = [row for row in now if all(row[key] == value for key, value in then["key"].items())]
        expected = {
            key: value if value is None or isinstance(value, bool) else pytest.approx(value, rel=1e-9, abs=1e-12)
            for key, value in then["numbers"].items()
            if key not in ("clusters", "days") or then["key"].get("metric") not in RECOUNTED
        }
        assert {key: row[key] for key in expected} == expected, then["key"]


def test_nothing_of_the_rows_is_lost(upgraded_url: str) -> None:
    with psycopg.connect(upgraded_url) as connection:
        counts = {
            table: connection.execute(f"select count(*) from gnomon.{table}").fetchone()
            for table in ("pairs", "windows", "cells", "labels", "deployments", "join_progress")
        }
    assert {table: found[0] for table, found in counts.items() if found} == DUMPED


DUMPED = {"pairs": 384, "windows": 8, "cells": 24, "labels": 989, "deployments": 2, "join_progress": 8}


def test_a_second_upgrade_does_nothing(command: Command, upgraded_url: str) -> None:
    done = command("db", "upgrade", "--database-url", upgraded_url)
    assert (done.returncode, done.stdout.split()[0]) == (0, "already"), done.stderr


def test_before_the_upgrade_every_reader_says_what_to_do(command: Command, empty_database_url: str) -> None:
    load_dump(empty_database_url)
    for arguments in (
        ("report", "agreement"),
        ("verdict", "--deployment", "gradient-boosting"),
        ("tail", "--count", "1"),
    ):
        done = command(*arguments, "--stream", STREAM, "--database-url", empty_database_url)
        assert done.returncode == 2, (arguments, done.stdout, done.stderr)
        assert "gnomon db upgrade" in done.stderr
        assert done.stderr.count("\n") == 1


def restore_topics(bootstrap: str) -> str:
    """Write the topics of that run into another broker; return the name of the challenger.

    Only the DeploymentStarts change, because they name the broker.
    """
    kept = json.loads(gzip.decompress((FIRST / "topics.json.gz").read_bytes()))
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    cluster = str(producer.list_topics(timeout=10).cluster_id)
    reader = Reader(packaged_schemas())
    for topic, messages in kept["messages"].items():
        for partition, _offset, timestamp, key, value, headers in messages:
            content = base64.b64decode(value)
            if ".shadow." in topic and (read := reader.decode(content)).name.endswith(".DeploymentStart"):
                start = {**read.record, "cluster_id": cluster, "topic_id": None}
                content = Codec(record_schema("DeploymentStart")).encode(start)
            producer.produce(
                topic,
                content,
                None if key is None else base64.b64decode(key),
                partition,
                timestamp=timestamp,
                headers=[(name, base64.b64decode(header)) for name, header in headers],
            )
    assert producer.flush(30) == 0
    return "gradient-boosting"


def test_todays_joiner_joins_what_the_first_scorer_wrote(
    gnomon: Gnomon, command: Command, mock_bootstrap: str, database_url: str
) -> None:
    deployment = restore_topics(mock_bootstrap)
    common = ("--stream", STREAM, "--bootstrap-servers", mock_bootstrap, "--deployment", deployment)
    joined = gnomon.run("join", *common, "--database-url", database_url, "--drain")
    assert joined.returncode == 0, joined.stderr
    ledger = report(command, database_url, "ledger")[0]
    assert {key: ledger[key] for key in ("seen", "sampled", "paired", "scored", "balanced", "orphaned")} == {
        "seen": 300, "sampled": 96, "paired": 96, "scored": 96, "balanced": True, "orphaned": 0,
    }  # fmt: skip
    agreement = report(command, database_url, "agreement")[0]
    assert (agreement["n"], agreement["weight"]) == (96, pytest.approx(300))
