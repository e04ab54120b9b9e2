"""The manifests for Argo Rollouts and Flagger, against the schemas that those projects publish (trimmed copies)."""

from copy import deepcopy
from typing import Any

import jsonschema
import pytest
import yaml
from tests.support.servers.shared import ROOT

from gnomon_consumer.verdict.rules.answer import Decision

FOLDER = ROOT / "deploy" / "rollouts"
SCHEMAS = {
    "argo-analysis.yaml": "argo-analysistemplate.yaml",
    "flagger-canary.yaml": "flagger-canary.yaml",
}


def strict(schema: Any) -> Any:
    """Return the schema with unknown fields refused, as `kubectl apply` refuses them."""
    if isinstance(schema, list):
        return [strict(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed


def validate(name: str, manifest: Any) -> None:
    text = (ROOT / "tests" / "support" / "crds" / SCHEMAS[name]).read_text(encoding="utf-8")
    jsonschema.Draft7Validator(strict(yaml.safe_load(text))).validate(manifest)


def manifest(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def test_every_manifest_has_a_schema() -> None:
    assert {file.name for file in FOLDER.glob("*.yaml")} == set(SCHEMAS)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_manifest_fits_its_schema(name: str) -> None:
    validate(name, manifest(name))


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("argo-analysis.yaml", ("spec", "metrics", 0, "succesCondition"), "true"),
        ("argo-analysis.yaml", ("spec", "metrics", 0, "provider", "web", "url"), 8080),
        ("argo-analysis.yaml", ("spec", "metrics", 0, "provider", "web", "timeout"), 120),
        ("flagger-canary.yaml", ("spec", "analysis", "webhooks", 0, "type"), "confirm-promote"),
        ("flagger-canary.yaml", ("spec", "analysis", "webhooks", 0, "metadata", "deployment"), 7),
        ("flagger-canary.yaml", ("spec", "analysis", "step"), 10),
    ],
)
def test_a_mistake_would_be_seen(name: str, path: tuple[str | int, ...], value: Any) -> None:
    wrong = deepcopy(manifest(name))
    inner = wrong
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        validate(name, wrong)


def test_argo_names_decisions_that_there_are() -> None:
    metric = manifest("argo-analysis.yaml")["spec"]["metrics"][0]
    said = [metric["successCondition"], *metric["failureCondition"].split(" || ")]
    assert [one.removeprefix('result == "').removesuffix('"') for one in said] == [
        Decision.PROMOTE, Decision.REJECT, Decision.ROLLBACK,
    ]  # fmt: skip
