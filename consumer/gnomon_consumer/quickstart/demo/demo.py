"""The demo: replay real flights on one machine, store pairs, print reports and verdicts.

This module starts, paces and watches processes. Broker and database are embedded servers. Scorers, joiners and label
consumer are the shipped commands. The live service is a separate process; its only link to Gnomon is the hook.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from confluent_kafka import Consumer, TopicPartition

from gnomon_consumer.database.connections import connect
from gnomon_consumer.database.queries import queries_of
from gnomon_consumer.kafka import log_reading
from gnomon_consumer.quickstart.demo.folder import STREAM, TIME_ZONE, Demo
from gnomon_consumer.quickstart.demo.view import View
from gnomon_consumer.quickstart.embedded.start import PARTITIONS, start_kafka, start_postgres
from gnomon_consumer.reports import Answer, Question
from gnomon_consumer.runtime.supervisor import Child, Children
from gnomon_consumer.settings import load_settings
from gnomon_consumer.verdict.database import deployment_row, opened
from gnomon_consumer.verdict.service import decide_now
from gnomon_schemas.errors import ConfigurationError, GnomonError
from gnomon_schemas.topics import Topics

SQL = queries_of(__package__)

LIVE_FILE = "logistic-regression.onnx"
VERSION = "2013.03"
# The embedded Kafka keeps about 5 MB a partition. A capture takes under 200 bytes and a shadow outcome under 300, both
# before compression, so this many over 4 partitions leave room.
MOST_AHEAD = 60_000
TICK_SECONDS = 0.1
# Shorter than in production: a capture waits for the end of its window, and the live service waits for its captures.
WINDOW_SECONDS = 2
# Rows a second that each model may score. A fast machine could score all of them, but a demo should show sampling, and
# its reports should take seconds.
BUDGET_ROWS_PER_SECOND = 1500
# No progress for this long means that something failed silently.
STALL_SECONDS = 120.0


@dataclass(frozen=True)
class Deployment:
    """A model that scores in the shadow."""

    name: str
    role: str
    model_file: str


LONGEST_HORIZON = timedelta(days=7)
LEDGER_COLUMNS = (
    "role", "seen", "sampled", "sampled_out", "paired", "scored", "failed", "timed_out", "dead_lettered", "orphaned",
    "gaps",
)  # fmt: skip
DEPLOYMENTS = (
    Deployment("gradient-boosting", "challenger", "gradient-boosting.onnx"),
    Deployment("control", "control", LIVE_FILE),
)


@dataclass(frozen=True, kw_only=True)
class DemoCounts:
    """The progress of the demo: the counts of the live service, and the rows in the database."""

    captured: int
    labels: int
    finished: bool
    joined: Mapping[str, int]
    labels_stored: int

    @property
    def behind(self) -> int:
        """Return how many published messages the slowest reader has not stored yet."""
        joined = min((self.joined.get(deployment.name, 0) for deployment in DEPLOYMENTS), default=0)
        return max(self.captured - joined, self.labels - self.labels_stored)

    @property
    def drained(self) -> bool:
        """Return whether the service has finished and everything it published is stored."""
        return self.finished and self.behind == 0


class Service:
    """The demo's handle on the live service: it reads the progress, and sends how much may be published."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.last: dict[str, Any] = {"captured": 0, "labels": 0}
        assert child.process.stdout is not None
        threading.Thread(target=self._read, args=(child.process.stdout,), daemon=True).start()

    def _read(self, lines: Any) -> None:
        for line in lines:
            self.last = json.loads(line)

    @property
    def finished(self) -> bool:
        """Return whether the service has published everything and Kafka has confirmed it."""
        return bool(self.last.get("done"))

    def allow(self, published: int) -> None:
        """Allow the service to publish this many captures and labels in total."""
        assert self.child.process.stdin is not None
        if not self.finished and self.child.process.poll() is None:
            self.child.process.stdin.write(f"{published}\n")
            self.child.process.stdin.flush()


