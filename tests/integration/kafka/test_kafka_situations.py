"""Every command that uses Kafka, in every situation that people reported: a status and a line, never a traceback.

The outcome is docs/kafka-errors.md: with GNOMON_WRITE_DOCS=1 the test writes the page, without it compares.
"""

import json
import os
import re
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka.admin import AclOperation, ResourceType
from tests.support.door import Ended, enter
from tests.support.live_stream import FEATURES, sum_model
from tests.support.servers.certificates import Authority, listening
from tests.support.servers.ports import free_port
from tests.support.servers.secured import ADMIN, PASSWORD, SERVICE, STRANGER, Secured
from tests.support.servers.shared import ROOT, ServerUnavailableError
from tests.support.servers.tools import missing

PAGE = ROOT / "docs" / "kafka-errors.md"
WRONG = "not-the-One"
ASKED: Mapping[str, tuple[str, ...]] = {
    "schemas register": ("features.avsc",),
    "schemas list": (),
    "score": ("--deployment", "challenger", "--model", "model.onnx", "--exit-when-idle=1"),
    "replay": ("--deployment", "later", "--model", "model.onnx", "--like", "challenger"),
    "join": ("--deployment", "challenger", "--drain"),
    "labels consume": ("--drain",),
    "doctor": (),
    "topics create": ("--deployment", "challenger"),  # the last: it changes the situation
}


@dataclass(frozen=True, slots=True)
class Situation:
    """The address and properties that a user has, and the stream.

    `status` is that of every command but `doctor`; None if it depends on the command.
    """

    name: str
    title: str
    servers: str
    properties: Mapping[str, str]
    status: int | None = 2
    stream: str = "absent"


def situations(secured: Secured, authority: Authority, other: Authority, stack: ExitStack) -> list[Situation]:
    """Return them all; listeners with wrong certificates run until `stack` ends."""
    own = secured.properties()
    tls = {**own, "security.protocol": "SASL_SSL"}
    plain = {"security.protocol": "PLAINTEXT"}
    trusting = {"security.protocol": "SSL", "ssl.ca.location": str(authority.certificate)}
    issued = {
        "expired": authority.issue("kafka.expired", "IP:127.0.0.1", days=-1),
        "other": authority.issue("kafka.example", "DNS:kafka.example"),
        "unknown": other.issue("kafka.unknown", "IP:127.0.0.1"),
    }
    shown = {name: stack.enter_context(listening(one)) for name, one in issued.items()}
    return [
        Situation("away", "no broker at that port", f"127.0.0.1:{free_port()}", plain, 3),
        Situation("no host", "a name that does not exist", "kafka.invalid:9092", plain, 3),
        Situation("wrong password", "a wrong password", secured.plain, secured.properties(password=WRONG)),
        Situation("no user", "a user that does not exist", secured.plain, secured.properties("absent")),
        Situation("mechanism", "a mechanism that the broker does not offer", secured.plain,
                  {**own, "sasl.mechanism": "PLAIN"}),
        Situation("TLS to plain", "a TLS client at a listener without TLS", secured.plain, tls),
        Situation("plain to TLS", "a client without TLS at a TLS listener", secured.tls, own, 3),
        Situation("no login", "a client without login at a listener that asks for one", secured.plain, plain, 3),
        Situation("no authority", "TLS without the authority's file", secured.tls, tls),
        Situation("absent file", "an authority's file that does not exist", secured.tls,
                  {**tls, "ssl.ca.location": "/absent.pem"}),
        Situation("another authority", "a certificate of another authority", shown["unknown"], trusting),
        Situation("expired", "a certificate that has expired", shown["expired"], trusting),
        Situation("another host", "a certificate for another host name", shown["other"], trusting),
        Situation("no rights", "a user without any right", secured.plain, secured.properties(STRANGER), None),
        Situation("Describe", "a user who may see the topics and nothing else", secured.plain, own, None, "seen"),
        Situation("no group", "a user who may read and write topics, but has no group", secured.plain, own, None,
                  "nogroup"),
        Situation("no topics", "a stream whose topics are not created yet", secured.plain, secured.properties(ADMIN),
                  None, "none"),
        Situation("small topics", "topics that accept 5,000 bytes", secured.plain, secured.properties(ADMIN), None,
                  "small"),
    ]  # fmt: skip


def create(secured: Secured, folder: Path) -> None:
    """Make the topics of the streams, and the rights of the service's user on them."""
    for stream in ("seen", "nogroup", "small"):
        env = environment(Situation("", "", secured.plain, secured.properties(ADMIN), 0, stream))
        assert enter("topics", "create", "--deployment", "challenger", cwd=folder, env=env).status == 0
        assert enter("schemas", "register", "features.avsc", cwd=folder, env=env).status == 0
    secured.allow(SERVICE, ResourceType.TOPIC, "gnomon.seen.", AclOperation.DESCRIBE)
    secured.allow(SERVICE, ResourceType.TOPIC, "gnomon.nogroup.", AclOperation.READ, AclOperation.WRITE)
    for topic in ("shadow.challenger", "dlq"):
        secured.configure(f"gnomon.small.{topic}", max_message_bytes="5000")


