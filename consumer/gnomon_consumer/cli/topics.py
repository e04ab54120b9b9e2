"""`gnomon topics`: the topics of a stream."""

import rich_click as click

from gnomon_consumer.cli.json_option import echo_json, json_option
from gnomon_consumer.cli.options import settings_options
from gnomon_consumer.kafka import topics as topic_plans
from gnomon_consumer.settings import Settings
from gnomon_schemas.topics import Topics

NEW_PARTITIONS = 4


@click.group()
def topics() -> None:
    """Create the topics of a stream."""


@topics.command()
@settings_options(stream=True)
@click.option(
    "--partitions",
    type=click.IntRange(1, 10_000),
    default=None,
    help="Partitions of the live topic; a topic with fewer gets more. Default: as many as it has, 4 for a new one.",
)
@click.option(
    "--deployment",
    "deployments",
    multiple=True,
    metavar="NAME",
    help="Create the shadow topic of this deployment, with as many partitions as the live topic; repeatable.",
)
@click.option(
    "--replication",
    type=click.IntRange(1, 100),
    default=None,
    help="Replication factor; default: the broker's.",
)
@json_option("Print one JSON list.")
def create(
    settings: Settings, partitions: int | None, deployments: tuple[str, ...], replication: int | None, as_json: bool
) -> None:
    """Create the missing topics of a stream. Existing topics are not changed, with two exceptions.

    --partitions adds partitions to the live topic, and --deployment to the shadow topic of that deployment.
    """
    names = Topics(settings.require_stream(), settings.topic_prefix)
    topic_plans.plan(names, 1, deployments)  # refuse an invalid name before asking the broker
    partitions = max(partitions or 0, topic_plans.partitions_of(settings, names.live) or 0) or NEW_PARTITIONS
    plans = topic_plans.plan(names, partitions, deployments)
    results = topic_plans.create(settings, plans, -1 if replication is None else replication)
    if as_json:
        rows = [{"topic": r.name, "partitions": r.partitions, "outcome": r.outcome} for r in results]
        echo_json(rows)
        return
    width = max(len(result.name) for result in results)
    for result in results:
        click.echo(f"{result.name:<{width}}  {result.partitions:>4} partitions  {result.outcome}")
