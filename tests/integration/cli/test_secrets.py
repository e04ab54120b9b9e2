"""A secret in every place that can hold one, every command, and no byte of it in their output."""

import json
import stat
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.support.door import enter
from tests.support.live_stream import FEATURES

from gnomon_consumer.settings import is_secret

CANARY = "canary"
"""Every secret begins with it, so that one search finds any part."""


def secret(name: str) -> str:
    return f"{CANARY}-{name}-0x7F"


NOWHERE = "127.0.0.1:1"
URLS = {
    "userinfo": f"postgresql://u:{secret('url')}@{NOWHERE}/d",
    "escaped": f"postgresql://u:{quote(secret('url') + ' @/')}@{NOWHERE}/d",
    "query": f"postgresql://u@{NOWHERE}/d?password={secret('query')}",
    "sslpassword": f"postgresql://u@{NOWHERE}/d?sslpassword={secret('ssl')}&sslmode=require",
    "at sign": f"postgresql://u:x@{secret('tail')}@{NOWHERE}/d",
    "slash": f"postgresql://u:x/{secret('tail')}@{NOWHERE}/d",
    "question mark": f"postgresql://u:x?{secret('tail')}@{NOWHERE}/d",
    "percent": f"postgresql://u:x%zz{secret('tail')}@{NOWHERE}/d",
    "no host": f"postgresql://u:{secret('tail')}",
    "other scheme": f"mysql://u:{secret('tail')}@{NOWHERE}/d",
    "key and value": f"host=127.0.0.1 port=1 user=u password={secret('kv')} dbname=d",
    "broken key and value": f"host=127.0.0.1 password=a {secret('kv')}",
    "unterminated": f"host=127.0.0.1 password='{secret('kv')}",
    "several hosts": f"postgresql://u:{secret('url')}@{NOWHERE},127.0.0.1:2/d",
}
PROPERTIES = {
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "PLAIN",
    "sasl.username": "u",
    "sasl.password": secret("sasl"),
    "ssl.key.password": secret("key"),
    "ssl.keystore.password": secret("keystore"),
    "sasl.oauthbearer.method": "oidc",
    "sasl.oauthbearer.client.secret": secret("oauth"),
    "sasl.oauthbearer.config": f"principal={secret('oauth-config')}",
    "schema.registry.url": f"http://ru:{secret('registry')}@{NOWHERE}",
    "schema.registry.basic.auth.user.info": f"ru:{secret('info')}",
    "schema.registry.basic.auth.credentials.source": "USER_INFO",
}
DATABASE = (
    ("db", "current"),
    ("db", "upgrade"),
    ("db", "maintain"),
    ("db", "roles"),
    ("labels", "load", "labels.csv"),
    ("reference", "list"),
    ("dlq", "list"),
    ("report", "agreement"),
    ("report", "html", "-o", "r.html"),
    ("tail", "--count", "1"),
)
KAFKA = (
    ("topics", "create"),
    ("schemas", "register", "f.avsc"),
    ("schemas", "list"),
    ("score", "--deployment", "d", "--model", f"http://mu:{secret('model')}@{NOWHERE}/v2/models/m"),
    ("join", "--deployment", "d", "--drain"),
    ("labels", "consume", "--drain"),
    ("doctor",),
    ("doctor", "--json"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the files that the commands read."""
    (tmp_path / "labels.csv").write_text("request_id,observed_at,label\nr1,2026-01-01T00:00:00Z,late\n")
    (tmp_path / "f.avsc").write_text(json.dumps(FEATURES.record))
    return tmp_path


def check(folder: Path, *arguments: str, **env: Any) -> None:
    """Run a command that cannot succeed, and search all its output."""
    given = {"GNOMON_STREAM": "s", "GNOMON_KAFKA__TIMEOUT_SECONDS": "0.5", "GNOMON_LOG__LEVEL": "debug", **env}
    given.setdefault("GNOMON_BOOTSTRAP_SERVERS", NOWHERE)
    before = {path for path in folder.rglob("*") if path.is_file()}
    ended = enter(*arguments, cwd=folder, env=given)
    assert ended.status in (1, 2, 3), (arguments, ended)
    assert "Traceback" not in ended.stderr, (arguments, ended)
    written = ended.stdout + ended.stderr
    for path in {path for path in folder.rglob("*") if path.is_file()} - before:
        written += path.read_text(errors="replace")
    assert CANARY not in written.lower(), (arguments, env, written)


@pytest.mark.parametrize("place", URLS)
def test_a_database_url_is_never_shown(folder: Path, place: str) -> None:
    for command in DATABASE:
        check(folder, *command, GNOMON_DATABASE_URL=URLS[place])
    check(folder, "db", "current", "--database-url", URLS[place])
    check(folder, "doctor", GNOMON_DATABASE_URL=URLS[place])


def test_passwords_of_the_environment_are_never_shown(folder: Path) -> None:
    url = f"postgresql://u@{NOWHERE}/d"
    for command in DATABASE:
        check(folder, *command, GNOMON_DATABASE_URL=url, PGPASSWORD=secret("env"), PGSSLPASSWORD=secret("env"))


@pytest.mark.parametrize("command", KAFKA, ids=" ".join)
def test_properties_and_model_addresses_are_never_shown(folder: Path, command: tuple[str, ...]) -> None:
    database = {"GNOMON_DATABASE_URL": URLS["userinfo"]}
    check(folder, *command, GNOMON_KAFKA__PROPERTIES=json.dumps(PROPERTIES), **database)
    given = [part for name, value in PROPERTIES.items() for part in ("-X", f"{name}={value}")]
    check(folder, *command, *given, **database)


@pytest.mark.parametrize(
    "mistaken",
    [
        ("-X", secret("alone")),
        ("-X", f"={secret('alone')}"),
        ("-X", f"sasl.pasword={secret('misspelt')}"),
        ("-X", f"sasl.password={secret('refused')}", "-X", "security.protocol=nonsense"),
        ("-X", f'sasl.jaas.config=org.example.LoginModule required password="{secret("jaas")}";'),
        ("-X", "sasl.mechanism=OAUTHBEARER", "-X", f"sasl.oauthbearer.client.secret={secret('no-method')}"),
        ("-X", f"bootstrap.servers={secret('owned')}"),
        ("-X", f"schema.registry.url=ftp://u:{secret('scheme')}@h"),
        ("-X", f"schema.registry.basic.auth.user.info={secret('nocolon')}", "-X", "schema.registry.url=http://h"),
    ],
)
def test_a_mistaken_property_is_not_repeated(folder: Path, mistaken: tuple[str, ...]) -> None:
    check(folder, "schemas", "register", "f.avsc", *mistaken)


@pytest.mark.parametrize(
    "webhook",
    [
        f"https://hooks.invalid/services/T1/{secret('path')}",
        f"http://{NOWHERE}/hook?token={secret('query')}-and-more",
        f"http://{secret('token')}@{NOWHERE}/hook",
        f"http://u:{secret('userinfo')}@{NOWHERE}/hook",
        f"ftp://{NOWHERE}/{secret('scheme')}",
        f"http://[{secret('bracket')}/hook",
    ],
)
def test_the_address_and_the_key_of_a_webhook_are_never_shown(folder: Path, webhook: str, database_url: str) -> None:
    for command in (("verdict", "--deployment", "d"), ("promote", "--deployment", "d"), ("doctor",)):
        check(folder, *command, GNOMON_DATABASE_URL=database_url, GNOMON_EVENTS__URL=webhook,
              GNOMON_EVENTS__SECRET=secret("key"))  # fmt: skip
    check(folder, "db", "current", GNOMON_EVENTS__URL=webhook, GNOMON_EVENTS__SECRET=secret("s")[:7])


@pytest.mark.parametrize("place", [f"http://mu:{secret('mlflow')}@{NOWHERE}", f"http://{secret('mlflow')}@{NOWHERE}"])
def test_the_address_of_mlflow_is_never_shown(folder: Path, place: str, database_url: str) -> None:
    way = {"kind": "mlflow", "mlflow_uri": place, "mlflow_model": "m", "mlflow_version": "1"}
    for command in (("promote", "--deployment", "d"), ("rollback", "--deployment", "d")):
        check(folder, *command, GNOMON_DATABASE_URL=database_url, GNOMON_VERDICT__WAY_BACK=json.dumps(way),
              MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        f'database_url = "{URLS["at sign"]}"\n',
        f'database_url = "{secret("broken")}\n',
        f'[kafka]\nproperties = "sasl.password={secret("text")}"\n',
        f'kafka = "{secret("text")}"\n',
        f'[kafka.properties]\n"sasl.password" = ["{secret("list")}"]\n',
        f'[kafka.properties]\n"schema.registry.basic.auth.user.info" = {{ u = "{secret("table")}" }}\n',
        f'databse_url = "{URLS["userinfo"]}"\n',
    ],
)
def test_a_file_of_settings_is_not_repeated(folder: Path, text: str) -> None:
    (folder / "gnomon.toml").write_text(text)
    check(folder, "db", "current")
    (folder / "gnomon.toml").unlink()


def test_files_that_hold_passwords_are_for_their_owner(tmp_path: Path) -> None:
    for arguments in (("init",), ("init", "--force")):
        assert enter(*arguments, cwd=tmp_path).status == 0
        assert stat.S_IMODE((tmp_path / "gnomon.toml").stat().st_mode) == 0o600
        (tmp_path / "gnomon.toml").chmod(0o644)
    assert enter("init", cwd=tmp_path).status == 2


@pytest.mark.parametrize("name", [name for name, value in PROPERTIES.items() if CANARY in value])
def test_the_names_of_secrets_are_known(name: str) -> None:
    assert is_secret(name) or "@" in PROPERTIES[name]
