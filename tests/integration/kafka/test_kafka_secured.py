"""A Kafka with SCRAM, TLS and an authorizer: every refusal is one line that names the missing setting or right."""

import json
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest
from confluent_kafka.admin import AclOperation, ResourceType
from tests.support.door import Ended, enter
from tests.support.live_stream import sum_model
from tests.support.servers.process import Gnomon
from tests.support.servers.secured import PASSWORD, STRANGER, Secured
from tests.support.tap import GOOD, make_tap

from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.framing import Fingerprint
from gnomon_schemas.store import TopicSchemas


def ask(secured: Secured, cwd: Path, servers: str, properties: Mapping[str, str], *command: str) -> Ended:
    """Run a command with these properties."""
    env = {
        "GNOMON_STREAM": "s",
        "GNOMON_BOOTSTRAP_SERVERS": servers,
        "GNOMON_KAFKA__PROPERTIES": json.dumps(dict(properties)),
        "GNOMON_KAFKA__TIMEOUT_SECONDS": "4",
    }
    return enter(*(command or ("topics", "create")), cwd=cwd, env=env)


@pytest.mark.parametrize(
    ("listener", "changes", "status", "words"),
    [
        ("plain", {"sasl.password": "not-the-One"}, 2, "refuses the login: .*invalid credentials.*sasl.password"),
        ("plain", {"sasl.username": "absent-user"}, 2, "refuses the login: .*invalid credentials"),
        ("plain", {"sasl.mechanism": "PLAIN"}, 2, "supported mechanisms: SCRAM-SHA-256"),
        ("plain", {"sasl.mechanism": "SCRAM-SHA-512"}, 2, "supported mechanisms: SCRAM-SHA-256"),
        ("plain", {"security.protocol": "SASL_SSL"}, 2, "with this protocol: .*check security.protocol"),
        (
            "plain",
            {"security.protocol": "PLAINTEXT"},
            3,
            "accepts the connection and closes it: check security.protocol",
        ),
        ("tls", {"security.protocol": "SASL_SSL"}, 2, "certificate verify failed.*ssl.ca.location"),
        ("tls", {"security.protocol": "SASL_SSL", "ssl.ca.location": "/absent.pem"}, 2, "no file /absent.pem"),
        ("tls", {}, 3, "accepts the connection and closes it: check security.protocol"),
    ],
)
def test_a_refused_connection_says_what_to_change(
    secured: Secured, tmp_path: Path, listener: str, changes: dict[str, str], status: int, words: str
) -> None:
    import re

    servers = secured.plain if listener == "plain" else secured.tls
    ended = ask(secured, tmp_path, servers, secured.properties() | changes)
    assert ended.status == status, ended
    assert re.search(words, ended.line), ended.line
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert PASSWORD not in ended.stderr
    assert "not-the-One" not in ended.stderr


def test_without_rights_each_command_names_what_it_lacks(secured: Secured, tmp_path: Path, database_url: str) -> None:
    admin = secured.properties("admin")
    assert ask(secured, tmp_path, secured.plain, admin, "topics", "create", "--deployment", "d").status == 0
    stranger = {**secured.properties(STRANGER), "security.protocol": "SASL_PLAINTEXT"}
    model = str(sum_model(tmp_path / "m.onnx", "amount"))
    for command in (
        ("topics", "create", "--deployment", "e"),
        ("join", "--deployment", "d", "--database-url", database_url),
        ("labels", "consume", "--database-url", database_url),
        ("score", "--deployment", "d", "--model", model),
    ):
        ended = ask(secured, tmp_path, secured.plain, stranger, *command)
        assert ended.status == 2, (command, ended)
        assert "denies" in ended.line or "authorization" in ended.line.lower(), (command, ended.line)
        assert "does not exist" not in ended.line
        assert "no topic" not in ended.line


@pytest.mark.parametrize("missing", ["group", "nothing"])
def test_the_rights_of_the_docs_are_enough_and_the_group_is_one_of_them(
    secured: Secured, gnomon: Gnomon, database_url: str, missing: str, tmp_path: Path
) -> None:
    """A prefix, hence a set of rights, for this test only."""
    prefix = f"p{uuid.uuid4().hex[:8]}"
    user = "gnomon"
    secured.allow(user, ResourceType.TOPIC, prefix, AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE)
    if missing != "group":
        secured.allow(user, ResourceType.GROUP, prefix, AclOperation.READ)
    env = {
        "GNOMON_STREAM": "s",
        "GNOMON_TOPIC_PREFIX": prefix,
        "GNOMON_BOOTSTRAP_SERVERS": secured.plain,
        "GNOMON_DATABASE_URL": database_url,
        "GNOMON_KAFKA__PROPERTIES": json.dumps(secured.properties()),
    }
    made = enter("topics", "create", "--deployment", "d", cwd=tmp_path,
                 env=env | {"GNOMON_KAFKA__PROPERTIES": json.dumps(secured.properties("admin"))})  # fmt: skip
    assert made.status == 0, made
    process = gnomon.start("labels", "consume", env=env)
    if missing == "group":
        assert process.wait(60) == 2
        assert f"Read on the group {prefix}.s.labels (kafka-acls --add" in process.output.splitlines()[-1]
    else:
        process.wait_for("consuming labels")
        joining = gnomon.start("join", "--deployment", "d", env=env)
        joining.wait_for("event=progress", timeout=60)
        said = f"{process.output}\n{joining.output}".lower().splitlines()
        assert [line for line in said if "authorization" in line and "describeconfigs" not in line] == []
        assert [joining.terminate(30), process.terminate(30)] == [0, 0]


