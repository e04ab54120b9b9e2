"""`gnomon promote` and `gnomon rollback`: act on a verdict, and undo it."""

from typing import Any

import rich_click as click

from gnomon_consumer.cli.options import settings_options
from gnomon_consumer.cli.verdict import send_events
from gnomon_consumer.settings import Settings
from gnomon_consumer.verdict.database import deployment_row, opened
from gnomon_consumer.verdict.intents import Completion
from gnomon_consumer.verdict.promotion import promote as make
from gnomon_consumer.verdict.promotion import resume, roll_back
from gnomon_consumer.verdict.render import as_json
from gnomon_schemas.errors import ConfigurationError

deployment_option = click.option(
    "--deployment", metavar="NAME", help="The deployment; default: the stream's only challenger."
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Only check that it would work; change nothing.")


@click.command()
@settings_options(stream=True, database=True, kafka=False)
@deployment_option
@click.option("--override", metavar="REASON", help="Promote without a fresh PROMOTE; the reason is recorded.")
@dry_run_option
@click.option(
    "--resume", "resuming", is_flag=True, help="Settle a promotion or rollback of the stream that was interrupted."
)
@click.option("--outcome", type=click.Choice(["done", "undone"]), help="With --resume: state the result by hand.")
def promote(
    settings: Settings,
    deployment: str | None,
    override: str | None,
    dry_run: bool,
    resuming: bool,
    outcome: Completion | None,
) -> None:
    """Make the challenger live, as verdict.way_back describes. Refused without a fresh PROMOTE (status 1).

    First it checks that a rollback would work. At the end it prints the command that runs the former live model in
    the shadow of the new one, so that there is evidence for a rollback too.
    """
    if outcome is not None and not resuming:
        raise ConfigurationError("--outcome says how --resume settles a promotion; give both")
    if resuming:
        _resume(settings, outcome)
        return
    with opened(settings.require_database_url()) as connection:
        row = deployment_row(connection, settings.require_stream(), deployment)
        done = make(connection, row, override, dry_run)
        send_events(connection, settings)
    _print_change(row, done.promotion_id, done.former, done.promoted, "would be promoted" if dry_run else "is promoted")
    if not dry_run:
        where, shadow = f"--stream {row['stream']}", f"former-live-{done.promotion_id}"
        former = " ".join(filter(None, (done.former["model_name"], done.former["model_version"]))) or "the former model"
        click.echo(
            f"Now run {former} in the shadow of the new live model, so that a rollback has evidence too:\n"
            f"  gnomon run {where} --former FILE_OF_THE_FORMER_MODEL\n"
            f"  gnomon verdict {where} --deployment {shadow}    (ROLLBACK: it is better)\n"
            f"Undo: gnomon rollback {where} --deployment {row['deployment']}"
        )


def _resume(settings: Settings, outcome: Completion | None) -> None:
    with opened(settings.require_database_url()) as connection:
        settled = resume(connection, settings.require_stream(), outcome)
        send_events(connection, settings)
    intent = settled.intent
    if settled.outcome == "done":
        click.echo(f"{intent.what} was done, and is recorded now.")
    else:
        click.echo(f"{intent.what} was not done; the former model is live.")


@click.command()
@settings_options(stream=True, database=True, kafka=False)
@deployment_option
@dry_run_option
def rollback(settings: Settings, deployment: str | None, dry_run: bool) -> None:
    """Undo the current promotion of a deployment."""
    with opened(settings.require_database_url()) as connection:
        row = deployment_row(connection, settings.require_stream(), deployment)
        done = roll_back(connection, row, dry_run)
        send_events(connection, settings)
    _print_change(
        row, done.promotion_id, done.former, done.promoted, "would be rolled back" if dry_run else "is rolled back"
    )


def _print_change(row: Any, promotion: int | None, former: dict[str, Any], promoted: dict[str, Any], what: str) -> None:
    number = f" (promotion {promotion})" if promotion is not None else ""
    click.echo(f"{row['deployment']} {what}{number}.")
    click.echo(f"before: {' '.join(as_json(former['state']).split())}")
    click.echo(f"after:  {' '.join(as_json(promoted['state']).split())}")
