"""`gnomon run`: scorers, joiners and label consumer of one stream under one supervisor."""

import json
from pathlib import Path

import rich_click as click

from gnomon_consumer.cli.options import settings_options
from gnomon_consumer.quickstart.children import Children
from gnomon_consumer.settings import Settings, environment_name
from gnomon_consumer.stopping import stop_on_signals
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.topics import checked_name


@click.command()
@settings_options(stream=True, database=True)
@click.option("--challenger", "challengers", multiple=True, metavar="NAME=FILE", help="A candidate; repeatable.")
@click.option("--control", "controls", multiple=True, metavar="NAME=FILE", help="The live model's own file.")
@click.option("--labels/--no-labels", default=True, show_default=True, help="Consume labels, too.")
@click.pass_context
def run(
    context: click.Context,
    settings: Settings,
    challengers: tuple[str, ...],
    controls: tuple[str, ...],
    labels: bool,
) -> None:
    """Score, join and take labels in one command, for a small installation.

    When one of the processes ends, all are stopped and the status is 1, or 3 if a server was away: have it started
    again by whatever started it. Every process resumes where the logs and the database say.
    """
    settings.require_stream()
    settings.require_database_url()
    deployments = [(*_deployment("--challenger", text), "challenger") for text in challengers]
    deployments += [(*_deployment("--control", text), "control") for text in controls]
    if not deployments:
        raise ConfigurationError("nothing to run: give --challenger NAME=FILE or --control NAME=FILE")
    names = [name for name, _, _ in deployments]
    if len(set(names)) < len(names):
        raise ConfigurationError(f"a deployment is named twice: {', '.join(sorted(names))}")
    config = ["--config", context.params["config"]] if context.params.get("config") else []
    # The children have as long as Children gives them; only then are we late ourselves.
    with stop_on_signals(grace_seconds=15) as stop, Children(environment=environment_of(settings)) as children:
        for name, model, role in deployments:
            deployment = ["--deployment", name]
            children.start_gnomon(f"score {name}", "score", *deployment, "--model", model, "--role", role, *config)
            children.start_gnomon(f"join {name}", "join", *deployment, *config)
        if labels:
            children.start_gnomon("labels", "labels", "consume", *config)
        while not stop.wait(0.1):
            children.check()


def environment_of(settings: Settings) -> dict[str, str]:
    """What flags may have said, as the environment of the children, which read the same file themselves."""
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


def _deployment(option: str, text: str) -> tuple[str, str]:
    """`NAME=FILE` as name and path."""
    name, equals, path = text.partition("=")
    if not equals:
        raise ConfigurationError(f"{option} {text}: write NAME=FILE")
    if not Path(path).is_file():
        raise ConfigurationError(f"{option} {text}: no such file")
    return checked_name("deployment", name), path
