"""`gnomon replay`: captures of the live topic once more, as a load test or as another deployment sampled them."""

import dataclasses
import json
from typing import cast

import rich_click as click

from gnomon_consumer.cli.options import model_options, setting_option, settings_options
from gnomon_consumer.settings import Settings
from gnomon_consumer.stopping import stop_on_signals
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.records import Role


@click.command()
@settings_options(stream=True)
@model_options
@click.option("--rate", type=click.FloatRange(0.1, 1_000_000), help="Load test: requests a second.")
@click.option("--batch", type=click.IntRange(1, 100_000), default=1, show_default=True, help="Rows in a request.")
@click.option("--captures", type=click.IntRange(1, 10_000_000), default=2000, show_default=True, help="The newest N.")
@click.option("--like", metavar="NAME", help="Score what this deployment sampled, with its probabilities.")
@click.option("--deployment", metavar="NAME", help="With --like: the name of the new deployment.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
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
    """Send captures of the live topic to a model once more.

    With --rate, a load test: the newest captures at that rate, and throughput, latency, CPU and memory; nothing is
    written. With --like, a deployment of its own that scores exactly what another one sampled, to compare challengers
    on one sample; `gnomon join` takes it from there. Run again, it goes on where it ended.
    """
    from gnomon_consumer.scorer import loadtest, models

    if (rate is None) == (like is None):
        raise ConfigurationError("give --rate for a load test, or --like to score what another deployment sampled")
    if (like is None) != (deployment is None):
        raise ConfigurationError("--like and --deployment go together: whose sample it is, and the new one's name")
    with stop_on_signals() as stop:
        seconds = settings.score.call_seconds
        model = models.describe(location, model_name, model_version, model_sha256, provider, signature, seconds)
        if like is not None and deployment is not None:
            from gnomon_consumer.scorer.live import StartAt
            from gnomon_consumer.scorer.options import Options
            from gnomon_consumer.scorer.replay import Replay

            options = Options(deployment, cast(Role, role), model, "replay", StartAt("earliest"), True, allow_network)
            done = Replay(settings, options, like, stop.is_set).run()
            click.echo(json.dumps(dataclasses.asdict(done)) if as_json else str(done))
        elif rate is not None:
            report = loadtest.measure(settings, model, allow_network, captures, rate, batch, stop.is_set)
            if report is not None:
                click.echo(json.dumps(dataclasses.asdict(report)) if as_json else str(report))
