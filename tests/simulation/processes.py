"""`gnomon score` and `gnomon join` as processes of a world: the product's services, with other clients."""

import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import confluent_kafka
import structlog

from gnomon_consumer.database import connections
from gnomon_consumer.joiner import loop as join_loop
from gnomon_consumer.joiner import service as join_service
from gnomon_consumer.joiner.postgres import sink
from gnomon_consumer.kafka import clients, log_reading, sizes, topics
from gnomon_consumer.scorer import service as score_service
from gnomon_consumer.scorer.intake import own_schemas, shadow_tail
from gnomon_consumer.scorer.options import Options, StartAt
from gnomon_consumer.scorer.sealed import sealer, transaction
from gnomon_consumer.scorer.sealed import window as sealed_window
from gnomon_consumer.settings import Settings, load_settings
from gnomon_schemas.columnar import ColumnarReader
from gnomon_schemas.errors import DependencyUnreachableError
from gnomon_schemas.framing import Fingerprint
from gnomon_schemas.schema import Schema
from gnomon_schemas.store import ChainedSchemas, MemorySchemas, packaged_schemas
from gnomon_schemas.topics import Topics
from tests.simulation import database as fake_database
from tests.simulation.broker import Broker
from tests.simulation.clients import Client, Consumer, Producer
from tests.simulation.database import Database
from tests.simulation.workers import KnownSchemas, Workers, model
from tests.simulation.world import Killed, Process, Thread, ViolationError, World
from tests.support.logs import FEATURES

STREAM, DEPLOYMENT = "s", "challenger"
NAMES = Topics(STREAM)
SCORE_GROUP = f"gnomon.{STREAM}.score.{DEPLOYMENT}"
JOIN_GROUP = f"gnomon.{STREAM}.join.{DEPLOYMENT}"
RESTART_S = 1.0
_LIVE = FEATURES.live


@cache
def settings_of(window_seconds: float, budget: float, reservoir: int, allocation: str, seed: int) -> Settings:
    """Return settings of a simulation; none of them changes a guarantee."""
    return load_settings(
        {
            "stream": STREAM,
            "bootstrap_servers": "simulated:9092",
            "database_url": "postgresql://simulated/db",
            "kafka": {"timeout_seconds": 5.0},
            "score": {
                "window_seconds": window_seconds,
                "min_window_seconds": 1.0,
                "budget_rows_per_second": budget,
                "reservoir_rows": reservoir,
                "allocation": allocation,
                "seed": seed,
                "probe_rows": 3,
                "deadline_seconds": 5.0,
                "batch_rows": 8,
                "poison_limit": 1_000_000,
                "skip_behind_seconds": 0.0,
            },
            "join": {"poll_seconds": 0.2},
        }
    )


class Fleet:
    """The processes of one simulation, each restarted when it has ended."""

    def __init__(self, world: World, broker: Broker, database: Database, settings: Settings, dice_rate: float) -> None:
        self.world = world
        self.broker = broker
        self.database = database
        self.settings = settings
        self.running: dict[str, Process] = {}
        self._row_seconds = dice_rate

    def start(self, name: str) -> None:
        """Start a process; its name begins with its kind."""
        process = self.running[name] = Process(name)
        main = self._score if name.startswith("score") else self._join
        self.world.spawn(process, lambda: self._run(process, main))

    def kill(self, name: str, pause: float) -> None:
        """Kill as `kill -9` does, and start a new one after a pause."""
        process = self.running[name]
        self.world.kill(process)
        self.world.later(pause, lambda: self.start(name))

    def _run(self, process: Process, main: Callable[[Process], None]) -> None:
        try:
            main(process)
        except DependencyUnreachableError as error:
            self.world.note(f"{process.name} ends: {error}")
        except Killed:
            return
        except Exception as error:
            raise ViolationError(f"{process.name} ends: {type(error).__name__}: {error}") from error
        if not process.dead:
            process.dead = True
            self.world.on_change()
            self.world.later(RESTART_S, lambda: self.start(process.name))

    def _score(self, process: Process) -> None:
        world = self.world
        options = Options(
            deployment=DEPLOYMENT, role="challenger", model=model(), member=process.name, start=StartAt("earliest")
        )
        service = score_service.ScoreService(
            self.settings, options, lambda: process.dead, clock=world.clock, now_us=world.now_us
        )
        service.run()

    def _join(self, process: Process) -> None:
        stop: Any = _Stop(self.world, process)
        join_service.Joiner(self.settings, DEPLOYMENT, stop, clock=self.world.clock).run()

    def workers(self, *_: Any, **__: Any) -> Any:
        """Replace `ready_workers`."""
        return _ready(Workers(self.world, self._row_seconds), KnownSchemas(self.world))


