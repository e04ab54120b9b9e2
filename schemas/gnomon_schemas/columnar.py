"""The codec for batches, from bytes to Arrow columns and back: equal to the fastavro reference, twenty times as fast.

pyruhvro does the work and is not trusted: it accepts trailing bytes, integers out of range and strings that are not
UTF-8. So its result is encoded again. If the bytes are equal, with valid UTF-8, the row is accepted; every other
message goes to the reference (`codec.Codec`), which accepts or refuses it. A batch that pyruhvro refuses as a whole
is halved until the faulty messages are few. A schema with an unsupported type goes to the reference altogether.

Needs the `[consumer]` extra (pyarrow, pyruhvro). No module that the hook imports may import this one.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyruhvro

from gnomon_schemas.arrays import Indices
from gnomon_schemas.arrow import array_of, arrow_schema, bare, carried, refuse_nulls, values_of
from gnomon_schemas.codec import Codec, Reader, Record, SchemaFinder
from gnomon_schemas.errors import DecodeError, SchemaError
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.framing import MAX_MESSAGE_BYTES, SINGLE_OBJECT_MARKER, SchemaKey, unframe
from gnomon_schemas.schema import Schema

MAX_BATCH_BYTES = 1 << 30
"""Maximum bytes of a batch's messages together, because Arrow's string offsets have 31 bits."""
_LIVE = "gnomon.v1.LivePrediction"
_FEW = 16
"""Fewer messages than this are not halved again, and not searched for more of their schema."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Decoded:
    """Messages of one writer schema as columns.

    `batch` has one row for each readable message, in order; times are integer microseconds since the Unix epoch.
    `rows[i]` is the index of row i in the list that was decoded; `errors` says why each of the others has no row.
    """

    schema: Schema
    batch: pa.RecordBatch
    rows: Indices
    errors: dict[int, DecodeError]

    def records(self) -> list[Record]:
        """Return the rows as the dicts that the reference gives."""
        return records_of(self.batch)


@dataclass(frozen=True)
class Batches:
    """Messages of any writer schemas: a group for each, and the errors of messages that belong to no schema."""

    groups: list[Decoded]
    unreadable: dict[int, DecodeError]

    @property
    def errors(self) -> dict[int, DecodeError]:
        """Return every message without a row, by its index in the list."""
        errors = dict(self.unreadable)
        for group in self.groups:
            errors.update(group.errors)
        return errors


