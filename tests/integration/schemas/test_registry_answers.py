"""Possible answers of a schema registry: a schema, an unknown one, a wait, or one line with the right status."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import gateway as gateways
from tests.support import registry as registries
from tests.support.door import enter
from tests.support.live_stream import FEATURES
from tests.support.registry import Registry

from gnomon_schemas.errors import DependencyUnreachableError
from gnomon_schemas.framing import RegistryId
from gnomon_schemas.registry import RegistrySchemas, inlined, registry_client


@pytest.fixture
def registry() -> Iterator[Registry]:
    """Yield a working registry."""
    with registries.running() as running:
        yield running


def store(registry: Registry, **properties: Any) -> RegistrySchemas:
    """Return a store that asks it."""
    return RegistrySchemas(
        registry_client({"schema.registry.url": registry.url, "schema.registry.timeout": "1", **properties})
    )


RECORD = {"type": "record", "name": "R", "namespace": "n", "fields": [{"name": "a", "type": "int"}]}


def test_references_are_followed_and_put_in_once(registry: Registry) -> None:
    registry.add("unit", json.dumps({"type": "enum", "name": "Unit", "namespace": "n", "symbols": ["m", "s"]}))
    registry.add(
        "part",
        json.dumps({"type": "record", "name": "Part", "namespace": "n", "fields": [{"name": "u", "type": "Unit"}]}),
        references=[{"name": "n.Unit", "subject": "unit", "version": 1}],
    )
    whole = {
        "type": "record", "name": "Whole", "namespace": "n",
        "fields": [
            {"name": "first", "type": ["null", "n.Part"]}, {"name": "second", "type": "Part"},
            {"name": "units", "type": {"type": "array", "items": "Unit"}},
        ],
    }  # fmt: skip
    number = registry.add("whole", json.dumps(whole),
                          references=[{"name": "n.Part", "subject": "part", "version": 1}])  # fmt: skip
    found = store(registry).find(RegistryId(number))
    assert found is not None
    assert found.name == "n.Whole"
    assert found.text.count("symbols") == 1


@pytest.mark.parametrize(
    ("text", "kind", "references"),
    [
        ('{"type": "object", "properties": {"a": {"type": "integer"}}}', "JSON", None),
        ('syntax = "proto3"; message M { int32 a = 1; }', "PROTOBUF", None),
        ("not even JSON", "AVRO", None),
        ('{"type": "record", "name": "R", "fields": [{"name": "a", "type": "Absent"}]}', "AVRO", None),
        (json.dumps(RECORD), "AVRO", [{"name": "n.X", "subject": "absent", "version": 3}]),
        ('"' + "x" * 10 + '"', "AVRO", None),
    ],
)
def test_what_is_no_avro_schema_is_unknown_and_asked_for_once(
    registry: Registry, text: str, kind: str, references: list[dict[str, Any]] | None
) -> None:
    number = registry.add("poison", text, kind, references)
    schemas = store(registry)
    assert schemas.find(RegistryId(number)) is None
    asked = registry.asked
    assert schemas.find(RegistryId(number)) is None
    assert registry.asked == asked
    assert schemas.find(RegistryId(999)) is None


def test_references_in_a_circle_end(registry: Registry) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        registry.add(
            name,
            json.dumps({"type": "record", "name": name, "fields": [{"name": "x", "type": ["null", other]}]}),
            references=[{"name": other, "subject": other, "version": 1}],
        )
    assert store(registry).find(RegistryId(1)) is None


@pytest.mark.parametrize("mood", ["limited", "broken", "proxy", "elsewhere", "forbidden", "slow"])
def test_while_scoring_a_registry_that_does_not_answer_as_one_is_away(registry: Registry, mood: str) -> None:
    number = registry.add("r", json.dumps(RECORD))
    schemas = store(registry)
    registry.mood = mood
    with pytest.raises(DependencyUnreachableError):
        schemas.find(RegistryId(number))
    registry.mood = ""
    assert schemas.find(RegistryId(number)) is not None


@pytest.mark.parametrize("mood", ["page", "sign in", "empty", "other json", "not found", "moved"])
def test_a_page_of_a_proxy_is_no_answer_of_the_registry(registry: Registry, tmp_path: Path, mood: str) -> None:
    """Also with status 200: the schema of a capture is not unknown because a proxy hides it."""
    number = registry.add("r", json.dumps(RECORD))
    (tmp_path / "features.avsc").write_text(json.dumps(FEATURES.record))
    with gateways.before(registry.url) as gateway:
        properties = {"schema.registry.url": gateway.url, "schema.registry.timeout": "5"}
        with registry_client(properties) as client:
            schemas = RegistrySchemas(client)
            gateway.mood = mood
            with pytest.raises(DependencyUnreachableError, match="is a proxy in the way"):
                schemas.find(RegistryId(number))
            gateway.mood = ""
            assert schemas.find(RegistryId(number)) is not None
        gateway.mood = mood
        given = (part for pair in properties.items() for part in ("-X", "=".join(pair)))
        ended = enter("schemas", "register", "features.avsc", "--stream", "s", *given, cwd=tmp_path)
    assert ended.status == 3, ended
    assert "is schema.registry.url right, or is a proxy in the way?" in ended.line


def test_a_path_prefix_and_compressed_answers_are_the_registry(registry: Registry) -> None:
    number = registry.add("r", json.dumps(RECORD))
    with gateways.before(registry.url) as gateway:
        for gateway.mood in ("", "gzip"):
            for url in (gateway.url, gateway.url + "/", f"http://127.0.0.1:1,{gateway.url}"):
                with registry_client({"schema.registry.url": url, "schema.registry.timeout": "5"}) as client:
                    assert RegistrySchemas(client).find(RegistryId(number)) is not None


def test_wrong_credentials_are_away_too_and_never_shown(registry: Registry) -> None:
    number = registry.add("r", json.dumps(RECORD))
    registry.user = "reader:right"
    schemas = store(registry, **{"schema.registry.basic.auth.user.info": "reader:canary7Secret"})
    with pytest.raises(DependencyUnreachableError, match="401") as raised:
        schemas.find(RegistryId(number))
    assert "canary7Secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("mood", "status", "words"),
    [
        ("", 0, ""),
        ("incompatible", 1, "HTTP 409"),
        ("forbidden", 2, "basic.auth.user.info"),
        ("unauthorized", 2, "HTTP 401"),
        ("invalid", 2, "HTTP 422"),
        ("limited", 3, "HTTP 429"),
        ("broken", 3, "HTTP 503"),
        ("proxy", 3, "is a proxy in the way?"),
        ("elsewhere", 3, "is schema.registry.url right"),
        ("slow", 3, "does not answer"),
        ("absent", 3, "does not answer"),
    ],
)
def test_the_status_of_register(registry: Registry, tmp_path: Path, mood: str, status: int, words: str) -> None:
    (tmp_path / "features.avsc").write_text(json.dumps(FEATURES.record))
    registry.mood = mood
    if mood == "unauthorized":
        registry.user = "somebody:else"
    url = "http://127.0.0.1:1" if mood == "absent" else registry.url
    ended = enter(
        "schemas", "register", "features.avsc", "--stream", "s", "-X", f"schema.registry.url={url}",
        "-X", "schema.registry.timeout=1", "-X", "schema.registry.basic.auth.user.info=u:canary7Secret",
        cwd=tmp_path,
    )  # fmt: skip
    assert ended.status == status, ended
    assert words in ended.line
    assert "canary7Secret" not in ended.stdout + ended.stderr


def test_a_definition_is_put_in_where_its_name_is_used_first() -> None:
    definitions = {"n.B": {"type": "fixed", "name": "B", "namespace": "n", "size": 2}}
    schema = {"type": "record", "name": "n.A", "fields": [{"name": "x", "type": "B"}, {"name": "y", "type": "n.B"}]}
    made = inlined(schema, definitions)
    assert made["fields"][0]["type"]["size"] == 2
    assert made["fields"][1]["type"] == "n.B"
    assert definitions == {}
