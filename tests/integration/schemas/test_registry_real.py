"""A real schema registry: its answers are registered, followed, waited for, or become a dead letter."""

import base64
import json
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from tests.support import gateway
from tests.support.door import Ended, enter
from tests.support.joined_database import wait_until
from tests.support.live_stream import FEATURES, await_sealed, outcomes, status, sum_model
from tests.support.score_command import prepare, start
from tests.support.servers import apicurio
from tests.support.servers.process import Gnomon
from tests.support.servers.shared import ServerUnavailableError
from tests.support.servers.tools import missing

from gnomon_producer import Tap
from gnomon_schemas.framing import RegistryId
from gnomon_schemas.registry import RegistrySchemas, registry_client

# One server for the module: it takes some seconds to start.
pytestmark = pytest.mark.xdist_group("registry")
JSON_SCHEMA = '{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}'
PROTOBUF = 'syntax = "proto3"; message M { int32 a = 1; }'


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    """Yield the URL of its Confluent API."""
    try:
        with tempfile.TemporaryDirectory() as folder, apicurio.running(Path(folder)) as url:
            yield url
    except ServerUnavailableError as reason:
        missing(str(reason))


def call(url: str, method: str, path: str, body: Any = None) -> Any:
    """Return the registry's answer to a request."""
    request = urllib.request.Request(
        url + path,
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={"Content-Type": "application/vnd.schemaregistry.v1+json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def add(url: str, subject: str, schema: str, kind: str = "AVRO", references: Sequence[dict[str, Any]] = ()) -> int:
    """Register a schema as another program would; return its id."""
    body = {"schema": schema, "schemaType": kind, "references": list(references)}
    return int(call(url, "POST", f"/subjects/{subject}/versions", body)["id"])


def register(url: str, folder: Path, stream: str, record: Any, **more: str) -> Ended:
    """Run `gnomon schemas register`."""
    (folder / "features.avsc").write_text(json.dumps(record))
    properties = {"url": url, "timeout": "30"} | {name.replace("_", "."): value for name, value in more.items()}
    given = (part for name, value in properties.items() for part in ("-X", f"schema.registry.{name}={value}"))
    return enter("schemas", "register", "features.avsc", "--stream", stream, *given, cwd=folder)


def basic(user: str) -> str:
    """Return the header of a login."""
    return "Basic " + base64.b64encode(user.encode()).decode()


def bearer(token: str) -> dict[str, str]:
    """Return the properties of a fixed token."""
    return {"bearer_auth_credentials_source": "STATIC_TOKEN", "bearer_auth_token": token,
            "bearer_auth_logical_cluster": "lsrc-1", "bearer_auth_identity_pool_id": "pool-1"}  # fmt: skip


def test_a_schema_is_registered_once_and_an_incompatible_one_refused(
    registry: str, stream_name: str, tmp_path: Path
) -> None:
    first, again = (register(registry, tmp_path, stream_name, FEATURES.record) for _ in range(2))
    assert (first.status, again.status) == (0, 0), (first, again)
    assert first.stdout == again.stdout
    subject = f"gnomon.{stream_name}.live-value"
    assert subject in call(registry, "GET", "/subjects")
    call(registry, "PUT", f"/config/{subject}", {"compatibility": "FULL"})
    fields = [*FEATURES.record["fields"][1:], {"name": "added", "type": "double"}]
    refused = register(registry, tmp_path, stream_name, {**FEATURES.record, "fields": fields})
    assert refused.status == 1, refused
    assert "HTTP 409" in refused.line
    invalid = register(f"{registry}/nowhere", tmp_path, stream_name, FEATURES.record)
    assert invalid.status == 3, invalid
    assert "is schema.registry.url right" in invalid.line


def test_references_are_followed_through_two_steps(registry: str, stream_name: str) -> None:
    unit = {"type": "enum", "name": "Unit", "namespace": "n", "symbols": ["m", "s"]}
    part = {"type": "record", "name": "Part", "namespace": "n", "fields": [{"name": "u", "type": "Unit"}]}
    whole = {"type": "record", "name": "Whole", "namespace": "n",
             "fields": [{"name": "p", "type": "n.Part"}, {"name": "q", "type": ["null", "Unit"]}]}  # fmt: skip
    names = {one: f"{stream_name}-{one}" for one in ("unit", "part", "whole")}
    to_unit = {"name": "n.Unit", "subject": names["unit"], "version": 1}
    to_part = {"name": "n.Part", "subject": names["part"], "version": 1}
    add(registry, names["unit"], json.dumps(unit))
    add(registry, names["part"], json.dumps(part), references=[to_unit])
    number = add(registry, names["whole"], json.dumps(whole), references=[to_part, to_unit])
    with registry_client({"schema.registry.url": registry, "schema.registry.timeout": "30"}) as client:
        schemas = RegistrySchemas(client)
        found = schemas.find(RegistryId(number))
        assert found is not None
        assert found.name == "n.Whole"
        assert found.text.count("symbols") == 1
        assert schemas.find(RegistryId(2**31 - 1)) is None


@pytest.mark.parametrize(
    ("authorization", "right", "wrong"),
    [
        (basic("u:canary7Secret"), {"basic_auth_user_info": "u:canary7Secret"}, {"basic_auth_user_info": "u:other8Se"}),
        ("Bearer canary7Secret", bearer("canary7Secret"), bearer("other8Se")),
    ],
    ids=["Basic", "Bearer"],
)
def test_a_registry_that_asks_for_a_login(
    registry: str, stream_name: str, tmp_path: Path, authorization: str, right: dict[str, str], wrong: dict[str, str]
) -> None:
    with gateway.before(registry) as asking:
        asking.authorization = authorization
        taken = register(asking.url, tmp_path, stream_name, FEATURES.record, **right)
        assert taken.status == 0, taken
        for given in (wrong, {}):
            refused = register(asking.url, tmp_path, stream_name, FEATURES.record, **given)
            assert refused.status == 2, refused
            assert "HTTP 401" in refused.line
            assert "check schema.registry.basic.auth.user.info" in refused.line
            assert "canary7Secret" not in refused.line
            assert "other8Se" not in refused.line


def test_messages_framed_by_ids_of_other_kinds_are_dead_letters_beside_captures(
    registry: str, gnomon: Gnomon, mock_bootstrap: str, stream_name: str, tmp_path: Path
) -> None:
    prepare(gnomon, mock_bootstrap, stream_name)
    url = {"schema.registry.url": registry, "schema.registry.timeout": "30"}
    tap = Tap(stream=stream_name, model=("live", "1"), features=FEATURES, bootstrap_servers=mock_bootstrap,
              properties=url, handle_sigterm=False)  # fmt: skip
    assert tap.start(60)
    for number in range(50):
        features = {"amount": float(number), "age": 0.25, "visits": 3, "country": "NZ"}
        tap.record(f"r{number}", features, value=0.5)
    assert tap.close(30)
    live = f"gnomon.{stream_name}.live"
    poison = [
        add(registry, f"{stream_name}-json", JSON_SCHEMA, "JSON"),
        add(registry, f"{stream_name}-proto", PROTOBUF, "PROTOBUF"),
        2**31 - 1,
    ]
    producer = Producer({"bootstrap.servers": mock_bootstrap})
    for number in poison:
        producer.produce(live, b"\x00" + number.to_bytes(4, "big") + b'{"a": 1}', b"poison", partition=0)
    assert producer.flush(30) == 0
    model = sum_model(tmp_path / "sum.onnx", "amount", "age")
    with gateway.before(registry) as asking:
        # Somebody changes the password, and reverts the change.
        asking.authorization = basic("reader:other")
        url |= {"schema.registry.url": asking.url, "schema.registry.basic.auth.user.info": "reader:pass7Word"}
        properties = [part for name, value in url.items() for part in ("-X", f"{name}={value}")]
        scorer = start(gnomon, mock_bootstrap, stream_name, model, "--from", "earliest", *properties)
        scorer.wait_for("HTTP 401")
        asked = asking.asked
        wait_until(lambda: asking.asked >= asked + 2)
        asking.authorization = basic("reader:pass7Word")
        found = outcomes(await_sealed(mock_bootstrap, stream_name, "boost", 50 + len(poison)))
        assert scorer.terminate(60) == 0
    assert scorer.output.count("HTTP 401") == 1, "said once"
    dead = [row["error"]["message"].split(":")[0] for row in found.values() if row["error"]]
    assert dead == ["unknown_schema"] * len(poison)
    assert [status(row) for row in found.values()].count("scored") == 50
