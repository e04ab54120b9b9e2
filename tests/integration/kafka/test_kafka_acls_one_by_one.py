"""Each right of docs/kafka-acls.md is left out once: the component names it in one line, and ends or goes on as the
page says.
"""

import json
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka.admin import NewTopic
from tests.support.acls import KINDS, OPERATIONS, documented, grant, resolved, table
from tests.support.door import enter
from tests.support.live_stream import Stream, sum_model
from tests.support.servers.secured import ADMIN, Secured
from tests.support.tap import GOOD, make_tap


@dataclass(frozen=True, slots=True)
class Right:
    """A right of the page, with S and D in its name, and what the component does without it."""

    component: str
    kind: str
    name: str
    operation: str
    without: str

    def __str__(self) -> str:
        return f"{self.component}-{self.operation}-{self.name}"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A stream with captures, labels and dead letters of both, and the shadow log of the deployment `done`."""

    stream: str
    env: dict[str, str]
    model: str


RIGHTS = [
    Right(component, kind, name, operation, without)
    for component, kind, name, operations, without in table()
    for operation in operations.split(", ")
]


@pytest.fixture(scope="module")
def prepared(secured: Secured, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """By the super user, in a stream of its own."""
    folder = tmp_path_factory.mktemp("acls")
    stream = f"s{uuid.uuid4().hex[:8]}"
    model = str(sum_model(folder / "sum.onnx", "amount"))
    env = {"GNOMON_STREAM": stream, "GNOMON_BOOTSTRAP_SERVERS": secured.plain,
           "GNOMON_KAFKA__PROPERTIES": json.dumps(secured.properties(ADMIN))}  # fmt: skip
    assert enter("topics", "create", "--deployment", "done", cwd=folder, env=env).status == 0
    tap = make_tap(secured.plain, stream, properties=secured.properties(ADMIN))
    for number in range(20):
        tap.record(f"r{number}", GOOD, value=0.5)
    tap.label("r1", value=1.0)
    assert tap.close(60)
    live = Stream(secured.plain, stream)
    live.producer = secured.producer(ADMIN)
    for topic in ("live", "labels"):
        live.producer.produce(f"gnomon.{stream}.{topic}", b"neither capture nor label", b"r")
    assert live.producer.flush(60) == 0
    score = ("score", "--deployment", "done", "--model", model, "--no-sampling", "--from", "earliest")
    # Without Write on the topic of schemas: see below.
    user = f"score-{uuid.uuid4().hex[:6]}"
    rules = [
        (component, kind, name, operations)
        for component, kind, name, operations in documented(stream, "done")
        if (component, name, operations) != ("score", f"gnomon.{stream}.schemas", [OPERATIONS["Write"]])
    ]
    grant(secured, {"score": user}, [rule for rule in rules if rule[0] == "score"])
    mine = env | {"GNOMON_KAFKA__PROPERTIES": json.dumps(secured.properties(user))}
    assert enter(*score, "--exit-when-idle=1", cwd=folder, env=mine).status == 0
    return Prepared(stream, env, model)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("right", RIGHTS, ids=str)
def test_a_right_that_is_left_out_is_named(
    right: Right, secured: Secured, database_url: str, prepared: Prepared, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    stream = prepared.stream
    # A log that holds something is read at the start.
    read = right.component == "score" and right.operation == "Read" and right.name.endswith(("shadow.D", "reader"))
    deployment = "done" if read or right.component == "join" else f"d{uuid.uuid4().hex[:6]}"
    name = resolved(right.name, stream, deployment)
    # No scorer here may publish its schemas: that is only logged, and only while they are missing.
    unpublished = (KINDS["topic"], f"gnomon.{stream}.schemas", OPERATIONS["Write"])
    left_out = {(KINDS[right.kind], name, OPERATIONS[right.operation])}
    left_out |= {unpublished} if right.component == "score" else set()
    rules = [
        (component, kind, of, [one for one in operations if (kind, of, one) not in left_out])
        for component, kind, of, operations in documented(stream, deployment)
        if component == right.component
    ]
    user = f"{right.component}-{uuid.uuid4().hex[:6]}"
    grant(secured, {right.component: user}, rules)
    properties = secured.properties(user)
    wanted = f"{right.operation} on the {right.kind} {name.rstrip('*')}"
    if right.component == "hook":
        tap = make_tap(secured.plain, stream, properties=properties)
        tap.record("r", GOOD, value=0.5)
        tap.label("r", value=1.0)
        tap.close(30)
        assert sum(wanted in record.getMessage() for record in caplog.records) == 1, caplog.text
        stats = tap.stats()
        assert stats.labels is not None
        assert ("delivery_failed" in {**stats.dropped, **stats.labels.dropped}) == ("delivery" in right.without)
        return
    if right.operation == "Alter":  # needed where the live topic has more partitions
        admin = secured.admin()
        admin.create_topics([NewTopic(name, 1, 1)])[name].result()
    elif deployment != "done":
        create = ("topics", "create", "--deployment", deployment)
        assert enter(*create, cwd=tmp_path, env=prepared.env).status == 0
    model = ("--model", prepared.model, "--no-sampling", "--from", "earliest")
    ends = right.without.startswith("ends")
    command = {
        "score": ("score", "--deployment", deployment, *model, *(() if ends else ("--exit-when-idle=2",))),
        "join": ("join", "--deployment", "done"),
        "labels": ("labels", "consume", *(() if ends else ("--drain",))),
    }[right.component]
    env = {"GNOMON_KAFKA__PROPERTIES": json.dumps(properties), "GNOMON_DATABASE_URL": database_url}
    began = time.monotonic()
    ended = enter(*command, cwd=tmp_path, env=prepared.env | env)
    assert ended.status == (2 if ends else 0), ended.stderr
    said = ended.stderr.splitlines()[-1] if ends else ended.stderr
    assert wanted in said, (round(time.monotonic() - began), ended.stderr)
    assert "Traceback" not in ended.stderr