class DemoRun:
    """A running demo: its servers, its child processes, and the connection that reads their progress."""

    def __init__(self, demo: Demo, view: View, stack: ExitStack) -> None:
        self.demo = demo
        self._view = view
        demo.prepare(stack)
        logs = demo.output / "logs"
        view.step("Start the servers, train the models")
        # Children stop before the servers: the stack is left in reverse order.
        servers = stack.enter_context(ExitStack())
        self.children = stack.enter_context(Children(logs))
        training = self.children.start(
            "training", [sys.executable, "-m", "gnomon_consumer.quickstart.demo.training", str(demo.output / "models")]
        )
        database = servers.enter_context(
            start_postgres(demo.database if demo.keep else None, log=logs / "postgres.log")
        )
        self._kafka = servers.enter_context(start_kafka(log=logs / "kafka.log"))
        self.database_url = database.address
        demo.write_config(self._kafka.address, database.address)
        self._gnomon("database upgrade", "db", "upgrade")
        self._gnomon("topics", "topics", "create", *(f"--deployment={one.name}" for one in DEPLOYMENTS))
        self.connection = stack.enter_context(connect(database.address, "gnomon-demo"))
        self.connection.autocommit = True
        self._declare_stream()
        self.children.expect_end(training)
        self._retention = Retention(self._kafka.address)
        stack.callback(self._retention.close)
        self.started = time.monotonic()
        self.service = self._start_pipeline()

    def _gnomon(self, name: str, *arguments: str) -> None:
        self.children.run_gnomon(name, *arguments, "--config", self.demo.config)

    def _declare_stream(self) -> None:
        """Declare the days of 2013, so that partitions are created for them although retention would refuse them."""
        self.connection.execute(
            SQL["declare_stream"],
            (STREAM, datetime(2013, 1, 1, tzinfo=UTC), datetime(2014, 2, 1, tzinfo=UTC)),
        )

    def _start_pipeline(self) -> Service:
        self._view.step("Start scorers, joiners, labels, live service")
        models, config = self.demo.output / "models", self.demo.config
        service = self.children.start(
            "live service",
            [
                sys.executable, "-m", "gnomon_consumer.quickstart.demo.service", "--paced",
                "--bootstrap-servers", self._kafka.address, "--stream", STREAM,
                "--model", str(models / LIVE_FILE), "--captures", str(self.demo.captures),
            ],
            piped=True,
        )  # fmt: skip
        for one in DEPLOYMENTS:
            self.children.start_gnomon(
                f"score {one.name}", "score", "--deployment", one.name, "--role", one.role,
                "--model", models / one.model_file, "--model-version", VERSION, "--window", WINDOW_SECONDS,
                "--budget", BUDGET_ROWS_PER_SECOND, "--config", config,
            )  # fmt: skip
            self.children.start_gnomon(f"join {one.name}", "join", "--deployment", one.name, "--config", config)
        self.children.start_gnomon("labels", "labels", "consume", "--config", config)
        return Service(service)

    def counts(self) -> DemoCounts:
        """Return the progress that the service reported and that the database holds."""
        joined = self.connection.execute(SQL["joined"]).fetchall()
        stored = self.connection.execute(SQL["labels_read"])
        last, row = self.service.last, stored.fetchone()
        assert row is not None
        return DemoCounts(
            captured=last["captured"],
            labels=last["labels"],
            finished=bool(last.get("done")),
            joined=dict(joined),
            labels_stored=row[0],
        )

    def drain(self) -> DemoCounts:
        """Allow the service to publish until everything is stored; return the final progress.

        Raises ChildDiedError when a process of the pipeline ends, GnomonError when there is no progress for
        `STALL_SECONDS` or the embedded Kafka has dropped unread records.
        """
        previous, moved = None, time.monotonic()
        while True:
            counts = self.counts()
            self._show(counts)
            if counts.drained:
                return counts
            self._check(counts)
            self.service.allow(counts.captured + counts.labels + max(0, MOST_AHEAD - counts.behind))
            if counts != previous:
                previous, moved = counts, time.monotonic()
            elif time.monotonic() - moved > STALL_SECONDS:
                raise GnomonError(f"no progress for {STALL_SECONDS:.0f} s ({counts}); see {self.demo.output}/logs")
            time.sleep(TICK_SECONDS)

    def _check(self, counts: DemoCounts) -> None:
        self.children.check(but=self.service.child if counts.finished else None)
        self._retention.check(self.connection)

    def _show(self, counts: DemoCounts) -> None:
        captures = self.demo.captures
        counters = {"live predictions captured": (counts.captured, captures)}
        for one in DEPLOYMENTS:
            counters[f"{one.role} joined"] = (counts.joined.get(one.name, 0), captures)
        counters["labels stored"] = (counts.labels_stored, max(counts.labels, counts.labels_stored, 1))
        self._view.count(counters)


class Retention:
    """Detects an overrun of the embedded Kafka.

    It drops its oldest records. A reader that still needs them would lose them silently.
    """

    CHECK_SECONDS = 2.0

    def __init__(self, bootstrap_servers: str) -> None:
        self._consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "gnomon-demo-retention"})
        self._checked = time.monotonic()

    def check(self, connection: psycopg.Connection) -> None:
        """Raise GnomonError if a partition begins after the next offset of a joiner."""
        if time.monotonic() - self._checked < self.CHECK_SECONDS:
            return
        self._checked = time.monotonic()
        rows = connection.execute(SQL["next_by_partition"]).fetchall()
        needed: dict[int, int] = dict(rows)
        for partition in range(PARTITIONS):
            low, _ = log_reading.span(self._consumer, TopicPartition(Topics(STREAM).live, partition), 10)
            if low > needed.get(partition, 0):
                raise GnomonError(
                    f"the embedded Kafka dropped partition {partition} up to offset {low},"
                    f" and offset {needed.get(partition, 0)} is not read yet"
                )

    def close(self) -> None:
        """Close the Kafka client."""
        self._consumer.close()


