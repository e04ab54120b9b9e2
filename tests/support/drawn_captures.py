"""Random captures with random feature schemas, for property tests."""

from typing import Any

from hypothesis import strategies as st

from gnomon_schemas.features import FeatureSchema

LONGS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False, width=32)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": LONGS,
    "float": FLOATS,
    "double": st.floats(allow_nan=False),
    "string": st.text(max_size=20),
}
FEATURE_STATES = st.fixed_dictionaries(
    {"version": st.none() | st.text(max_size=5), "cache_hits": VALUES["int"], "cache_misses": VALUES["int"]}
)


@st.composite
def captures(draw: st.DrawFn) -> tuple[FeatureSchema, dict[str, Any]]:
    """Return a feature schema and a complete LivePrediction with it."""
    schema, features = draw(schemas_and_features())
    text = st.text(max_size=10)
    prediction = st.fixed_dictionaries(
        {
            "value": st.none() | VALUES["double"],
            "label": st.none() | text,
            "scores": st.none() | st.lists(VALUES["double"], max_size=3),
            "items": st.none() | st.lists(text, max_size=3),
        }
    )
    return schema, {
        "producer_id": draw(st.uuids().map(str)),
        "sequence": draw(LONGS),
        "captured_at": draw(LONGS),
        "request_id": draw(text),
        "capture_probability": draw(st.floats(0, 1)),
        "stratum": draw(st.none() | text),
        "segments": draw(st.dictionaries(text, text, max_size=3)),
        "cluster": draw(st.none() | text),
        "model": {"name": draw(text), "version": draw(text)},
        "features": features,
        "prediction": draw(st.none() | prediction),
        "error": draw(st.none() | st.fixed_dictionaries({"kind": text, "message": text})),
        "latency_us": draw(st.none() | LONGS),
        "feature_state": draw(st.none() | FEATURE_STATES),
    }


@st.composite
def schemas_and_features(draw: st.DrawFn) -> tuple[FeatureSchema, dict[str, Any]]:
    """Return a feature schema and one record of it."""
    fields: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for index in range(draw(st.integers(1, 8))):
        name, kind = f"f{index}", draw(st.sampled_from([*VALUES, "enum", "array"]))
        declared: Any = kind
        if kind == "enum":
            declared = {"type": "enum", "name": f"E{index}", "symbols": ["A", "B", "C"]}
            strategy: st.SearchStrategy[Any] = st.sampled_from(["A", "B", "C"])
        elif kind == "array":
            items = draw(st.sampled_from(["int", "long", "float", "double"]))
            declared = {"type": "array", "items": items}
            strategy = st.lists(VALUES[items], max_size=4)
        else:
            strategy = VALUES[kind]
        if kind != "null" and draw(st.booleans()):
            declared, strategy = ["null", declared], st.none() | strategy
        fields[name], values[name] = declared, draw(strategy)
    return FeatureSchema.of(fields), values
