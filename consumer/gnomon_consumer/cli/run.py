"""`gnomon run`: scorers, joiners and label consumer of one stream under one supervisor."""

import json
from collections.abc import Mapping
from datetime import UTC
from pathlib import Path

import rich_click as click

from gnomon_consumer.cli.options import settings_options
from gnomon_consumer.runtime.restarts import RestartedServices
from gnomon_consumer.runtime.signals import stop_on_signals
from gnomon_consumer.runtime.supervisor import Children
from gnomon_consumer.settings import RunDeployment, Settings, environment_name
from gnomon_consumer.verdict.database import opened
from gnomon_consumer.verdict.promotion import former_live
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.records import Role
from gnomon_schemas.topics import checked_name


@click.command()
@settings_options(stream=True, database=True)
@click.option("--challenger", "challengers", multiple=True, metavar="NAME=MODEL", help="A challenger; repeatable.")
@click.option("--control", "controls", multiple=True, metavar="NAME=MODEL", help="The live model's own file.")
@click.option(
    "--former", metavar="MODEL", help="After a promotion: also run the model that was live before, as a challenger."
)
@click.option("--labels/--no-labels", default=None, help="Also consume labels; default: run.labels of the settings.")
@click.pass_context
def run(
    context: click.Context,
    settings: Settings,
    challengers: tuple[str, ...],
    controls: tuple[str, ...],
    former: str | None,
    labels: bool | None,
) -> None:
    """Score, join and consume labels in one command, for a small installation.

    The options name the deployments; without them `[run.deployments.NAME]` in gnomon.toml names them. `[verdict]` is
    the plan of the verdict. A process that ends is restarted after 1, 2, 4, … 60 seconds and resumes from the logs
    and the database. When a process refuses its configuration (status 2), all of them end.

    --former runs the model that was live before the newest promotion as deployment `former-live-PROMOTION`, from the
    time of that promotion on. `gnomon verdict` for this deployment answers ROLLBACK when the former model is better
    than the promoted one.
    """
    settings.require_stream()
    settings.require_database_url()
    deployments = _deployments(settings, challengers, controls, former)
    config = ["--config", context.params["config"]] if context.params.get("config") else []
    # Longer than Children waits for its processes to end.
    with stop_on_signals(grace_seconds=15) as stop, Children(environment=environment_of(settings)) as children:
        services = RestartedServices(children)
        for name, deployment in deployments.items():
            services.start_service(f"score {name}", "score", "--deployment", name, *score_options(deployment), *config)
            services.start_service(f"join {name}", "join", "--deployment", name, *config)
        if settings.run.labels if labels is None else labels:
            services.start_service("labels", "labels", "consume", *config)
        while not stop.wait(0.1):
            services.step()


def score_options(deployment: RunDeployment) -> list[str]:
    """Return the options of `gnomon score` that say what the deployment is."""
    options = ["--model", deployment.model, "--role", deployment.role, "--from", deployment.start]
    for flag, value in (
        ("--model-name", deployment.model_name),
        ("--model-version", deployment.model_version),
        ("--model-sha256", deployment.model_sha256),
        ("--signature", deployment.signature),
    ):
        options += [] if value is None else [flag, value]
    return [*options, "--allow-network"] if deployment.allow_network else options


def environment_of(settings: Settings) -> dict[str, str]:
    """Return what flags can set, as environment variables for the children; they read the same file themselves."""
    said = {
        "bootstrap_servers": settings.bootstrap_servers,
        "database_url": settings.require_database_url(),
        "stream": settings.require_stream(),
        "topic_prefix": settings.topic_prefix,
        "kafka.properties": json.dumps(settings.kafka.properties),
        "log.level": settings.log.level,
        "log.format": settings.log.format,
    }
    return {environment_name(key): value for key, value in said.items()}


def _deployments(
    settings: Settings, challengers: tuple[str, ...], controls: tuple[str, ...], former: str | None
) -> Mapping[str, RunDeployment]:
    """Return the deployments of the options, or else of the file; raise ConfigurationError where there are none."""
    given = [_parse_deployment("--challenger", text, "challenger") for text in challengers]
    given += [_parse_deployment("--control", text, "control") for text in controls]
    given = given or list(settings.run.deployments.items())
    if former is not None:
        given.append(_former(settings, former))
    deployments = dict(given)
    if len(deployments) < len(given):
        raise ConfigurationError(f"a deployment is named twice: {', '.join(sorted(name for name, _ in given))}")
    if not deployments:
        raise ConfigurationError(
            "nothing to run: give --challenger NAME=MODEL or --control NAME=MODEL,"
            " or a table [run.deployments.NAME] in gnomon.toml"
        )
    for name, deployment in deployments.items():
        # An address and `library:file` or `module:factory` are checked by the scorer itself.
        if ":" not in deployment.model and not Path(deployment.model).exists():
            raise ConfigurationError(f"the model of deployment {name}, {deployment.model}: no such file")
    return deployments


def _former(settings: Settings, model: str) -> tuple[str, RunDeployment]:
    """Return name and deployment of the model that was live before the newest promotion, under its recorded name."""
    with opened(settings.require_database_url()) as connection:
        found = former_live(connection, settings.require_stream())
    start = found.since.astimezone(UTC).isoformat()
    return found.deployment, RunDeployment(
        model=model, model_name=found.model_name, model_version=found.model_version, start=start
    )


def _parse_deployment(option: str, text: str, role: Role) -> tuple[str, RunDeployment]:
    """Return name and deployment of the text `NAME=MODEL`."""
    name, equals, model = text.partition("=")
    if not equals or not model:
        raise ConfigurationError(f"{option} {text}: write NAME=MODEL")
    return checked_name("deployment", name), RunDeployment(model=model, role=role)