class ColumnarCodec:
    """Encodes and decodes batches of one writer schema.

    `key` frames the messages: the schema's fingerprint, or a registry id. `columns` is the Arrow schema of
    every batch, `carried` whether pyruhvro does the work.
    """

    def __init__(self, schema: Schema, key: SchemaKey | None = None) -> None:
        self.schema = schema
        self.reference = Codec(schema, key)
        self.key = self.reference.key
        self._bare = bare(schema.json)
        self.columns: pa.Schema = arrow_schema(self._bare)
        self._heading = _heading(self.key.header, self.columns.names)
        heading = [{"name": name, "type": kind} for name, kind, _ in self._heading]
        framed = {**self._bare, "fields": heading + self._bare["fields"]}
        self._framed = arrow_schema(framed)
        self._text = json.dumps(framed, separators=(",", ":"))
        self.carried = carried(self._bare)

    def decode(self, messages: Sequence[bytes], texts: pa.BinaryArray | None = None) -> Decoded:
        """Decode framed messages, all with this codec's header; raise ValueError beyond MAX_BATCH_BYTES.

        `texts` are the same messages as an array, if there is one already. A message is in the batch with the
        reference's values, or in `errors` with the reference's error.
        """
        parts: list[_Part] = []
        errors: dict[int, DecodeError] = {}
        texts = _array(messages) if texts is None else texts
        self._decode(list(messages), texts, 0, parts, errors)
        if len(parts) == 1:
            return Decoded(self.schema, *parts[0], errors)
        if not parts:
            return Decoded(self.schema, self.batch([]), np.empty(0, np.int64), errors)
        rows = np.concatenate([rows for _, rows in parts])
        order = np.argsort(rows)
        batch = pa.concat_batches([batch for batch, _ in parts]).take(pa.array(order))
        return Decoded(self.schema, batch, rows[order], errors)

    def batch(self, records: Sequence[Record]) -> pa.RecordBatch:
        """Return records as columns."""
        fields = self._bare["fields"]
        arrays = [array_of([record[field["name"]] for record in records], field["type"]) for field in fields]
        return pa.RecordBatch.from_arrays(arrays, schema=self.columns)

    def encode(self, batch: pa.RecordBatch) -> list[bytes]:
        """Return a framed message for each row; raise ValueError that names the column that does not fit.

        Columns are taken by name and cast if that loses nothing; a null is refused if the Avro type has none.
        """
        messages: list[bytes] = self.encoded(batch).to_pylist()
        return messages

    def encoded(self, batch: pa.RecordBatch) -> pa.BinaryArray:
        """Return the result of `encode` as an array."""
        batch = self.conformed(batch)
        if any(column.offset and _holds_records(column.type) for column in batch.columns):
            batch = batch.take(pa.array(np.arange(batch.num_rows)))  # pyruhvro panics at a slice of them
        if not self.carried:
            return pa.array([self._encode_one(record) for record in records_of(batch)], pa.binary())
        framing = [pa.array(np.repeat(value, batch.num_rows)) for _, _, value in self._heading]
        framed = pa.RecordBatch.from_arrays([*framing, *batch.columns], schema=self._framed)
        (messages,) = _refused_as_value_error(lambda: pyruhvro.serialize_record_batch(framed, self._text, 1))
        return messages

    def _decode(
        self,
        messages: list[bytes],
        texts: pa.BinaryArray,
        first: int,
        parts: list["_Part"],
        errors: dict[int, DecodeError],
    ) -> None:
        """Decode messages[0:], whose indices are first, first + 1, …; `texts` are the same messages."""
        count = len(messages)
        if not self.carried or not count:
            return self._decode_by_reference(messages, np.arange(first, first + count), parts, errors)
        try:
            batch, again = _refused_as_value_error(lambda: self._there_and_back(messages))
        except ValueError:
            if count <= _FEW:
                return self._decode_by_reference(messages, np.arange(first, first + count), parts, errors)
            half = count // 2
            self._decode(messages[:half], texts[:half], first, parts, errors)
            return self._decode(messages[half:], texts[half:], first + half, parts, errors)
        if again.equals(texts):
            parts.append(_Part(batch, np.arange(first, first + count)))
            return None
        same = pc.equal(again, texts)
        places = np.flatnonzero(same.to_numpy(zero_copy_only=False))
        if len(places):
            parts.append(_Part(batch.filter(same), places + first))
        others = np.flatnonzero(~same.to_numpy(zero_copy_only=False))
        return self._decode_by_reference([messages[at] for at in others.tolist()], others + first, parts, errors)

    def _there_and_back(self, messages: list[bytes]) -> tuple[pa.RecordBatch, pa.BinaryArray]:
        """Return the columns and their encoded bytes; raise ValueError for what pyruhvro or Arrow refuses."""
        framed = pyruhvro.deserialize_array(messages, self._text).cast(self._framed)
        framed.validate(full=True)  # UTF-8 too, because the bytes return unchanged
        (again,) = pyruhvro.serialize_record_batch(framed, self._text, 1)
        return pa.RecordBatch.from_arrays(framed.columns[len(self._heading) :], schema=self.columns), again

    def _decode_by_reference(
        self, messages: list[bytes], places: Indices, parts: list["_Part"], errors: dict[int, DecodeError]
    ) -> None:
        start = len(self.key.header)
        records, rows = [], []
        for place, message in zip(places.tolist(), messages, strict=True):
            try:
                records.append(self.reference.decode(message, start))
                rows.append(place)
            except DecodeError as error:
                errors[place] = error
        if records:
            parts.append(_Part(self.batch(records), np.array(rows, np.int64)))

    def conformed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the columns in order, cast if that loses nothing; raise ValueError for a column that does not fit."""
        arrays = []
        for field, declared in zip(self.columns, self._bare["fields"], strict=True):
            at = batch.schema.get_field_index(field.name)
            if at < 0:
                raise ValueError(f"column {field.name} is missing")
            array = batch.column(at)
            if array.type != field.type:
                try:
                    array = array.cast(field.type)
                except pa.ArrowException as error:
                    raise ValueError(f"column {field.name}: {error}") from error
            refuse_nulls(array, declared["type"], field.name)
            arrays.append(array)
        return pa.RecordBatch.from_arrays(arrays, schema=self.columns)

    def _encode_one(self, record: Record) -> bytes:
        try:
            return self.reference.encode(record)
        except (TypeError, KeyError) as error:
            raise ValueError(str(error)) from error


class _Part(NamedTuple):
    """The rows of one attempt, and their indices."""

    batch: pa.RecordBatch
    rows: Indices


class ColumnarReader:
    """Decodes framed messages in batches, each with the schema that wrote it, looked up in a store."""

    def __init__(self, schemas: SchemaFinder) -> None:
        self._reference = Reader(schemas)
        self._codecs: dict[SchemaKey, ColumnarCodec] = {}

    def codec(self, key: SchemaKey) -> ColumnarCodec:
        """Return a writer schema's codec; raise DecodeError if none is known, or its captures have invalid features."""
        codec = self._codecs.get(key)
        if codec is None:
            schema = self._reference.codec(key).schema
            try:
                if schema.name == _LIVE:
                    _ = FeatureSchema.in_live(schema).features
                codec = self._codecs[key] = ColumnarCodec(schema, key)
            except SchemaError as error:
                raise DecodeError("invalid", f"schema {key}: {error}") from error
        return codec

    def decode(self, messages: Sequence[bytes | None] | pa.BinaryArray) -> Batches:
        """Decode messages of one or more writer schemas; groups are in the order in which their schemas first occur."""
        texts = _array(messages)
        if isinstance(messages, pa.BinaryArray):
            messages = messages.to_pylist()
        places, unreadable = _by_key(messages, texts)
        groups = []
        for key, rows in places.items():
            try:
                codec = self.codec(key)
            except DecodeError as error:
                unreadable.update(dict.fromkeys(rows.tolist(), error))
                continue
            first, end = int(rows[0]), int(rows[-1]) + 1
            if end - first == len(rows):
                own, columns = list(messages[first:end]), texts[first:end]
            else:
                own, columns = [messages[row] for row in rows.tolist()], texts.take(pa.array(rows))
            groups.append(_moved(codec.decode(own, columns), rows))
        return Batches(groups, unreadable)


