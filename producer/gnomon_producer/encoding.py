"""Encode plain values as framed messages."""

import os
import socket
import time
from collections.abc import Callable
from typing import Any

from gnomon_producer.account import Counts
from gnomon_producer.binding import FeatureBinder
from gnomon_producer.predictions import FAILURE, FEATURE_STATE, PREDICTION
from gnomon_schemas.codec import Codec, Record
from gnomon_schemas.encoder import UnsupportedSchemaError, compile_encoder
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.framing import SchemaKey
from gnomon_schemas.records import Label, ProducerReport, as_dict
from gnomon_schemas.schema import record_schema, without_logical_types

LiveEncoder = Callable[..., bytes]
"""A function from the fields of a LivePrediction to a framed message.

It takes the fields that differ between a process's captures, in the schema's order; features, prediction, error and
feature_state are tuples of their values.
"""


def live_encoder(
    schema: FeatureSchema, producer_id: str, model: tuple[str, str], capture_probability: float, key: SchemaKey
) -> LiveEncoder:
    """Return the encoder of one process's captures: generated for the schema, or fastavro if that is impossible."""
    constants = {
        "producer_id": producer_id,
        "model": {"name": model[0], "version": model[1]},
        "capture_probability": capture_probability,
    }
    try:
        plain = without_logical_types(schema.live.json)  # dates and times are already numbers
        return compile_encoder(plain, header=key.header, constants=constants, by_position=True)
    except UnsupportedSchemaError:
        return _by_fastavro(schema, constants, key)


def _by_fastavro(schema: FeatureSchema, constants: Record, key: SchemaKey) -> LiveEncoder:
    codec = Codec(schema.live, key)
    check = FeatureBinder(schema, listed_only=False).check  # the generated encoder checks these itself
    names = [field["name"] for field in schema.live.json["fields"] if field["name"] not in constants]
    within = {
        "features": tuple(feature.field for feature in schema.features),
        "prediction": PREDICTION,
        "error": FAILURE,
        "feature_state": FEATURE_STATE,
    }

    def encode(*values: Any) -> bytes:
        record = dict(zip(names, values, strict=True))
        record["features"] = check(record["features"])
        for name, inner in within.items():
            if record[name] is not None:
                record[name] = dict(zip(inner, record[name], strict=True))
        return codec.encode({**constants, **record})

    return encode


class ServiceEncoder:
    """Encodes a process's labels and reports."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._labels = Codec(record_schema("Label"))
        self._reports = Codec(record_schema("ProducerReport"))

    def label(self, **fields: Any) -> bytes:
        """Return a framed Label."""
        return self._labels.encode(as_dict(Label(source=self._service, **fields)))

    def report(self, producer_id: str, started_at: int, counts: Counts, *, closed: bool) -> bytes:
        """Return a framed ProducerReport of the current counters."""
        return self._reports.encode(
            as_dict(
                ProducerReport(
                    producer_id=producer_id,
                    service=self._service,
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    started_at=started_at,
                    reported_at=time.time_ns() // 1000,
                    offered=counts.offered,
                    delivered=counts.delivered,
                    dropped=dict(counts.dropped),
                    sampled_out=counts.sampled_out,
                    switched_off=counts.switched_off,
                    closed=closed,
                )
            )
        )
