"""The framing that names a message's writer schema: Avro single-object encoding or the Confluent wire format."""

import struct
from dataclasses import dataclass
from typing import NamedTuple

from gnomon_schemas.errors import DecodeError

MAX_MESSAGE_BYTES = 1_048_576
"""Larger messages are refused before anything is decoded; Kafka's own default limit."""

SINGLE_OBJECT_MARKER = b"\xc3\x01"
_SINGLE_OBJECT_HEADER = 10
_CONFLUENT_MAGIC = 0
_CONFLUENT_HEADER = 5


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """CRC-64-AVRO of a schema's parsing canonical form, as 8 little-endian bytes."""

    value: bytes

    def __str__(self) -> str:
        return self.value.hex()

    @property
    def header(self) -> bytes:
        """Return the 10 bytes before a body."""
        return SINGLE_OBJECT_MARKER + self.value


@dataclass(frozen=True, slots=True)
class RegistryId:
    """A schema's number in a Confluent-compatible registry."""

    value: int

    def __str__(self) -> str:
        return str(self.value)

    @property
    def header(self) -> bytes:
        """Return the 5 bytes before a body."""
        return struct.pack(">bI", _CONFLUENT_MAGIC, self.value)


SchemaKey = Fingerprint | RegistryId


class Frame(NamedTuple):
    """The key of a message's writer schema, and the start of its body."""

    key: SchemaKey
    body_start: int


def unframe(message: bytes | None) -> Frame:
    """Read a message's header.

    Raises DecodeError with reason `empty`, `too_large` or `framing`.
    """
    if not message:
        raise DecodeError("empty", "the message has no value")
    if len(message) > MAX_MESSAGE_BYTES:
        raise DecodeError("too_large", f"{len(message)} bytes, over the limit of {MAX_MESSAGE_BYTES}")
    if message[:2] == SINGLE_OBJECT_MARKER and len(message) >= _SINGLE_OBJECT_HEADER:
        return Frame(Fingerprint(message[2:10]), _SINGLE_OBJECT_HEADER)
    if message[0] == _CONFLUENT_MAGIC and len(message) >= _CONFLUENT_HEADER:
        return Frame(RegistryId(int.from_bytes(message[1:5], "big")), _CONFLUENT_HEADER)
    raise DecodeError("framing", f"neither Avro single-object nor Confluent framing: begins with {message[:2].hex()}")
