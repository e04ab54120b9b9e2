"""docker-compose.yml without an engine: it parses, its services fit together, its commands exist."""

import importlib.util
import json
import os
import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from tests.support.servers import docker
from tests.support.servers.shared import ROOT

from gnomon_consumer.cli import gnomon
from gnomon_consumer.settings import load_settings

VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def substitute(text: str) -> str:
    """Fill in `${NAME}` and `${NAME:-default}` from .env, as docker compose does; an unknown name is an error."""
    return VARIABLE.sub(lambda match: match[2] if match[2] is not None else docker.image(match[1]), text)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """Return the file as docker compose reads it."""
    loaded: dict[str, Any] = yaml.safe_load(substitute((ROOT / "docker-compose.yml").read_text()))
    return loaded


def command_lines(compose: dict[str, Any]) -> dict[str, list[str]]:
    """Return the `gnomon …` command line of each service that has one."""
    found = {}
    for name, service in compose["services"].items():
        if service["image"] == docker.image("GNOMON_IMAGE"):
            line = [*service.get("entrypoint", ["gnomon"]), *service.get("command", [])]
            if line[0] == "gnomon":
                found[name] = line[1:]
    return found


def test_every_service_starts_after_what_it_needs(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            assert needed in services, f"{name} depends on {needed}"
            has_check = "healthcheck" in services[needed]
            assert how["condition"] == ("service_healthy" if has_check else "service_completed_successfully")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (ROOT / source).is_dir() if source.startswith(".") else source in compose["volumes"]
    assert {"topics", "migrations"} <= set(services["join-challenger"]["depends_on"])


def test_images_are_pinned_and_named_once(compose: dict[str, Any]) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    assert re.findall(r"^ *image: (?!\$\{GNOMON_\w+\}$).*", text, re.MULTILINE) == []
    for variable in re.findall(r"^(\w+)=(?!gnomon)", (ROOT / ".env").read_text(), re.MULTILINE):
        assert re.search(r":v?\d+\.\d+", docker.image(variable, ROOT / ".env")), variable


@pytest.mark.parametrize(
    "service",
    [
        "topics",
        "migrations",
        "score-challenger",
        "score-control",
        "join-challenger",
        "join-control",
        "labels",
        "report",
    ],
)
def test_a_service_runs_a_command_that_exists(
    service: str, compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Follow the groups and parse the options of the command itself, without running it."""
    for name in [name for name in os.environ if name.startswith("GNOMON_")]:
        monkeypatch.delenv(name)
    # The models are in a volume: any existing file represents them here.
    line = [word.replace("/models", str(tmp_path)) for word in command_lines(compose)[service]]
    for word in line:
        if word.startswith(str(tmp_path)):
            Path(word).touch()
    command: click.Command = gnomon
    context = click.Context(gnomon, info_name="gnomon")
    while isinstance(command, click.Group):
        found = command.get_command(context, line[0])
        assert found is not None, f"{service}: no command {line[0]} in {context.command_path}"
        command, context = found, click.Context(found, parent=context, info_name=line.pop(0))
    command.parse_args(context, line)


def test_the_environment_sets_settings(compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each variable changes the setting that it names; a misspelt one would change nothing."""
    for name, value in compose["services"]["labels"]["environment"].items():
        monkeypatch.delenv(name, raising=False)
        before = load_settings()
        monkeypatch.setenv(name, value)
        setting: Any = load_settings()
        unset: Any = before
        for part in name.removeprefix("GNOMON_").lower().split("__"):
            setting, unset = getattr(setting, part), getattr(unset, part)
        assert setting is not None
        assert setting != unset


@pytest.mark.parametrize("service", ["models", "flights"])
def test_a_service_runs_a_module_that_exists(service: str, compose: dict[str, Any]) -> None:
    python, option, module = compose["services"][service]["entrypoint"]
    assert (python, option) == ("python", "-m")
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    assert '__name__ == "__main__"' in Path(spec.origin).read_text()


def test_the_image_copies_only_what_the_wheel_needs_and_drops_root() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    stages = re.split(r"^FROM ", dockerfile, flags=re.MULTILINE)[1:]
    ends = {stage.split("\n")[0].split(" AS ")[1]: stage.split(" ")[0] for stage in stages}
    assert ends["service"] == ends["demo"] == "base"
    assert list(ends)[-1] == "service"  # the image that `docker build .` makes
    base = next(stage for stage in stages if stage.split("\n")[0].endswith(" AS base"))
    assert re.search(r"^USER 10001$", base, re.MULTILINE)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    assert all((ROOT / name).exists() for name in kept)
    assert {"requirements", "producer", "schemas", "consumer", "migrations", "pyproject.toml", "README.md"} <= kept


def test_a_scorer_has_a_network_with_kafka_and_nothing_else(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name in ("score-challenger", "score-control"):
        assert services[name]["networks"] == ["kafka"]
        assert not any("DATABASE" in variable for variable in services[name]["environment"])
    assert compose["networks"]["kafka"] == compose["networks"]["database"] == {"internal": True}
    assert "kafka" not in services["postgres"]["networks"]


def test_gnomons_containers_are_hardened(compose: dict[str, Any]) -> None:
    profile = "seccomp:deploy/docker/seccomp.json"
    for name, service in compose["services"].items():
        if service["image"] in (docker.image("GNOMON_IMAGE"), docker.image("GNOMON_DEMO_IMAGE")):
            assert service["read_only"], name
            assert service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true", profile], name
            assert {"mem_limit", "pids_limit"} <= service.keys(), name
            assert "user" not in service, name
    allowed = json.loads((ROOT / profile.removeprefix("seccomp:")).read_text())["syscalls"][0]["names"]
    assert {"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "seccomp"} <= set(allowed)
