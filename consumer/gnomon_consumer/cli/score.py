"""`gnomon score`: score the captures of a stream with a challenger or control, in the shadow."""

import socket
from pathlib import Path
from typing import cast

import rich_click as click

from gnomon_consumer.cli.options import metrics_option, model_options, setting_option, settings_options
from gnomon_consumer.runtime.signals import stop_on_signals
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.records import Role


def existing(flag: str, name: str) -> Path:
    """Return the path of a file; raise ConfigurationError when it does not exist."""
    path = Path(name)
    if not path.is_file():
        raise ConfigurationError(f"{flag} {name}: no such file")
    return path


@click.command()
@settings_options(stream=True)
@click.option("--deployment", required=True, metavar="NAME", help="Name of this challenger or control.")
@model_options
@click.option(
    "--member",
    metavar="NAME",
    help="Name of this process in its group; no other process may have it; default: the host's name.",
)
@click.option(
    "--from",
    "start",
    default="earliest",
    show_default=True,
    metavar="earliest|latest|TIME",
    help="Where a new deployment starts to read; one with progress resumes there.",
)
@click.option("--no-sampling", is_flag=True, help="Score every capture; the lag is then no longer bounded.")
@click.option(
    "--exit-when-idle",
    type=float,
    metavar="SECONDS",
    help="End when everything is scored and no capture has arrived for this long.",
)
@click.option(
    "--warm-up",
    default="0",
    metavar="FILE|N",
    help="Rows to score before the first window: a file, or a number of generated rows; default 512 generated rows.",
)
@click.option(
    "--golden",
    metavar="FILE",
    help="Features with the answers expected for them (JSON lines); refuse to start if the model answers differently.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    default=1e-4,
    show_default=True,
    help="Largest difference that --golden accepts.",
)
@click.option("--allow-failing", is_flag=True, help="Start even when every row of the warm-up fails.")
@metrics_option
@setting_option("--workers", "score.workers")
@setting_option("--seed", "score.seed")
@setting_option("--window", "score.window_seconds")
@setting_option("--deadline", "score.deadline_seconds")
@setting_option("--allocation", "score.allocation")
@setting_option("--budget", "score.budget_rows_per_second")
def score(
    settings: Settings,
    deployment: str,
    location: str,
    role: str,
    model_name: str | None,
    model_version: str | None,
    model_sha256: str | None,
    provider: str,
    signature: str | None,
    allow_network: bool,
    member: str | None,
    start: str,
    no_sampling: bool,
    exit_when_idle: float | None,
    warm_up: str,
    golden: str | None,
    tolerance: float,
    allow_failing: bool,
    metrics: str | None,
) -> None:
    """Score a stream's captures with a challenger or a control, with bounded lag and a ledger of every capture."""
    with stop_on_signals() as stop:
        from gnomon_consumer.runtime.memory import collect_rarely, keep_memory, leave_out_pandas
        from gnomon_consumer.scorer.options import Options, StartAt
        from gnomon_consumer.scorer.service import ScoreService
        from gnomon_consumer.scorer.worker import models

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
        options = Options(
            deployment=deployment,
            role=cast(Role, role),
            model=model,
            member=member or socket.gethostname(),
            start=StartAt.parse(start),
            no_sampling=no_sampling,
            allow_network=allow_network,
            exit_when_idle=exit_when_idle,
            warm_up=int(warm_up) if warm_up.isdecimal() else existing("--warm-up", warm_up),
            golden=None if golden is None else existing("--golden", golden),
            tolerance=tolerance,
            allow_failing=allow_failing,
            metrics=metrics,
        )
        leave_out_pandas()
        collect_rarely()
        keep_memory()
        ScoreService(settings, options, stop.is_set).run()