@contextmanager
def _ready(workers: Workers, schemas: KnownSchemas) -> Iterator[Any]:
    yield SimpleNamespace(pool=workers, schemas=schemas, live=_LIVE)


class _Stop:
    """The event that ends a joiner; it is never set."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    def is_set(self) -> bool:
        return self._process.dead

    def wait(self, seconds: float) -> bool:
        self._world.sleep(seconds * self._world.idle)
        return self._process.dead


class _Schemas(MemorySchemas):
    """Replaces `TopicSchemas`; it is at the end of its topic."""

    failing = False

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__([_LIVE])

    def refresh(self, timeout_s: float | None = None) -> None:
        """Do nothing: there are no new schemas."""

    def live_schemas(self) -> list[Schema]:
        return [_LIVE]

    def holds(self, _: Fingerprint) -> bool:
        """Return true: every schema is already published."""
        return True

    def close(self) -> None:
        """Do nothing: nothing is open."""


@cache
def _reader() -> ColumnarReader:
    """Return one reader for all seeds, because it proves each codec when it first meets a schema."""
    return ColumnarReader(ChainedSchemas(packaged_schemas(), MemorySchemas([_LIVE])))


_packaged = cache(packaged_schemas)


@contextmanager
def simulated(fleet: Fleet) -> Iterator[None]:
    """Replace clocks, random sources, threads and clients by the world's for the length of a block."""
    world, broker, database = fleet.world, fleet.broker, fleet.database

    def client(kind: Any, config: dict[str, Any], **_: Any) -> Client:
        if kind is confluent_kafka.Consumer:
            return Consumer(broker, config)
        return Producer(broker, config) if kind is confluent_kafka.Producer else Client(broker)

    def connect(url: str, application: str) -> Any:
        assert world.process is not None
        return database.connect(world.process)

    def grow(settings: Settings, plans: list[topics.TopicPlan]) -> list[topics.TopicResult]:
        for plan in plans:
            broker.grow(plan.name, plan.partitions)
        return []

    time = SimpleNamespace(monotonic=world.clock, time=lambda: world.now_us() / 1e6, sleep=world.sleep)
    drawn = SimpleNamespace(uuid4=lambda: uuid.UUID(int=world.dice.getrandbits(128), version=4))
    threads = SimpleNamespace(Thread=lambda target, name, daemon: Thread(world, target))
    replacements: list[tuple[Any, str, Any]] = [
        *((module, "time", time) for module in (clients, log_reading, join_loop, sink)),
        *((module, "uuid", drawn) for module in (sealer, sealed_window)),
        (transaction, "threading", threads),
        (clients, "_client", client),
        (sizes, "largest_message", lambda *_: sizes.DEFAULT_BYTES),
        (topics, "create", grow),
        (topics, "is_compacted", lambda *_: False),
        (connections, "connect_service", connect),
        (sink, "copying", fake_database.copying),
        (sink, "give_room", lambda _: None),
        (join_service, "declare", lambda *_: None),
        *((module, "TopicSchemas", _Schemas) for module in (shadow_tail, own_schemas, join_service)),
        (join_service, "ColumnarReader", lambda _: _reader()),
        *((module, "packaged_schemas", _packaged) for module in (shadow_tail, join_service)),
        (score_service, "ready_workers", fleet.workers),
        (score_service, "rehearsed", lambda *_: 1 / fleet._row_seconds),
    ]
    with ExitStack() as stack:
        for module, name, value in replacements:
            stack.enter_context(patch.object(module, name, value))
        yield


def be_quiet() -> None:
    """Switch the product's log off: a seed prints its own history."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
