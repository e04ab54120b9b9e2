"""Schemas in a Confluent-compatible registry, through confluent-kafka's own client (the [registry] extra)."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from gnomon_schemas.errors import ConfigurationError, DependencyUnreachableError
from gnomon_schemas.framing import RegistryId, SchemaKey
from gnomon_schemas.schema import Schema
from gnomon_schemas.store import MemorySchemas

PREFIX = "schema.registry."


def registry_properties(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the registry client's own properties: `schema.registry.url` is its `url`. Empty: no registry."""
    return {name.removeprefix(PREFIX): value for name, value in properties.items() if name.startswith(PREFIX)}


def registry_client(properties: Mapping[str, Any]) -> Any:
    """Return a client for `schema.registry.*` properties; raise ConfigurationError where it cannot be made."""
    try:
        from confluent_kafka.schema_registry import SchemaRegistryClient
    except ImportError as error:
        raise ConfigurationError(
            "schema.registry.url needs the registry extra: pip install 'gnomon[registry]'"
        ) from error
    try:
        return SchemaRegistryClient.new_client(dict(registry_properties(properties)))
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"schema registry: {error}") from error


def register(client: Any, topic: str, schema: Schema) -> RegistryId:
    """Register a topic's value schema (subject `<topic>-value`) and return its id; asks the network.

    Raises DependencyUnreachableError where the registry does not answer or refuses, an incompatible change for one.
    """
    from confluent_kafka.schema_registry import Schema as RegistrySchema

    subject = f"{topic}-value"
    try:
        return RegistryId(int(client.register_schema(subject, RegistrySchema(schema.text, "AVRO"))))
    except Exception as error:
        raise DependencyUnreachableError(f"the schema registry does not take {subject}: {error}") from error


def registry_schemas(properties: Mapping[str, Any]) -> "RegistrySchemas | MemorySchemas":
    """Return the store of the registry that `schema.registry.*` properties name, an empty one where they do not."""
    return RegistrySchemas(registry_client(properties)) if registry_properties(properties) else MemorySchemas()


class RegistrySchemas:
    """A schema store that asks a registry. An id that stays unknown is not asked for again within `retry_after_s`."""

    def __init__(self, client: Any, *, retry_after_s: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._retry_after_s = retry_after_s
        self._clock = clock
        self._found: dict[RegistryId, Schema] = {}
        self._missed: dict[RegistryId, float] = {}

    def find(self, key: SchemaKey) -> Schema | None:
        """Return the schema of a registry id, None where there is none; raise DependencyUnreachableError."""
        if not isinstance(key, RegistryId):
            return None
        if key in self._found:
            return self._found[key]
        if self._clock() - self._missed.get(key, float("-inf")) < self._retry_after_s:
            return None
        text = self._asked(key)
        if text is None:
            self._missed = {**dict(list(self._missed.items())[-1000:]), key: self._clock()}
            return None
        self._found[key] = Schema.parse(text)
        return self._found[key]

    def _asked(self, key: RegistryId) -> str | None:
        from confluent_kafka.schema_registry import SchemaRegistryError

        try:
            return str(self._client.get_schema(key.value).schema_str)
        except SchemaRegistryError as error:
            if error.http_status_code == 404:
                return None
            raise DependencyUnreachableError(f"the schema registry does not answer: {error}") from error
        except Exception as error:
            raise DependencyUnreachableError(f"the schema registry does not answer: {error}") from error