def test_a_scorer_that_may_not_write_its_shadow_topic_ends(secured: Secured, gnomon: Gnomon, tmp_path: Path) -> None:
    """It has all other rights: without this check it would read its positions again forever."""
    prefix = f"p{uuid.uuid4().hex[:8]}"
    admin = {"GNOMON_STREAM": "s", "GNOMON_TOPIC_PREFIX": prefix, "GNOMON_BOOTSTRAP_SERVERS": secured.plain,
             "GNOMON_KAFKA__PROPERTIES": json.dumps(secured.properties("admin"))}  # fmt: skip
    assert enter("topics", "create", "--deployment", "d", cwd=tmp_path, env=admin).status == 0
    user = "gnomon"
    secured.allow(user, ResourceType.TOPIC, prefix, AclOperation.READ, AclOperation.DESCRIBE)
    for written in ("live", "schemas", "dlq"):
        secured.allow(user, ResourceType.TOPIC, f"{prefix}.s.{written}", AclOperation.WRITE)
    secured.allow(user, ResourceType.GROUP, prefix, AclOperation.READ)
    secured.allow(user, ResourceType.TRANSACTIONAL_ID, prefix, AclOperation.WRITE, AclOperation.DESCRIBE)
    env = admin | {"GNOMON_KAFKA__PROPERTIES": json.dumps(secured.properties())}
    model = str(sum_model(tmp_path / "m.onnx", "amount"))
    tap = make_tap(secured.plain, "s", topic_prefix=prefix, properties=secured.properties("admin"))
    tap.record("r1", GOOD, value=0.5)
    assert tap.close(60)
    scorer = gnomon.start("score", "--deployment", "d", "--model", model, env=env)
    assert scorer.wait(60) == 2, scorer.output
    assert f"{prefix}.s.shadow.d" in scorer.output.splitlines()[-1]


@pytest.mark.parametrize("rights", [(), (AclOperation.DESCRIBE,)], ids=["none", "Describe"])
def test_labels_that_may_not_read_heartbeats_name_the_topic(
    secured: Secured, gnomon: Gnomon, database_url: str, tmp_path: Path, rights: tuple[AclOperation, ...]
) -> None:
    """A topic that may not be seen is not reported as missing."""
    prefix = f"p{uuid.uuid4().hex[:8]}"
    env = {"GNOMON_STREAM": "s", "GNOMON_TOPIC_PREFIX": prefix, "GNOMON_BOOTSTRAP_SERVERS": secured.plain,
           "GNOMON_DATABASE_URL": database_url,
           "GNOMON_KAFKA__PROPERTIES": json.dumps(secured.properties("admin"))}  # fmt: skip
    assert enter("topics", "create", cwd=tmp_path, env=env).status == 0
    user = "gnomon"
    for name in ("labels", "schemas", "dlq"):
        secured.allow(
            user, ResourceType.TOPIC, f"{prefix}.s.{name}", AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE
        )
    secured.allow(user, ResourceType.GROUP, prefix, AclOperation.READ)
    if rights:
        secured.allow(user, ResourceType.TOPIC, f"{prefix}.s.producers", *rights)
    process = gnomon.start(
        "labels", "consume", env=env | {"GNOMON_KAFKA__PROPERTIES": json.dumps(secured.properties())}
    )
    assert process.wait(60) == 2, process.output
    assert f"{prefix}.s.producers" in process.output.splitlines()[-1]


@pytest.mark.parametrize("rights", [(), (AclOperation.DESCRIBE,)], ids=["none", "Describe"])
def test_a_topic_of_schemas_that_may_not_be_read_is_a_missing_right(
    secured: Secured, tmp_path: Path, rights: tuple[AclOperation, ...]
) -> None:
    prefix = f"p{uuid.uuid4().hex[:8]}"
    env = {"GNOMON_TOPIC_PREFIX": prefix, "GNOMON_STREAM": "s", "GNOMON_BOOTSTRAP_SERVERS": secured.plain,
           "GNOMON_KAFKA__PROPERTIES": json.dumps(secured.properties("admin"))}  # fmt: skip
    assert enter("topics", "create", cwd=tmp_path, env=env).status == 0
    if rights:
        secured.allow(STRANGER, ResourceType.TOPIC, prefix, *rights)
    config = {"bootstrap.servers": secured.plain, **secured.properties(STRANGER)}
    schemas = TopicSchemas(config, f"{prefix}.s.schemas")
    try:
        with pytest.raises(ConfigurationError, match="grant Read"):
            schemas.find(Fingerprint(b"unknown!"))
    finally:
        schemas.close()


def test_the_hook_tells_a_refused_login_from_a_broker_that_is_away(
    secured: Secured, caplog: pytest.LogCaptureFixture
) -> None:
    properties = secured.properties(password="not-the-One")
    tap = make_tap(secured.plain, "s", properties=properties)
    tap.start(5)
    tap.record("r1", GOOD, value=0.5)
    tap.flush(5)
    tap.close(1)
    said = " ".join(record.getMessage() for record in caplog.records)
    assert "login" in said or "authentication" in said.lower(), said
    assert "not-the-One" not in said
