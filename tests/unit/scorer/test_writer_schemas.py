"""Captures whose schema is unknown, refused, or at a source that does not answer."""

from dataclasses import dataclass, field

import pytest

from gnomon_consumer.scorer.pool.writer_schemas import WriterSchemas
from gnomon_schemas.errors import DependencyUnreachableError
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.framing import Fingerprint, RegistryId, SchemaKey
from gnomon_schemas.schema import Schema

LIVE = FeatureSchema.of({"amount": "double"}).live
CAPTURE = LIVE.fingerprint.header + b"body"
HOSTILE = Fingerprint(bytes(8)).header + b"body"


@dataclass
class Source:
    """A schemas topic: `published` is what a read to its end finds, `answers` whether it can be read."""

    published: dict[SchemaKey, Schema] = field(default_factory=dict)
    answers: bool = True
    reads: int = 0
    known: dict[SchemaKey, Schema] = field(default_factory=dict)

    def refresh(self, timeout_s: float | None = None) -> None:
        self.reads += 1
        if not self.answers:
            raise DependencyUnreachableError("the topic does not answer")
        self.known = dict(self.published)

    def find(self, key: SchemaKey) -> Schema | None:
        return self.known.get(key)

    def live_schemas(self) -> list[Schema]:
        return list(self.known.values())


class Workers:
    """Remembers the schemas that the workers learnt."""

    def __init__(self) -> None:
        self.learned: list[SchemaKey] = []

    def learn(self, key: SchemaKey, schema: Schema) -> None:
        self.learned.append(key)


def schemas_of(source: Source, registry: Source | None = None) -> tuple[WriterSchemas, Workers]:
    workers = Workers()
    return WriterSchemas(source, registry or Source(), workers, "gnomon.s.schemas"), workers


def test_a_source_that_does_not_answer_holds_captures_back_until_it_does() -> None:
    source = Source({LIVE.fingerprint: LIVE}, answers=False)
    schemas, workers = schemas_of(source)
    for second in range(100):
        assert not schemas.ready([CAPTURE], now=float(second))
    source.answers = True
    assert schemas.ready([CAPTURE], now=100.0)
    assert workers.learned == [LIVE.fingerprint]


def test_a_schema_that_is_published_after_it_was_refused_is_found() -> None:
    source = Source()
    schemas, workers = schemas_of(source)
    assert schemas.ready([CAPTURE], now=0.0), "read to the end: nobody knows it"
    assert workers.learned == []
    source.published[LIVE.fingerprint] = LIVE
    assert schemas.ready([CAPTURE], now=6.0)
    assert workers.learned == [LIVE.fingerprint]


def test_a_refused_schema_is_found_as_soon_as_another_capture_makes_the_topic_read() -> None:
    source = Source()
    schemas, workers = schemas_of(source)
    assert schemas.ready([CAPTURE], now=0.0)
    source.published[LIVE.fingerprint] = LIVE
    assert schemas.ready([HOSTILE], now=2.0)
    assert schemas.ready([CAPTURE], now=6.0)
    assert workers.learned == [LIVE.fingerprint]


def test_a_flood_of_hostile_fingerprints_costs_one_read_a_second() -> None:
    source = Source()
    schemas, _ = schemas_of(source)
    for tenth in range(100):
        schemas.ready([Fingerprint(tenth.to_bytes(8, "big")).header], now=tenth / 10)
    assert source.reads == 10


def test_a_registry_id_does_not_wait_for_the_schemas_topic() -> None:
    source, registry = Source(answers=False), Source()
    registry.known[RegistryId(7)] = LIVE
    schemas, workers = schemas_of(source, registry)
    assert schemas.ready([RegistryId(7).header + b"body"], now=0.0)
    assert workers.learned == [RegistryId(7)]


@pytest.mark.parametrize("value", [b"", b"\xc3\x01short", b"no framing at all"])
def test_what_has_no_readable_header_is_left_to_the_worker(value: bytes) -> None:
    source = Source()
    schemas, _ = schemas_of(source)
    assert schemas.ready([value], now=0.0)
    assert source.reads == 0
