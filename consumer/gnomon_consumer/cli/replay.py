"""`gnomon replay`: captures of the live topic again, as a load test or as another deployment sampled them."""

import dataclasses
from typing import Any, cast

import rich_click as click

from gnomon_consumer.cli.json_option import echo_json, json_option
from gnomon_consumer.cli.options import model_options, setting_option, settings_options
from gnomon_consumer.runtime.signals import stop_on_signals
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.records import Role


@click.command()
@settings_options(stream=True)
@model_options
@click.option("--rate", type=click.FloatRange(0.1, 1_000_000), help="Run a load test with this many requests a second.")
@click.option("--batch", type=click.IntRange(1, 100_000), default=1, show_default=True, help="Rows in a request.")
@click.option(
    "--captures",
    type=click.IntRange(1, 10_000_000),
    default=2000,
    show_default=True,
    help="How many captures, the newest ones.",
)
@click.option(
    "--like", metavar="NAME", help="Score the rows that this deployment sampled, with the same probabilities."
)
@click.option("--deployment", metavar="NAME", help="With --like: the name of the new deployment.")
@json_option()
@setting_option("--workers", "score.workers")
def replay(
    settings: Settings,
    location: str,
    role: str,
    model_name: str | None,
    model_version: str | None,
    model_sha256: str | None,
    provider: str,
    signature: str | None,
    allow_network: bool,
    rate: float | None,
    batch: int,
    captures: int,
    like: str | None,
    deployment: str | None,
    as_json: bool,
) -> None:
    """Send captures of the live topic to a model again.

    With --rate: run a load test. It sends the newest captures at that rate, reports throughput, latency, CPU and
    memory, and writes nothing. With --like: make a new deployment that scores exactly the rows that another one
    sampled, to compare challengers on one sample; join it with `gnomon join`. Run it again to continue where it ended.
    """
    from gnomon_consumer.scorer.rehearsal import load_test
    from gnomon_consumer.scorer.worker import models

    if (rate is None) == (like is None):
        raise ConfigurationError("give --rate for a load test, or --like to score what another deployment sampled")
    if (like is None) != (deployment is None):
        raise ConfigurationError(
            "give --like and --deployment together: the deployment that sampled, and the name of the new one"
        )
    with stop_on_signals() as stop:
        seconds = settings.score.call_seconds
        model = models.describe(
            location,
            model_name,
            model_version,
            model_sha256,
            provider,
            signature,
            seconds,
            settings.score.authorization,
        )
        if like is not None and deployment is not None:
            from gnomon_consumer.scorer.options import Options, StartAt
            from gnomon_consumer.scorer.replay.replay import Replay

            options = Options(
                deployment=deployment,
                role=cast(Role, role),
                model=model,
                member="replay",
                start=StartAt("earliest"),
                no_sampling=True,
                allow_network=allow_network,
            )
            done = Replay(settings, options, like, stop.is_set).run()
            _show(done, as_json)
        elif rate is not None:
            report = load_test.measure(settings, model, allow_network, captures, rate, batch, stop.is_set)
            if report is not None:
                _show(report, as_json)


def _show(found: Any, as_json: bool) -> None:
    """Print a dataclass, as JSON or in its own words."""
    if as_json:
        echo_json(dataclasses.asdict(found))
    else:
        click.echo(str(found))
