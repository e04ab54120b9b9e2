"""The fields of a decoded record, compared with the record that Gnomon declares."""

from functools import cache

import fastavro
from fastavro.validation import ValidationError

from gnomon_schemas.codec import Record
from gnomon_schemas.schema import Json, Schema, other_unit, record_schema, without_logical_types


def as_declared(name: str, writer: Schema, record: Record) -> Record:
    """Return the record with the declared defaults; raise ValueError if a field is missing or has another type or unit.

    A record is decoded with its writer's schema, which can come from a registry: the record has Gnomon's name, but not
    necessarily its fields. With Gnomon's own schema nothing is left to check. Texts are compared, because a fingerprint
    leaves out logical types: times in milliseconds would be stored as microseconds.
    """
    if writer.text == record_schema(name).text:
        return record
    if (fault := other_unit(name, writer)) is not None:
        raise ValueError(fault)
    schema, defaults = _declared(name)
    whole = defaults | record
    try:
        fastavro.validate(whole, schema)
    except ValidationError as error:
        field = str(error.errors[0].field).rpartition(".")[2]
        raise ValueError(f"its {field} is not what a {name} has") from None
    return whole


@cache
def _declared(name: str) -> tuple[Json, Record]:
    """Return the parsed schema of a packaged record, and the defaults of its fields."""
    schema = without_logical_types(record_schema(name).json)
    defaults = {field["name"]: field["default"] for field in schema["fields"] if "default" in field}
    return fastavro.parse_schema(schema), defaults
