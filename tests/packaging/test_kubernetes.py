"""The Kubernetes manifests: their commands exist, and every pod is as confined as docs and policies state."""

from collections.abc import Iterator
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml
from tests.support.servers.shared import ROOT

from gnomon_consumer.cli import gnomon
from gnomon_consumer.runtime.metrics import ScorerMetrics

FOLDER = ROOT / "deploy" / "kubernetes"
BASE, OVERLAY = FOLDER / "base", FOLDER / "overlays" / "flight-delay"
WORKLOADS = {"Deployment", "StatefulSet", "Job", "CronJob"}


def objects() -> list[dict[str, Any]]:
    files = sorted([*BASE.glob("*.yaml"), *OVERLAY.glob("*.yaml")])
    return [
        item
        for file in files
        if file.name != "kustomization.yaml"
        for item in yaml.safe_load_all(file.read_text(encoding="utf-8"))
    ]


def workloads() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Return each workload with the specification of its pods."""
    for item in objects():
        if item["kind"] in WORKLOADS:
            spec = item["spec"]["jobTemplate"]["spec"] if item["kind"] == "CronJob" else item["spec"]
            yield item, spec["template"]


def names() -> list[str]:
    return [item["metadata"]["name"] for item, _ in workloads()]


@pytest.mark.parametrize("folder", [BASE, OVERLAY], ids=lambda folder: folder.name)
def test_kustomization_lists_what_is_there(folder: Any) -> None:
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    there = {file.name for file in folder.glob("*.yaml")} - {"kustomization.yaml"}
    assert {name for name in listed if "/" not in name} == there
    assert all((folder / name).exists() for name in listed)


def test_every_command_is_one_that_gnomon_has() -> None:
    assert names()
    for item, pod in workloads():
        command: click.Command = gnomon
        arguments = list(pod["spec"]["containers"][0]["args"])
        context = click.Context(command, info_name="gnomon")
        while isinstance(command, click.Group):
            found = command.get_command(context, arguments[0])
            assert found is not None, (item["metadata"]["name"], arguments[0])
            command, arguments = found, arguments[1:]
            context = click.Context(command, info_name=command.name, parent=context)
        command.make_parser(context).parse_args(arguments)  # an unknown option raises


def test_every_pod_is_confined() -> None:
    for item, pod in workloads():
        name, spec = item["metadata"]["name"], pod["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert container["resources"]["limits"]["memory"], name
            assert {mount["name"] for mount in container["volumeMounts"]} == {v["name"] for v in spec["volumes"]}, name


def test_long_running_pods_have_probes_and_a_disruption_budget() -> None:
    budgets = {
        item["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]
        for item in objects()
        if item["kind"] == "PodDisruptionBudget"
    }
    for item, pod in workloads():
        if item["kind"] in ("Deployment", "StatefulSet"):
            container = pod["spec"]["containers"][0]
            assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()
            assert pod["metadata"]["labels"]["app.kubernetes.io/component"] in budgets
            assert pod["spec"]["terminationGracePeriodSeconds"] >= 15  # a service ends within 10 seconds of SIGTERM


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Return whether a selector chooses a pod with these labels."""
    assert selector.keys() <= {"matchLabels", "matchExpressions"}
    wanted = selector.get("matchLabels", {}).items()
    listed = selector.get("matchExpressions", [])
    assert all(one["operator"] == "In" for one in listed)
    return wanted <= labels.items() and all(labels.get(one["key"]) in one["values"] for one in listed)


def test_every_pod_is_in_one_network_policy_and_every_service_in_one_budget() -> None:
    """Those of an overlay too: a pod in no policy reaches everything."""
    policies = {"NetworkPolicy": "podSelector", "PodDisruptionBudget": "selector"}
    for item, pod in workloads():
        chosen = [
            other["kind"]
            for other in objects()
            if other["kind"] in policies and selects(other["spec"][policies[other["kind"]]], pod["metadata"]["labels"])
        ]
        runs_on = item["kind"] in ("Deployment", "StatefulSet")
        assert sorted(chosen) == ["NetworkPolicy", "PodDisruptionBudget"][: 1 + runs_on], item["metadata"]["name"]


@pytest.mark.parametrize("folder", [BASE, OVERLAY], ids=lambda folder: folder.name)
def test_kustomize_leaves_selectors_as_they_stand_in_the_files(folder: Any) -> None:
    """It would write its labels over the names of Kafka and PostgreSQL in the policies, too."""
    settings = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    assert "commonLabels" not in settings
    assert not any(labels.get("includeSelectors") for labels in settings.get("labels", ()))


def test_objects_fit_the_published_schemas() -> None:
    for item in objects():
        kubernetes_validate.validate(item, "1.33", strict=True)


def test_selectors_choose_their_own_pods_only() -> None:
    """A StatefulSet whose selector matches another one's pods would adopt them."""
    running = [(item, pod) for item, pod in workloads() if item["kind"] in ("Deployment", "StatefulSet")]
    for item, _ in running:
        wanted = item["spec"]["selector"]["matchLabels"].items()
        chosen = [other["metadata"]["name"] for other, pod in running if wanted <= pod["metadata"]["labels"].items()]
        assert chosen == [item["metadata"]["name"]]


def test_the_scorer_reaches_kafka_and_nothing_else() -> None:
    (policy,) = [
        item
        for item in objects()
        if item["kind"] == "NetworkPolicy"
        and item["spec"]["podSelector"].get("matchLabels", {}).get("app.kubernetes.io/component") == "score"
    ]
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    ports = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
    assert ports == {9092, 53}
    scorers = [pod for item, pod in workloads() if item["kind"] == "StatefulSet"]
    assert scorers
    for pod in scorers:
        assert all("secretRef" not in source for source in pod["spec"]["containers"][0]["envFrom"])


def test_the_scaler_asks_for_metrics_that_exist() -> None:
    (scaled,) = yaml.safe_load_all((FOLDER / "keda" / "scorer.yaml").read_text(encoding="utf-8"))
    assert scaled["spec"]["scaleTargetRef"]["name"] in names()
    known = {name for name, *_ in ScorerMetrics("s", "d").described()}
    for trigger in scaled["spec"]["triggers"]:
        used = {word for word in known if word in trigger["metadata"]["query"]}
        assert used
        assert "lag" not in trigger["metadata"]["query"]  # lag does not show overload, because of the sampler