def environment(situation: Situation) -> dict[str, str]:
    """Return the settings of a situation."""
    return {
        "GNOMON_STREAM": situation.stream,
        "GNOMON_BOOTSTRAP_SERVERS": situation.servers,
        "GNOMON_KAFKA__PROPERTIES": json.dumps(dict(situation.properties)),
        # A refusal comes at once, if the machine is not busy with something else.
        "GNOMON_KAFKA__TIMEOUT_SECONDS": "2" if situation.status == 3 else "20",
        "GNOMON_LOG__FORMAT": "logfmt",
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files that the commands read."""
    (tmp_path / "features.avsc").write_text(json.dumps(FEATURES.record))
    sum_model(tmp_path / "model.onnx", "amount")
    return tmp_path


@pytest.mark.timeout(900)
def test_every_command_in_every_situation(secured: Secured, folder: Path, database_url: str) -> None:
    create(secured, folder)
    told: dict[str, dict[str, Ended]] = {}
    with ExitStack() as stack:
        try:
            authority, other = Authority.made(folder), Authority.made(folder, "other")
        except ServerUnavailableError as reason:
            missing(str(reason))
        tried = situations(secured, authority, other, stack)
        for situation in tried:
            env = environment(situation) | {"GNOMON_DATABASE_URL": database_url}
            for name, arguments in ASKED.items():
                ended = enter(*name.split(), *arguments, cwd=folder, env=env)
                told.setdefault(situation.name, {})[name] = ended
                said = ended.stdout + ended.stderr
                assert "Traceback" not in said, (situation.name, name, said)
                assert PASSWORD not in said
                assert WRONG not in said
                assert ended.status in (0, 1, 2, 3), (situation.name, name, said)
                assert ended.status < 2 or ended.line or name == "doctor", (situation.name, name, said)
    for situation in tried:
        for name, ended in told[situation.name].items():
            if situation.status is not None and name != "doctor":
                assert ended.status == situation.status, (situation.name, name, ended)
    page = written(tried, told, secured)
    if os.environ.get("GNOMON_WRITE_DOCS"):
        PAGE.write_text(page)
    for name, words in (("away", "Connection refused"), ("plain to TLS", "closes it"), ("no login", "closes it")):
        assert any(words in ended.line for ended in told[name].values()), told[name]
    assert (told["no rights"]["doctor"].stdout).count("denies this user") >= 5
    assert "max.message.bytes=5000" in told["small topics"]["doctor"].stdout
    assert page == PAGE.read_text(), "write it anew: GNOMON_WRITE_DOCS=1 pytest " + __file__


def written(tried: list[Situation], told: Mapping[str, Mapping[str, Ended]], secured: Secured) -> str:
    """Return the page: a table of statuses, and the message for each situation."""
    lines = [
        "# What each command says about Kafka",
        "",
        f"Written by `{Path(__file__).relative_to(ROOT)}`, which runs every command in every situation on a Kafka",
        "with SCRAM logins, TLS and an authorizer. Status 0: done; 1: a check failed; 2: somebody must change",
        "something; 3: no broker answers. [Servers](servers.md#kafka) says what services do if it happens while they",
        "run.",
        "",
        "| situation | " + " | ".join(f"`{name}`" for name in ASKED) + " |",
        "|---|" + "---|" * len(ASKED),
    ]
    for situation in tried:
        statuses = (str(told[situation.name][name].status) for name in ASKED)
        lines.append(f"| {situation.name} | " + " | ".join(statuses) + " |")
    for situation in tried:
        by_line: dict[str, list[str]] = {}
        for name, ended in told[situation.name].items():
            if ended.status > 1 and ended.line:
                by_line.setdefault(general(ended.line, secured), []).append(name)
        title = situation.title[0].upper() + situation.title[1:]
        lines += ["", f"## {situation.name}", "", f"{title}.", ""]
        lines += [f"* {', '.join(f'`{name}`' for name in names)}: {line}" for line, names in by_line.items()]
    return "\n".join(lines).rstrip() + "\n"


def general(line: str, secured: Secured) -> str:
    """Return a line without what differs from run to run."""
    line = re.sub(r"127\.0\.0\.1:\d+", "HOST:PORT", line)
    line = re.sub(r" \(after \d+ ?ms[^)]*\)", "", line)
    # What librdkafka has said by then depends on the moment.
    line = re.sub(r"\(Failed to get metadata: .*\): start it", "(…): start it", line)
    line = line.replace(f".{socket.gethostname()}", ".MEMBER")
    line = re.sub(r"/(bootstrap|\d+):", "/N:", line)
    return line.replace("|", "\\|")
