"""`gnomon doctor`: is everything in place, and does the ledger close?"""

import json
from dataclasses import asdict

import rich_click as click

from gnomon_consumer.cli.options import settings_options
from gnomon_consumer.doctor import examine, exit_status
from gnomon_consumer.settings import Settings


@click.command()
@settings_options(stream=True, database=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
def doctor(settings: Settings, as_json: bool) -> int:
    """Check sandbox, broker, topics, schemas, database, partitions, ledger, orphans and producers; say what to do.

    Status 1 when a check fails, 3 when a dependency is unreachable.
    """
    findings = list(examine(settings))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            remedy = f"\n             -> {finding.remedy}" if finding.remedy else ""
            click.echo(f"{finding.status:<11}  {finding.check}: {finding.text}{remedy}")
    return exit_status(findings)
