"""`gnomon demo`: the whole pipeline on real flights, with embedded servers."""

import json
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import rich_click as click
from rich.console import Console

from gnomon_consumer.quickstart import demo as flights_demo
from gnomon_consumer.quickstart.view import view_for
from gnomon_consumer.reports import Answer
from gnomon_consumer.reports.terminal import table
from gnomon_schemas.errors import GnomonError


@click.command()
@click.option(
    "--captures",
    type=click.IntRange(1, flights_demo.ALL_CAPTURES),
    default=flights_demo.ALL_CAPTURES,
    show_default=True,
    help="How many flights to replay, from 1 April 2013 on.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo-output"),
    show_default=True,
    help="Folder for models, configuration, logs and report; replaces those of an earlier demo.",
)
@click.option("--keep", is_flag=True, help="Keep the database in that folder, for `gnomon demo --open`.")
@click.option("--open", "reopen", is_flag=True, help="Run no demo: serve the database that --keep kept, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the reports.")
def demo(captures: int, output: Path, keep: bool, reopen: bool, as_json: bool) -> None:
    """Replay the flights of 2013 through a live model, a challenger and a control, and report.

    Needs neither Docker nor root nor a network: Kafka and PostgreSQL are embedded and end with the demo.
    """
    signal.signal(signal.SIGTERM, _leave)
    plan = flights_demo.Demo(output.absolute(), captures, keep)
    if reopen:
        flights_demo.reopen(plan, click.echo)
        return
    outcome, answers = flights_demo.run(plan, view_for(Console(stderr=True)), tables=not as_json)
    if as_json:
        click.echo(json.dumps(outcome))
    else:
        _show(outcome, answers, plan)
    if wrong := flights_demo.out_of_balance(outcome):
        raise GnomonError(f"the ledger does not close: {'; '.join(wrong)}")


def _show(outcome: dict[str, Any], answers: list[Answer], plan: flights_demo.Demo) -> None:
    console = Console()
    for answer in answers:
        console.print()
        console.print(table(answer))
    captured, labels, seconds = outcome["captured"], outcome["labels"], outcome["seconds"]
    console.print(
        f"\n{captured:,} live predictions and {labels:,} outcomes in {seconds:.0f} s"
        f" ({outcome['captures_per_second']:,} predictions a second).",
        highlight=False,
    )
    if outcome["report"]:
        console.print(f"The whole report is one file: {outcome['report']}", highlight=False, soft_wrap=True)
    hint = f"gnomon demo --open --output {plan.output}" if plan.keep else "gnomon demo --keep, then gnomon demo --open"
    console.print(f"To ask the database yourself: {hint}", highlight=False, soft_wrap=True)


def _leave(_signum: int, _frame: FrameType | None) -> None:
    """SIGTERM takes the way of Ctrl-C, which stops every child, with its own status."""
    sys.exit(128 + signal.SIGTERM)
