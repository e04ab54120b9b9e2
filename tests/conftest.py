"""Fixtures of every test: real servers shared by the run, the shipped command, no error unseen."""

import contextlib
import functools
import logging
import os
import signal
import sys
import threading
import traceback
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_timeout  # type: ignore[import-untyped]
from confluent_kafka import Producer
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from tests.support.servers import postgres
from tests.support.servers.process import Gnomon
from tests.support.servers.secured import Secured, open_secured
from tests.support.servers.shared import Servers, ServerUnavailableError
from tests.support.servers.stock import Stock, open_stock
from tests.support.servers.tools import missing, no_kafka

# The duration of an example depends on the load of a shared machine, not on the code.
hypothesis_settings.register_profile(
    "gnomon", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
hypothesis_settings.load_profile("gnomon")

# A run starts many hundreds of processes from these sources; without the cache each of them compiles them again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

SERVERS = pytest.StashKey[Servers]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--long`."""
    parser.addoption("--long", action="store_true", help="run the long suite too (hours)")


def pytest_configure(config: pytest.Config) -> None:
    """Lead the run's servers, or join those of the run that started this pytest-xdist worker."""
    # A shell starts background processes with SIGINT ignored, and our commands would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    shared = getattr(config, "workerinput", {}).get("gnomon_servers")
    config.stash[SERVERS] = Servers(Path(shared[0]), int(shared[1])) if shared else Servers.create()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a pytest-xdist worker where the run's servers are."""
    servers = node.config.stash[SERVERS]
    node.workerinput["gnomon_servers"] = (str(servers.folder), servers.owner)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the servers; also reached after Ctrl-C. (A killed run is noticed by the servers' processes.)"""
    servers = config.stash.get(SERVERS, None)
    if servers is not None and servers.owner == os.getpid():
        servers.stop()


class FilesTogether(LoadScopeScheduling):  # type: ignore[misc]
    """Gives all tests of an `xdist_group` to one worker, and every other test to any free worker.

    xdist 3.8 passes the group to its scheduler by a private attribute that pytest 9.2 no longer reads.
    """

    def _split_scope(self, nodeid: str) -> str:
        file, _, _ = nodeid.partition("::")
        return file if _stays_together(self.config.rootpath / file) else nodeid


@functools.cache
def _stays_together(file: Path) -> bool:
    return file.is_file() and "xdist_group(" in file.read_text(encoding="utf-8")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesTogether | None:
    """Return the scheduler of `--dist loadgroup`; None for the others."""
    return FilesTogether(config, log) if config.getoption("dist") == "loadgroup" else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by the servers they need, so that `-m 'not kafka'` is always right; leave out the long ones.

    Tests that take minutes come first, so that no process works on one while the others have nothing left.
    """
    if not (config.getoption("--long") or "long" in config.getoption("markexpr")):
        left_out = [item for item in items if item.get_closest_marker("long")]
        items[:] = [item for item in items if not item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=left_out)
    items.sort(key=lambda item: item.get_closest_marker("first") is None)
    for item in items:
        names = getattr(item, "fixturenames", ())
        parameter = getattr(getattr(item, "callspec", None), "params", {}).get("broker")
        if "kafka_bootstrap" in names or parameter == "kafka":
            item.add_marker(pytest.mark.kafka)
        if "postgres_server" in names:
            item.add_marker(pytest.mark.postgres)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Set the clock of a second attempt (`--reruns`): pytest-timeout stops it for good at the first failure."""
    settings = pytest_timeout._get_item_settings(item)
    if getattr(item, "execution_count", 1) > 1 and settings.timeout:
        item.config.pluginmanager.hook.pytest_timeout_set_timer(item=item, settings=settings)


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> Servers:
    """Return the servers of this run, whichever of its processes started them."""
    return request.config.stash[SERVERS]


@pytest.fixture(scope="session")
def kafka_bootstrap(servers: Servers) -> str:
    """Bootstrap servers of a real Apache Kafka; skips with a reason, or fails under GNOMON_REQUIRE_KAFKA."""
    try:
        return servers.address("kafka")
    except ServerUnavailableError as reason:
        no_kafka(reason)


@pytest.fixture
def mock_bootstrap() -> Iterator[str]:
    """Bootstrap servers of librdkafka's mock: 4 partitions a topic, made on first use, new in each test."""
    # Any address will do, because the mock replaces it with its own.
    cluster = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock"})
    yield ",".join(f"{broker.host}:{broker.port}" for broker in cluster.list_topics(timeout=10).brokers.values())
    del cluster


@pytest.fixture(params=["mock", "kafka"])
def broker(request: pytest.FixtureRequest) -> str:
    """Bootstrap servers of the mock and of real Kafka in turn: one conformance suite for both."""
    return str(request.getfixturevalue(f"{request.param}_bootstrap"))


@pytest.fixture
def stream_name() -> str:
    """A stream that no other test uses."""
    return f"s{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def postgres_server(servers: Servers) -> str:
    """URL of a PostgreSQL server's own database, for a role that may create databases and roles."""
    try:
        return servers.address("postgres")
    except ServerUnavailableError as reason:
        pytest.fail(str(reason), pytrace=False)


@pytest.fixture(scope="session")
def stock(servers: Servers) -> Stock:
    """PostgreSQL as the system ships it, with a replica and pgbouncer; skips, or fails under GNOMON_REQUIRE_TOOLS."""
    try:
        return open_stock(servers.address("stock"))
    except ServerUnavailableError as reason:
        missing(str(reason))


@pytest.fixture(scope="session")
def secured(servers: Servers) -> Secured:
    """A Kafka with logins, TLS and an authorizer; skips, or fails under GNOMON_REQUIRE_KAFKA."""
    try:
        return open_secured(servers.address("secured"))
    except ServerUnavailableError as reason:
        no_kafka(reason)


@pytest.fixture
def empty_database_url(postgres_server: str) -> Iterator[str]:
    """URL of a new, empty database."""
    with postgres.database(postgres_server) as url:
        yield url


@pytest.fixture(scope="session")
def migrated_template(postgres_server: str, servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of a database that `gnomon db upgrade` migrated, once for the whole run."""
    name = f"{servers.folder.name.replace('-', '_').lower()}_template"
    done = servers.folder / "template.done"
    with servers.lock("template"):
        if not done.exists():
            postgres.drop(postgres_server, name)
            postgres.create(postgres_server, name)
            url = postgres.with_database(postgres_server, name)
            upgrade = Gnomon(tmp_path_factory.mktemp("upgrade")).run("db", "upgrade", env={"GNOMON_DATABASE_URL": url})
            if upgrade.returncode != 0:
                pytest.fail(f"gnomon db upgrade failed:\n{upgrade.stdout}{upgrade.stderr}", pytrace=False)
            done.touch()
    return name


@pytest.fixture
def database_url(postgres_server: str, migrated_template: str) -> Iterator[str]:
    """URL of a new, migrated database."""
    with postgres.database(postgres_server, migrated_template) as url:
        yield url


@pytest.fixture
def gnomon(tmp_path: Path) -> Iterator[Gnomon]:
    """The shipped command, run in a folder of this test's own."""
    command = Gnomon(tmp_path)
    with contextlib.closing(command):
        yield command


@pytest.fixture(autouse=True)
def no_swallowed_errors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail the test for errors that nobody catches: in threads, callbacks, destructors and asyncio's loop."""
    swallowed: list[str] = []

    def from_thread(error: threading.ExceptHookArgs) -> None:
        lines = traceback.format_exception(error.exc_type, error.exc_value, error.exc_traceback)
        swallowed.append(f"in thread {error.thread and error.thread.name}:\n{''.join(lines)}")

    def from_callback(error: "sys.UnraisableHookArgs") -> None:
        lines = traceback.format_exception(error.exc_type, error.exc_value, error.exc_traceback)
        swallowed.append(f"in {error.object!r}:\n{''.join(lines)}")

    class FromLoop(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            swallowed.append(self.format(record))

    handler = FromLoop(logging.ERROR)
    logging.getLogger("asyncio").addHandler(handler)
    monkeypatch.setattr(threading, "excepthook", from_thread)
    monkeypatch.setattr(sys, "unraisablehook", from_callback)
    yield
    logging.getLogger("asyncio").removeHandler(handler)
    assert not swallowed, "errors that nobody saw:\n" + "\n".join(swallowed)
