"""The connection to PostgreSQL is lost silently, because its packets are dropped."""

import socket
import time

import psycopg
from psycopg.conninfo import conninfo_to_dict
from tests.support.join_processes import arguments
from tests.support.joined_database import assert_all_joined, joined, members, wait_until
from tests.support.logs import make_logs
from tests.support.servers.process import Gnomon
from tests.support.tcp_link import silent_link


def server_of(url: str) -> tuple[int, str | tuple[str, int]]:
    """Family and address of the socket that a PostgreSQL listens on."""
    with psycopg.connect(url) as connection:
        host, port = connection.info.host, connection.info.port
    if host.startswith("/"):
        return socket.AF_UNIX, f"{host}/.s.PGSQL.{port}"
    return socket.AF_INET, (host, port)


def test_a_joiner_notices_within_half_a_minute_and_keeps_its_group(
    gnomon: Gnomon, kafka_bootstrap: str, stream_name: str, database_url: str
) -> None:
    logs = make_logs(kafka_bootstrap, stream_name)
    known = conninfo_to_dict(database_url)
    with silent_link(*server_of(database_url)) as link:
        password = f":{known['password']}" if known.get("password") else ""
        url = f"postgresql://{known['user']}{password}@127.0.0.1:{link.port}/{known['dbname']}"
        options = arguments(kafka_bootstrap, stream_name, url)
        process = gnomon.start("join", *options, "--metrics", "127.0.0.1:0")
        process.wait_for("metrics")
        logs.capture(40)
        logs.score()
        wait_until(lambda: joined(database_url) == 40)
        assert process.page("/readyz")[0] == 200
        before = members(kafka_bootstrap, stream_name)
        with link.cut():
            began = time.monotonic()
            logs.capture(40)
            logs.score()
            wait_until(lambda: process.page("/readyz")[0] == 503, 40)
            process.wait_for("waiting for a dependency", timeout=40)
            print(f"noticed after {time.monotonic() - began:.1f} s")
            time.sleep(max(0.0, 20 - (time.monotonic() - began)))  # longer than the session of the group
            assert members(kafka_bootstrap, stream_name) == before
        wait_until(lambda: joined(database_url) == 80, 60)
        wait_until(lambda: process.page("/readyz")[0] == 200)
        assert members(kafka_bootstrap, stream_name) == before
        assert process.terminate(15) == 0
    assert_all_joined(logs, database_url)
