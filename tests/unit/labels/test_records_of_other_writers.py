"""Records with Gnomon's names whose writers declared other fields or types."""

import math
import uuid
from typing import Any

import pytest

from gnomon_consumer.labels.declared import as_declared
from gnomon_consumer.labels.heartbeats import _report
from gnomon_schemas.schema import Schema, checked, record_schema


def of_another_writer(name: str) -> Schema:
    """A schema with the name of Gnomon's record that is not Gnomon's."""
    own = record_schema(name).json
    return checked(own | {"fields": [*own["fields"], {"name": "more", "type": "null"}]})


SCHEMA = of_another_writer("ProducerReport")
LABELS = of_another_writer("Label")
REPORT: dict[str, Any] = {
    "producer_id": str(uuid.UUID(int=7)), "service": "s", "host": "h", "pid": 1, "started_at": 1, "reported_at": 2,
    "offered": 5, "delivered": 4, "dropped": {"queue_full": 1}, "sampled_out": 0, "switched_off": 0, "closed": True,
}  # fmt: skip
LABEL: dict[str, Any] = {"request_id": "r1", "value": 1.0, "occurred_at": 1, "observed_at": 2, "source": "s"}


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("producer_id", (5, None, b"x", "7")),
        ("service", (None, 5)),
        ("host", (None, ["h"])),
        ("pid", (None, 2**40, "1", 1.0)),
        ("started_at", (None, "1", 1.0, 2**62)),
        ("reported_at", (None, "1", math.nan, -(2**62))),
        ("offered", (None, "abc", -1, 1.5, True)),
        ("delivered", (None, -1)),
        ("dropped", (None, 3, ["x"], {"x": math.nan}, {"x": "1"}, {"x": None}, {"x": -1})),
        ("sampled_out", (None, -1)),
        ("switched_off", (None, -5)),
        ("closed", (None, 1, "yes")),
    ],
)
def test_a_heartbeat_that_no_hook_writes_is_refused_before_it_is_stored(field: str, values: tuple[Any, ...]) -> None:
    assert _report(SCHEMA.name, SCHEMA, REPORT | {"of_a_later_version": 1})["pid"] == 1
    assert _report(SCHEMA.name, SCHEMA, REPORT | {"dropped": {}})["dropped"] == {}
    for value in values:
        with pytest.raises(ValueError, match=r"^(its |it has a negative count|badly formed)"):
            _report(SCHEMA.name, SCHEMA, REPORT | {field: value})
    with pytest.raises(ValueError, match=f"^its {field} is not what a ProducerReport has$"):
        _report(SCHEMA.name, SCHEMA, {name: value for name, value in REPORT.items() if name != field})


def test_a_label_of_another_writer_gets_the_declared_defaults_or_is_refused() -> None:
    assert as_declared("Label", LABELS, LABEL) == LABEL | {"label": None, "relevance": None, "items": None}
    assert as_declared("Label", LABELS, LABEL | {"value": 1})["value"] == 1
    for field, value in (("request_id", 7), ("label", 5), ("value", "1"), ("relevance", ["1"]), ("observed_at", None)):
        with pytest.raises(ValueError, match=f"^its {field} is not what a Label has$"):
            as_declared("Label", LABELS, LABEL | {field: value})
    with pytest.raises(ValueError, match=r"^its request_id is not"):
        as_declared("Label", LABELS, {"value": 1.0})


def test_a_record_of_gnomons_own_schema_is_not_checked_again() -> None:
    assert as_declared("Label", record_schema("Label"), LABEL) is LABEL


@pytest.mark.parametrize(("name", "record"), [("Label", LABEL), ("ProducerReport", REPORT)])
@pytest.mark.parametrize("unit", ["timestamp-millis", "timestamp-nanos", "local-timestamp-micros", None])
def test_times_in_another_unit_are_refused(name: str, record: dict[str, Any], unit: str | None) -> None:
    """The fingerprint of such a schema is Gnomon's own; a plain long is in Gnomon's unit."""
    own = record_schema(name)
    kind = {"type": "long", "logicalType": unit} if unit else "long"
    fields = [field | {"type": kind} if field["name"].endswith("_at") else field for field in own.json["fields"]]
    writer = checked(own.json | {"fields": fields})
    assert writer.fingerprint == own.fingerprint
    if unit is None:
        assert as_declared(name, writer, record).items() >= record.items()
    else:
        with pytest.raises(ValueError, match=f"_at is a {unit}, a {name} has a timestamp-micros"):
            as_declared(name, writer, record)


def test_times_in_another_unit_are_refused_also_if_they_may_be_null() -> None:
    own = record_schema("Label").json
    kind = ["null", {"type": "long", "logicalType": "timestamp-millis"}]
    fields = [field | {"type": kind} if field["name"] == "occurred_at" else field for field in own["fields"]]
    with pytest.raises(ValueError, match=r"^its occurred_at is a timestamp-millis"):
        as_declared("Label", checked(own | {"fields": fields}), LABEL)
