"""Schemas in a Confluent-compatible registry, through confluent-kafka's own client (the [registry] extra)."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from gnomon_schemas.errors import ConfigurationError, DependencyUnreachableError, GnomonError, SchemaError
from gnomon_schemas.framing import RegistryId, SchemaKey
from gnomon_schemas.schema import Json, Schema
from gnomon_schemas.store import MemorySchemas

PREFIX = "schema.registry."
SECRET_PROPERTIES = ("basic.auth.user.info", "bearer.auth.token", "bearer.auth.client.secret", "ssl.key.password")
# The client is called in the scorer's loop: it must not block that for long, and an unreachable registry is asked
# again.
_LIMITS = {"timeout": 5, "max.retries": 0}
# The error codes of the API for "no such schema, subject or version", and that of confluent-kafka's own mock registry.
# A 404 without one is a proxy or a wrong path.
_NOT_FOUND = [(404, code) for code in (40400, 40401, 40402, 40403)]
_MOST_REFERENCES = 100
# What confluent-kafka's client, and reading a schema, raise for an answer with status 200 that is not JSON, or not the
# JSON of the API or of a schema.
_NO_SCHEMA = (ValueError, TypeError, AttributeError, LookupError)
_NOT_ITS_ANSWER = "its answer is not a registry's: is schema.registry.url right, or is a proxy in the way?"


def registry_properties(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the registry client's own properties: `schema.registry.url` is its `url`. Empty: no registry."""
    return {name.removeprefix(PREFIX): value for name, value in properties.items() if name.startswith(PREFIX)}


def registry_client(properties: Mapping[str, Any]) -> Any:
    """Return a client for `schema.registry.*` properties; raise ConfigurationError if it cannot be created."""
    try:
        from confluent_kafka.schema_registry import SchemaRegistryClient
    except ImportError as error:
        raise ConfigurationError(
            "schema.registry.url needs the registry extra: pip install 'gnomon[registry]'"
        ) from error
    own = registry_properties(properties)
    try:
        return SchemaRegistryClient.new_client({**_LIMITS, **{name: _number(name, own[name]) for name in own}})
    except (ValueError, TypeError, OSError) as error:
        raise ConfigurationError(f"schema registry: {without_secrets(str(error), own)}") from None


def _number(name: str, value: Any) -> Any:
    """Return a property in the type that the client requires: all of ours are text."""
    if name in ("timeout", "max.retries", "retries.wait.ms", "retries.max.wait.ms", "cache.capacity"):
        try:
            return float(value) if name == "timeout" else int(value)
        except ValueError:
            raise ConfigurationError(f"{PREFIX}{name} is not a number") from None
    return value


def without_secrets(text: str, own: Mapping[str, Any]) -> str:
    """Return an error's text without the credentials of the registry's properties, nor those in its URL."""
    hidden = [str(own[name]) for name in SECRET_PROPERTIES if own.get(name)]
    hidden += [url.partition("://")[2].rpartition("@")[0] for url in str(own.get("url", "")).split(",") if "@" in url]
    for secret in filter(None, (part for whole in hidden for part in (whole, whole.partition(":")[2]))):
        text = text.replace(secret, "…")
    return text


def register(client: Any, topic: str, schema: Schema) -> RegistryId:
    """Register a topic's value schema (subject `<topic>-value`) over the network and return its id.

    Raises GnomonError for an incompatible change, ConfigurationError for a registry that refuses the request or its
    credentials, DependencyUnreachableError for one that does not answer as a registry does.
    """
    from confluent_kafka.schema_registry import Schema as RegistrySchema

    subject = f"{topic}-value"
    try:
        return RegistryId(int(client.register_schema(subject, RegistrySchema(schema.text, "AVRO"))))
    except Exception as error:
        raise explained(error, f"take {subject}") from error


def explained(error: Exception, what: str) -> GnomonError:
    """Return the GnomonError for an error of the registry's client; `what` describes the request."""
    from confluent_kafka.schema_registry import SchemaRegistryError

    if isinstance(error, _NO_SCHEMA):
        return DependencyUnreachableError(f"the schema registry does not {what}: {_NOT_ITS_ANSWER}")
    if not isinstance(error, SchemaRegistryError):
        return DependencyUnreachableError(f"the schema registry does not answer: {type(error).__name__}: {error}")
    status, said = error.http_status_code, " ".join(str(error.error_message).split())[:300]
    text = f"the schema registry does not {what} (HTTP {status}): {said}"
    if status == 409:
        return GnomonError(text)
    if status in (401, 403):
        return ConfigurationError(
            f"{text}: check schema.registry.basic.auth.user.info or schema.registry.bearer.auth.*, and the rights of"
            " that user"
        )
    if status == 422:
        return ConfigurationError(text)
    if error.error_code in (-1, None) or (status == 404 and (404, error.error_code) not in _NOT_FOUND):
        text = f"the schema registry does not {what} (HTTP {status}): {_NOT_ITS_ANSWER} It said {said}"
    return DependencyUnreachableError(text)


