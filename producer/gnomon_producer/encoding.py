"""From plain values to framed messages."""

import os
import socket
import time
from typing import Any

from gnomon_producer.binding import Values
from gnomon_producer.ledger import Counts
from gnomon_schemas.codec import Codec
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.records import Label, ProducerReport, as_dict
from gnomon_schemas.schema import record_schema

Record = dict[str, Any]


class LiveEncoder:
    """Encodes the captures of one process: `identity` and `model` are the same in every one of them."""

    def __init__(self, schema: FeatureSchema, producer_id: str, model: tuple[str, str]) -> None:
        self._names = tuple(feature.name for feature in schema.features)
        self._codec = Codec(schema.live)
        self._constant: Record = {"producer_id": producer_id, "model": {"name": model[0], "version": model[1]}}

    def encode(self, record: Record, features: Values) -> bytes:
        """Return the framed message of a LivePrediction without the constant fields and features."""
        features_by_name = dict(zip(self._names, features, strict=True))
        return self._codec.encode({**self._constant, **record, "features": features_by_name})


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
        """Return a framed ProducerReport of this moment."""
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
