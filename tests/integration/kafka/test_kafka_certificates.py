"""A broker with an untrusted certificate: each command reports it in one line, and ends with 2."""

import json
from pathlib import Path

import pytest
from tests.support.door import enter
from tests.support.live_stream import FEATURES
from tests.support.servers.certificates import Authority, listening
from tests.support.servers.shared import ServerUnavailableError
from tests.support.servers.tools import missing

COMMANDS = (("topics", "create"), ("schemas", "register", "f.avsc"), ("doctor",))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return the authority that clients trust."""
    try:
        return Authority.made(tmp_path)
    except ServerUnavailableError as reason:
        missing(str(reason))


@pytest.mark.parametrize("reason", ["expired", "another host", "another authority"])
def test_a_certificate_that_cannot_be_trusted_is_said(tmp_path: Path, authority: Authority, reason: str) -> None:
    (tmp_path / "f.avsc").write_text(json.dumps(FEATURES.record))
    signing = Authority.made(tmp_path, "other") if reason == "another authority" else authority
    name = "DNS:kafka.example" if reason == "another host" else "IP:127.0.0.1"
    issued = signing.issue("kafka.example", name, days=-1 if reason == "expired" else 2)
    properties = {"security.protocol": "SSL", "ssl.ca.location": str(authority.certificate)}
    with listening(issued) as servers:
        for command in COMMANDS:
            env = {"GNOMON_STREAM": "s", "GNOMON_BOOTSTRAP_SERVERS": servers,
                   "GNOMON_KAFKA__PROPERTIES": json.dumps(properties),
                   "GNOMON_KAFKA__TIMEOUT_SECONDS": "8"}  # fmt: skip
            ended = enter(*command, cwd=tmp_path, env=env)
            said = ended.stdout if command == ("doctor",) else ended.line
            assert ended.status == (1 if command == ("doctor",) else 2), (command, ended)
            assert "certificate is not trusted" in said, (command, ended)
            assert "has expired" in said, (command, ended)
            assert "host name that is not in bootstrap_servers" in said, (command, ended)


def test_a_key_whose_password_is_wrong_is_named(tmp_path: Path, authority: Authority) -> None:
    client = authority.issue("client", password="key-Secret-7")
    properties = {
        "security.protocol": "SSL", "ssl.certificate.location": str(client.certificate),
        "ssl.key.location": str(client.key), "ssl.key.password": "not-the-one",
    }  # fmt: skip
    env = {"GNOMON_STREAM": "s", "GNOMON_KAFKA__PROPERTIES": json.dumps(properties)}
    ended = enter("topics", "create", cwd=tmp_path, env=env)
    assert ended.status == 2
    assert "check ssl.key.password" in ended.line
    assert "not-the-one" not in ended.stderr