@contextmanager
def registry_schemas(properties: Mapping[str, Any]) -> "Iterator[RegistrySchemas | MemorySchemas]":
    """Yield the store of the registry in the `schema.registry.*` properties, or an empty one without them."""
    if registry_properties(properties):
        with registry_client(properties) as client:
            yield RegistrySchemas(client)
    else:
        yield MemorySchemas()


class RegistrySchemas:
    """A schema store that asks a registry. An unknown id is not requested again within `retry_after_s`.

    An id is unknown if the registry does not know it, or if its schema is not Avro or cannot be read by Gnomon.
    """

    def __init__(self, client: Any, *, retry_after_s: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._retry_after_s = retry_after_s
        self._clock = clock
        self._found: dict[RegistryId, Schema] = {}
        self._missed: dict[RegistryId, float] = {}

    def find(self, key: SchemaKey) -> Schema | None:
        """Return the schema of a registry id, None if there is none; raise DependencyUnreachableError."""
        if not isinstance(key, RegistryId):
            return None
        if key in self._found:
            return self._found[key]
        if self._clock() - self._missed.get(key, float("-inf")) < self._retry_after_s:
            return None
        schema = self._request(key)
        if schema is None:
            self._missed = {**dict(list(self._missed.items())[-1000:]), key: self._clock()}
            return None
        self._found[key] = schema
        return schema

    def _request(self, key: RegistryId) -> Schema | None:
        from confluent_kafka.schema_registry import SchemaRegistryError

        try:
            found = self._client.get_schema(key.value)
            text = _text(found)
            if (found.schema_type or "AVRO") != "AVRO":
                return None
            referred = self._referred(found)
        except SchemaError:
            return None
        except Exception as error:
            if isinstance(error, SchemaRegistryError) and (error.http_status_code, error.error_code) in _NOT_FOUND:
                return None
            raise DependencyUnreachableError(str(explained(error, f"give schema {key.value}"))) from error
        try:
            definitions = {name: json.loads(definition) for name, definition in referred.items()}
            return Schema.parse(json.dumps(inlined(json.loads(text), definitions)) if definitions else text)
        except (SchemaError, RecursionError, *_NO_SCHEMA):
            return None  # it or a reference is not one of our Avro schemas: no reader can read its messages

    def _referred(self, found: Any) -> dict[str, str]:
        """Return the texts of all schemas that a schema needs, by the names that it uses."""
        texts: dict[str, str] = {}
        waiting, seen = list(found.references or ()), set[tuple[str, int]]()
        while waiting:
            reference = waiting.pop()
            place = (str(reference.subject), int(reference.version))
            if place in seen:
                continue
            seen.add(place)
            if len(seen) > _MOST_REFERENCES:
                raise SchemaError(f"more than {_MOST_REFERENCES} references")
            referred = self._client.get_version(*place).schema
            texts[str(reference.name)] = _text(referred)
            waiting.extend(referred.references or ())
        return texts


def _text(found: Any) -> str:
    if not isinstance(found.schema_str, str):
        raise TypeError("no schema text")
    return found.schema_str


def inlined(schema: Json, definitions: dict[str, Json], namespace: str = "") -> Json:
    """Return an Avro schema with the named `definitions` put in at their first use, which is taken from the dict."""
    if isinstance(schema, str):
        name = schema if "." in schema or not namespace else f"{namespace}.{schema}"
        name = name if name in definitions else schema
        return inlined(definitions.pop(name), definitions) if name in definitions else schema
    if isinstance(schema, list):
        return [inlined(branch, definitions, namespace) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    space = str(schema.get("namespace", namespace))
    if "." in str(schema.get("name", "")):
        space = str(schema["name"]).rpartition(".")[0]
    inside = {key: inlined(schema[key], definitions, space) for key in ("type", "items", "values") if key in schema}
    if "fields" in schema:
        inside["fields"] = [{**field, "type": inlined(field["type"], definitions, space)} for field in schema["fields"]]
    return {**schema, **inside}
