"""Encode, decode and peek at messages one by one with fastavro. All other codecs must equal this reference."""

import io
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import fastavro
import fastavro.schema

from gnomon_schemas.errors import DecodeError
from gnomon_schemas.framing import Fingerprint, SchemaKey, unframe
from gnomon_schemas.schema import Json, Schema, without_logical_types
from gnomon_schemas.strict import hides_ints, int_ranges, measure

Record = dict[str, Any]
"""A decoded record: field names to plain values, times as integer microseconds."""


class SchemaFinder(Protocol):
    """The interface by which a reader finds a writer schema (see `store`)."""

    def find(self, key: SchemaKey) -> Schema | None:
        """Return the schema, None if it is not known."""
        ...


class Codec:
    """Encodes and decodes bodies of one writer schema.

    `key` frames the messages: the schema's fingerprint, or a registry id.
    """

    def __init__(self, schema: Schema, key: SchemaKey | None = None) -> None:
        self.schema = schema
        self.key = key or schema.fingerprint
        self._header = self.key.header
        plain = without_logical_types(schema.json)
        self._parsed = fastavro.parse_schema(plain)
        self._expanded: Json = fastavro.schema.expand_schema(plain)  # each reference replaced by the type
        self._int_ranges = int_ranges(self._expanded)
        self._always_walk = hides_ints(self._expanded)

    def encode(self, record: Mapping[str, Any]) -> bytes:
        """Return the framed message; raise ValueError, TypeError or KeyError if the record does not fit."""
        out = io.BytesIO()
        out.write(self._header)
        fastavro.schemaless_writer(out, self._parsed, record, strict=True)
        return out.getvalue()

    def decode(self, message: bytes, body_start: int) -> Record:
        """Decode the body of a framed message; raise DecodeError unless every byte of it is Avro of this schema.

        fastavro alone accepts trailing bytes, negative enum and union indices, booleans over 1 and ints over 32 bits.
        So the decoded record is encoded again: equal bytes prove the body, and if they differ a strict walk decides
        (overlong numbers and split array blocks are unusual but valid).
        """
        body = io.BytesIO(message)
        body.seek(body_start)
        try:
            record: Record = fastavro.schemaless_reader(body, self._parsed, None)  # type: ignore[assignment]
        except EOFError as error:
            raise DecodeError("truncated", "the message ends within a value") from error
        except (ValueError, IndexError, TypeError, OverflowError, MemoryError, RecursionError) as error:
            raise DecodeError("invalid", f"{type(error).__name__}: {error}") from error
        if body.tell() != len(message):
            raise DecodeError("trailing_bytes", f"{len(message) - body.tell()} bytes after the record")
        self._prove(message, body_start, record)
        return record

    def _prove(self, message: bytes, body_start: int, record: Record) -> None:
        again = io.BytesIO()
        try:
            fastavro.schemaless_writer(again, self._parsed, record)
            same = again.getvalue() == message[body_start:]
        except (ValueError, TypeError, OverflowError):
            same = False
        if not same or self._always_walk:
            measure(self._expanded, message, body_start)
        for in_range in self._int_ranges:
            in_range(record)


class Message(NamedTuple):
    """A decoded message: the record's full name, its writer schema and its fields."""

    name: str
    schema: Schema
    record: Record


class Reader:
    """Decodes framed messages with the schema that wrote them, looked up in a store."""

    def __init__(self, schemas: SchemaFinder) -> None:
        self._schemas = schemas
        self._codecs: dict[SchemaKey, Codec] = {}

    def codec(self, key: SchemaKey) -> Codec:
        """Return the codec of a writer schema; raise DecodeError `unknown_schema` if the store has none."""
        codec = self._codecs.get(key)
        if codec is None:
            schema = self._schemas.find(key)
            if schema is None:
                kind = "fingerprint" if isinstance(key, Fingerprint) else "registry id"
                raise DecodeError("unknown_schema", f"no schema with {kind} {key}")
            codec = self._codecs[key] = Codec(schema, key)
        return codec

    def decode(self, message: bytes | None) -> Message:
        """Decode one message; raise DecodeError with one of the reasons of `framing.unframe` and `Codec.decode`."""
        key, body_start = unframe(message)
        codec = self.codec(key)
        assert message is not None
        return Message(codec.schema.name, codec.schema, codec.decode(message, body_start))


class Peek(NamedTuple):
    """The first three fields of a LivePrediction; `captured_at` in microseconds since the Unix epoch."""

    producer_id: str
    sequence: int
    captured_at: int


def peek(message: bytes | None) -> Peek:
    """Read the first three fields of a LivePrediction without decoding it; raise DecodeError if that fails.

    It assumes that the message is a LivePrediction: the live topic should hold nothing else, and another message is
    detected when it is sampled.
    """
    at = unframe(message).body_start
    assert message is not None
    length, at = _long(message, at)
    end = at + length
    if length < 0 or end > len(message):
        raise DecodeError("truncated", "the producer id extends beyond the end")
    try:
        producer_id = message[at:end].decode()
    except UnicodeDecodeError as error:
        raise DecodeError("invalid", f"the producer id is not valid UTF-8: {error}") from error
    sequence, at = _long(message, end)
    captured_at, _ = _long(message, at)
    return Peek(producer_id, sequence, captured_at)


def _long(message: bytes, at: int) -> tuple[int, int]:
    """Read a zig-zag variable-length number; return it and the start of the next field."""
    shift = result = 0
    try:
        while True:
            byte = message[at]
            at += 1
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (result >> 1) ^ -(result & 1), at
            shift += 7
            if shift > 63:
                raise DecodeError("invalid", "a number of more than ten bytes")
    except IndexError as error:
        raise DecodeError("truncated", "the message ends within a number") from error


__all__ = ["Codec", "Message", "Peek", "Reader", "Record", "SchemaFinder", "peek"]
