"""`gnomon demo`: the whole pipeline on real flights, with embedded servers."""

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import rich_click as click
from rich.console import Console

from gnomon_consumer.cli.json_option import echo_json, json_option
from gnomon_consumer.quickstart.demo import demo as flights_demo
from gnomon_consumer.quickstart.demo.folder import ALL_CAPTURES, Demo
from gnomon_consumer.quickstart.demo.view import view_for
from gnomon_consumer.reports import Answer
from gnomon_consumer.reports.terminal import table
from gnomon_schemas.errors import GnomonError


@click.command()
@click.option(
    "--captures",
    type=click.IntRange(1, ALL_CAPTURES),
    default=ALL_CAPTURES,
    show_default=True,
    help="How many flights to replay, starting on 1 April 2013.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo-output"),
    show_default=True,
    help="Folder for models, configuration, logs and report; files of an earlier demo are replaced.",
)
@click.option("--keep", is_flag=True, help="Keep the database in that folder, for `gnomon demo --open`.")
@click.option(
    "--open", "reopen", is_flag=True, help="Start no demo: serve the database of an earlier --keep until Ctrl-C."
)
@json_option("Print one JSON object instead of the reports.")
def demo(captures: int, output: Path, keep: bool, reopen: bool, as_json: bool) -> None:
    """Replay the flights of 2013 through a live model, a challenger and a control, and print the reports.

    It needs no Docker, no root and no network. Kafka and PostgreSQL are embedded and stop with the demo.
    """
    signal.signal(signal.SIGTERM, _leave)
    plan = Demo(output.absolute(), captures, keep)
    if reopen:
        flights_demo.reopen(plan, click.echo)
        return
    outcome, answers = flights_demo.run(plan, view_for(Console(stderr=True)), tables=not as_json)
    if as_json:
        echo_json(outcome)
    else:
        show(outcome, answers, plan)
    if wrong := flights_demo.out_of_balance(outcome):
        raise GnomonError(f"the ledger does not close: {'; '.join(wrong)}")


def show(outcome: dict[str, Any], answers: list[Answer], plan: Demo) -> None:
    """Print the reports, the verdicts and the next commands."""
    console = Console()
    for answer in answers:
        console.print()
        console.print(table(answer))
    console.print()
    for name, sentence in outcome["verdicts"].items():
        console.print(f"{name}: {sentence}", highlight=False)
    captured, labels, seconds = outcome["captured"], outcome["labels"], outcome["seconds"]
    console.print(
        f"\n{captured:,} live predictions and {labels:,} outcomes in {seconds:.0f} s"
        f" ({outcome['captures_per_second']:,} predictions a second).",
        highlight=False,
    )
    if outcome["report"]:
        console.print(f"The whole report is one file: {outcome['report']}", highlight=False, soft_wrap=True)
    hint = f"gnomon demo --open --output {plan.output}" if plan.keep else "gnomon demo --keep, then gnomon demo --open"
    console.print(f"To query the database yourself: {hint}", highlight=False, soft_wrap=True)


def _leave(_signum: int, _frame: FrameType | None) -> None:
    """Stop on SIGTERM as on Ctrl-C: every child is stopped; only the exit status differs."""
    sys.exit(128 + signal.SIGTERM)
