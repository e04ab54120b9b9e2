"""`gnomon topics`: the topics of a stream."""

import json

import rich_click as click

from gnomon_consumer import topics as topic_plans
from gnomon_consumer.cli.options import settings_options
from gnomon_consumer.settings import Settings
from gnomon_schemas.topics import Topics


@click.group()
def topics() -> None:
    """The topics of a stream."""


@topics.command()
@settings_options(stream=True)
@click.option("--partitions", type=click.IntRange(1, 10_000), default=4, show_default=True, help="Of the live topic.")
@click.option("--deployment", "deployments", multiple=True, metavar="NAME", help="Make its shadow topic; repeatable.")
@click.option(
    "--replication",
    type=click.IntRange(1, 100),
    default=None,
    help="Copies of a partition; default: the broker's.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
def create(
    settings: Settings, partitions: int, deployments: tuple[str, ...], replication: int | None, as_json: bool
) -> None:
    """Create the stream's topics, or grow them; what is there with enough partitions stays as it is."""
    names = Topics(settings.require_stream(), settings.topic_prefix)
    plans = topic_plans.plan(names, partitions, deployments)
    results = topic_plans.create(settings, plans, -1 if replication is None else replication)
    if as_json:
        rows = [{"topic": r.name, "partitions": r.partitions, "outcome": r.outcome} for r in results]
        click.echo(json.dumps(rows))
        return
    width = max(len(result.name) for result in results)
    for result in results:
        click.echo(f"{result.name:<{width}}  {result.partitions:>4} partitions  {result.outcome}")