def _by_key(
    messages: Sequence[bytes | None], texts: pa.BinaryArray
) -> tuple[dict[SchemaKey, Indices], dict[int, DecodeError]]:
    """Return the indices of each schema key's messages, and the errors of messages without a key.

    All messages of a key are found together; few remaining ones are read one by one.
    """
    places: dict[SchemaKey, Indices] = {}
    alone: dict[SchemaKey, list[int]] = {}
    errors: dict[int, DecodeError] = {}
    left = np.arange(len(messages))
    for _ in range(_FEW):
        if len(left) <= _FEW:
            break
        try:
            key = unframe(messages[left[0]]).key
        except DecodeError as error:
            errors[int(left[0])] = error
            left = left[1:]
            continue
        sized = pc.less_equal(pc.binary_length(texts), MAX_MESSAGE_BYTES)
        own = pc.fill_null(pc.and_(pc.starts_with(texts, pattern=key.header), sized), fill_value=False)
        own = own.to_numpy(zero_copy_only=False)[left]
        places[key], left = left[own], left[~own]
    for place in left.tolist():
        try:
            alone.setdefault(unframe(messages[place]).key, []).append(place)
        except DecodeError as error:
            errors[place] = error
    return places | {key: np.array(found) for key, found in alone.items()}, errors


def _array(messages: Sequence[bytes | None] | pa.BinaryArray) -> pa.BinaryArray:
    """Return messages as one array; raise ValueError beyond MAX_BATCH_BYTES."""
    texts = messages if isinstance(messages, pa.BinaryArray) else pa.array(messages, pa.binary())
    if (pc.sum(pc.binary_length(texts)).as_py() or 0) > MAX_BATCH_BYTES:
        raise ValueError(f"the batch has more than {MAX_BATCH_BYTES} bytes")
    return texts


def _moved(decoded: Decoded, places: Indices) -> Decoded:
    """Return a group with the indices of the whole list."""
    errors = {int(places[at]): error for at, error in decoded.errors.items()}
    return Decoded(decoded.schema, decoded.batch, places[decoded.rows], errors)


def _heading(header: bytes, names: Sequence[str]) -> list[tuple[str, str, npt.NDArray[Any]]]:
    """Return a header as Avro fields before a record's own (name, type, value), so that no message is cut or copied.

    Read as Avro, C3 01 is the number -98 and a fingerprint a double, 00 is the number 0 and a registry id a float.
    """
    name = "_" * (1 + max(map(len, names), default=0))
    if header.startswith(SINGLE_OBJECT_MARKER):
        return [(name, "long", np.array([-98])), (f"{name}_", "double", np.frombuffer(header, "<f8", 1, 2))]
    return [(name, "long", np.array([0])), (f"{name}_", "float", np.frombuffer(header, "<f4", 1, 1))]


def records_of(batch: pa.RecordBatch) -> list[Record]:
    """Return a batch's rows as plain dicts, maps as dicts too (with the last value of a repeated key)."""
    return values_of(batch)


def _holds_records(kind: pa.DataType) -> bool:
    """Return whether a column holds records in records."""
    return pa.types.is_struct(kind) and any(pa.types.is_struct(kind.field(at).type) for at in range(kind.num_fields))


def _refused_as_value_error(call: Callable[[], _T]) -> _T:
    """Call into Rust; raise ValueError for its errors and panics, which derive only from BaseException."""
    try:
        return call()
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise ValueError(str(error)) from error
    except BaseException as error:
        if type(error).__module__ != "pyo3_runtime":
            raise
        raise ValueError(f"pyruhvro: {error}") from error


__all__ = ["MAX_BATCH_BYTES", "Batches", "ColumnarCodec", "ColumnarReader", "Decoded", "records_of"]
