"""`gnomon doctor`: check the installation and the ledger."""

from dataclasses import asdict

import rich_click as click

from gnomon_consumer.cli.json_option import echo_json, json_option
from gnomon_consumer.cli.options import settings_options
from gnomon_consumer.doctor import examine, exit_status
from gnomon_consumer.runtime.redaction import redact
from gnomon_consumer.runtime.visible import visible
from gnomon_consumer.settings import Settings


@click.command()
@settings_options(stream=True, database=True)
@click.option(
    "--model",
    "location",
    metavar="MODEL",
    help="Load this model as `gnomon score` does, and show how its outputs are read.",
)
@click.option("--signature", metavar="FILE", help="The model's sidecar.")
@json_option("Print one JSON list.")
def doctor(settings: Settings, location: str | None, signature: str | None, as_json: bool) -> int:
    """Check sandbox, broker, topics, schemas, database, partitions, ledger, orphans and producers; print remedies.

    With --model it also shows which outputs of the model are read as value, label, scores and classes, and whether the
    model answers rows that are generated from the stream's features.

    Status 1 if a check fails, 3 if a dependency is unreachable.
    """
    findings = list(examine(settings))
    if location is not None:
        from gnomon_consumer.doctor.model import examine_model

        findings += examine_model(settings, location, signature)
    if as_json:
        echo_json([asdict(finding) for finding in findings], redact)
    else:
        for finding in findings:
            click.echo(visible(redact(f"{finding.status:<11}  {finding.check}: {finding.text}")))
            if finding.remedy:
                click.echo(visible(redact(f"             -> {finding.remedy}")))
    return exit_status(findings)
