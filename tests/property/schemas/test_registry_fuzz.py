"""Whatever a registry answers is a schema, an unknown one or a wait: never another exception."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support import registry as registries
from tests.support.registry import Registry

from gnomon_schemas.errors import DependencyUnreachableError
from gnomon_schemas.framing import RegistryId
from gnomon_schemas.registry import RegistrySchemas, registry_client
from gnomon_schemas.schema import Schema

UNIT = {"type": "enum", "name": "Unit", "namespace": "n", "symbols": ["m", "s"]}
PART = {"type": "record", "name": "n.Part", "fields": [{"name": "u", "type": "Unit"}, {"name": "v", "type": "n.Unit"}]}
WHOLE = {
    "type": "record", "name": "Whole", "namespace": "n",
    "fields": [
        {"name": "first", "type": ["null", "n.Part"]}, {"name": "many", "type": {"type": "array", "items": "Part"}},
        {"name": "by_name", "type": {"type": "map", "values": "Unit"}},
    ],
}  # fmt: skip
NONSENSE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["int", "record", "Unit", "n.Part", "fields", "Whole", ""]),
    lambda some: st.lists(some, max_size=3)
    | st.dictionaries(st.sampled_from(["type", "name", "namespace", "fields", "items", "values", "symbols"]), some),
    max_leaves=6,
)  # fmt: skip


class Answering(Registry):
    """A registry whose next answers are given."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[tuple[int, Any]] = []

    def answer(self, method: str, path: str, body: Any, authorization: str) -> tuple[int, Any]:
        return self.answers.pop(0) if self.answers else super().answer(method, path, body, authorization)


@pytest.fixture(scope="module")
def registry() -> Iterator[Answering]:
    answering = Answering()
    with registries.running(answering):
        yield answering


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value in a JSON value."""
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path] + [place for key, value in children for place in places(value, (*path, key))]


def replaced(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a copy of a JSON value with another value at a path; the value `REMOVED` removes it."""
    if not path:
        return value
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    if len(path) == 1 and value is REMOVED:
        del copy[path[0]]
    else:
        copy[path[0]] = replaced(copy[path[0]], path[1:], value)
    return copy


REMOVED = object()


@st.composite
def damaged(draw: st.DrawFn, tree: Any) -> Any:
    """Draw a JSON value with one or two of its values replaced or removed."""
    for _ in range(draw(st.integers(0, 2))):
        spots = places(tree)
        if len(spots) > 1:
            tree = replaced(tree, draw(st.sampled_from(spots[1:])), draw(st.just(REMOVED) | NONSENSE))
    return tree


def ask(registry: Registry) -> Schema | str | None:
    """Return what a reader of captures learns: a schema, None, or that it has to wait."""
    with registry_client({"schema.registry.url": registry.url}) as client:
        try:
            return RegistrySchemas(client).find(RegistryId(1))
        except DependencyUnreachableError:
            return "wait"


def answer_of(schema: Any, references: list[dict[str, Any]]) -> dict[str, Any]:
    return {"schema": json.dumps(schema), "schemaType": "AVRO", "references": references}


WHOLE_REFERENCES = [
    {"name": "n.Part", "subject": "part", "version": 1},
    {"name": "n.Unit", "subject": "unit", "version": 1},
]


def versions(part: Any, unit: Any) -> list[tuple[int, Any]]:
    """Return the answers for the references, in the order in which the reader asks: the last one first."""
    return [
        (200, {"subject": "unit", "version": 1, "id": 2, **answer_of(unit, [])}),
        (200, {"subject": "part", "version": 1, "id": 3, **answer_of(part, [])}),
    ]


def test_the_undamaged_answers_are_a_schema(registry: Answering) -> None:
    registry.answers = [(200, answer_of(WHOLE, WHOLE_REFERENCES)), *versions(PART, UNIT)]
    found = ask(registry)
    assert isinstance(found, Schema)
    assert found.text.count("symbols") == 1


many = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@many
@given(whole=damaged(WHOLE), part=damaged(PART), unit=damaged(UNIT))
def test_damaged_schemas(registry: Answering, whole: Any, part: Any, unit: Any) -> None:
    registry.answers = [(200, answer_of(whole, WHOLE_REFERENCES)), *versions(part, unit)]
    found = ask(registry)
    assert found is None or isinstance(found, Schema), "the registry has answered"


@many
@given(answers=damaged([answer_of(WHOLE, WHOLE_REFERENCES), *(said for _, said in versions(PART, UNIT))]))
def test_damaged_answers(registry: Answering, answers: list[Any]) -> None:
    registry.answers = [(200, said) for said in answers]
    ask(registry)


@many
@given(
    status=st.sampled_from([200, 201, 302, 400, 401, 403, 404, 405, 409, 422, 429, 500, 502, 503]),
    said=NONSENSE | st.text(max_size=50) | st.fixed_dictionaries({"error_code": NONSENSE, "message": NONSENSE}),
)
def test_other_answers(registry: Answering, status: int, said: Any) -> None:  # fmt: skip
    registry.answers = [(status, said)]
    found = ask(registry)
    assert found is None or found == "wait"