def run(demo: Demo, view: View, tables: bool = True) -> tuple[dict[str, Any], list[Answer]]:
    """Run the demo; return the object of `--json` and, with `tables`, the reports to show."""
    # matplotlib takes a second to load, which `gnomon demo --help` need not wait for.
    from gnomon_consumer.reports.html import render
    from gnomon_consumer.reports.page import gather

    with ExitStack() as stack:
        stack.callback(view.close)
        pipeline = DemoRun(demo, view, stack)
        counts = pipeline.drain()
        seconds = time.monotonic() - pipeline.started
        view.step("Stop scorers, joiners, labels")
        pipeline.children.stop()
        # Weeks have matured since the label consumer last sealed cohorts.
        pipeline.connection.execute(SQL["seal_cohorts"], [STREAM])
        view.step("Decide")
        decided = decide(demo)
        view.step("Write the report")
        page = gather(pipeline.connection, Question(STREAM, time_zone=TIME_ZONE), datetime.now(UTC))
        demo.report.write_text(render(page), encoding="utf-8")
        outcome = summary(pipeline.connection, page.answers, counts, seconds, decided)
        return {**outcome, "report": str(demo.report)}, highlights(page.answers) if tables else []


def decide(demo: Demo) -> dict[str, dict[str, Any]]:
    """Return the verdict of each deployment in the form of `gnomon verdict --format json`."""
    settings = load_settings(config=demo.config)
    with opened(settings.require_database_url()) as connection:
        return {
            one.name: decide_now(
                connection, deployment_row(connection, STREAM, one.name), settings.verdict, given=True
            ).as_json()
            for one in DEPLOYMENTS
        }


def summary(
    connection: psycopg.Connection,
    answers: Mapping[str, Answer],
    counts: DemoCounts,
    seconds: float,
    decided: Mapping[str, dict[str, Any]],
) -> dict[str, Any]:
    """Return the object of `--json`."""
    agreement = {row["deployment"]: row["agreement"] for row in answers["agreement"].rows}
    (labels,) = connection.execute(SQL["labels"]).fetchone() or (0,)
    return {
        "captured": counts.captured,
        "labels": labels,
        "seconds": round(seconds, 1),
        "captures_per_second": round(counts.captured / seconds),
        "report": None,
        "deployments": [
            {"name": row["deployment"], **{name: row[name] for name in LEDGER_COLUMNS},
             "agreement": agreement[row["deployment"]], "verdict": decided[row["deployment"]]["decision"]}
            for row in answers["ledger"].rows
        ],
        "verdicts": {name: said["sentence"] for name, said in decided.items()},
    }  # fmt: skip


def out_of_balance(outcome: dict[str, Any]) -> list[str]:
    """Return one line per deployment whose ledger does not close: requests in no bucket or in two, or gaps."""
    captured, wrong = outcome["captured"], []
    for row in outcome["deployments"]:
        buckets = row["sampled_out"] + row["paired"] + row["dead_lettered"] + row["orphaned"]
        if not row["seen"] == captured == buckets or row["gaps"]:
            wrong.append(
                f"{row['name']}: captured {captured}, seen {row['seen']}, in buckets {buckets}, gaps {row['gaps']}"
            )
    if len(outcome["deployments"]) != len(DEPLOYMENTS):
        wrong.append(f"{len(outcome['deployments'])} deployments instead of {len(DEPLOYMENTS)}")
    return wrong


def highlights(answers: Mapping[str, Answer]) -> list[Answer]:
    """Return the reports that answer a newcomer's questions; quality only for the challenger's longest horizon."""
    challenger = next(one.name for one in DEPLOYMENTS if one.role == "challenger")
    quality = answers["quality"]
    rows = [
        row for row in quality.rows if row["deployment"] == challenger and row["horizon"] in (None, LONGEST_HORIZON)
    ]
    return [
        answers["ledger"],
        answers["agreement"],
        replace(quality, rows=rows),
        answers["latency"],
        answers["errors"],
    ]


def reopen(demo: Demo, say: Callable[[str], object]) -> None:
    """Serve a kept database until Ctrl-C, and point `gnomon.toml` at it."""
    if not (demo.database / "PG_VERSION").exists():
        raise ConfigurationError(f"--open: no database in {demo.database}; `gnomon demo --keep` leaves one there")
    with ExitStack() as stack:
        demo.claim(stack)
        database = stack.enter_context(start_postgres(demo.database))
        demo.write_config("localhost:9092", database.address)
        say(f"The demo's database is open at\n  {database.address}\nuntil Ctrl-C. In another terminal:")
        say(f"  psql '{database.address}'\n  gnomon report agreement --config {demo.config}")
        with suppress(KeyboardInterrupt):
            while database.running():
                time.sleep(0.5)
