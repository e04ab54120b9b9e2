"""`gnomon join`: write the pairs and the ledger of one deployment."""

import rich_click as click

from gnomon_consumer.cli.options import metrics_option, setting_option, settings_options
from gnomon_consumer.joiner.service import Joiner
from gnomon_consumer.runtime.memory import collect_rarely, leave_out_pandas
from gnomon_consumer.runtime.signals import stop_on_signals
from gnomon_consumer.settings import Settings
from gnomon_consumer.verdict.plans import record_plan


@click.command()
@settings_options(stream=True, database=True)
@click.option("--deployment", required=True, metavar="NAME", help="The deployment whose shadow topic is joined.")
@click.option("--drain", is_flag=True, help="End as soon as nothing is left to join.")
@metrics_option
@setting_option("--held-messages", "join.held_messages")
@setting_option("--replay-from", "join.replay_from")
@setting_option("--replay-until", "join.replay_until")
@setting_option("--batch-messages", "join.batch_messages")
def join(settings: Settings, deployment: str, drain: bool, metrics: str | None) -> None:
    """Join the shadow log with the live log and write pairs and ledger to PostgreSQL, each exactly once."""
    leave_out_pandas()
    collect_rarely()
    with stop_on_signals() as stop:
        Joiner(
            settings,
            deployment,
            stop,
            drain=drain,
            metrics=metrics,
            on_registered=lambda connection, deployment_id: record_plan(
                connection, deployment_id, settings.verdict, given="verdict" in settings.model_fields_set
            ),
        ).run()
