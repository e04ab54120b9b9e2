"""`gnomon verdict`: whether the challenger may replace the live model."""

from dataclasses import asdict
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any

import psycopg
import rich_click as click
from psycopg.rows import DictRow
from rich.console import Console

from gnomon_consumer.cli.options import settings_options
from gnomon_consumer.cli.report_options import Moment
from gnomon_consumer.database.connections import Access, Connection, explain
from gnomon_consumer.runtime.logging import get_logger
from gnomon_consumer.runtime.signals import stop_on_signals
from gnomon_consumer.settings import Settings
from gnomon_consumer.verdict import events, render
from gnomon_consumer.verdict.database import deployment_row, opened
from gnomon_consumer.verdict.expectation import expectation_of
from gnomon_consumer.verdict.http_gate import serve
from gnomon_consumer.verdict.rules.answer import Decision
from gnomon_consumer.verdict.rules.evidence import finite
from gnomon_consumer.verdict.rules.planning import expect, least_day_sd
from gnomon_consumer.verdict.service import Decided, decide_as_of, decide_now, export, stored_verdict
from gnomon_consumer.verdict.service import dry_run as dry_run_now
from gnomon_consumer.verdict.verification import verify
from gnomon_schemas.errors import ConfigurationError, GnomonError

READ, WRITE = Access.READ, Access.WRITE
STATUS = {
    Decision.PROMOTE: 0,
    Decision.ROLLBACK: 0,
    Decision.HOLD: 10,
    Decision.REJECT: 11,
    Decision.INSUFFICIENT_DATA: 12,
}


@click.group(invoke_without_command=True)
@settings_options(stream=True, database=True, kafka=False)
@click.option("--deployment", metavar="NAME", help="The deployment; default: the stream's only challenger.")
@click.option(
    "--format", "output", type=click.Choice(["table", "json", "markdown"]), default="table", show_default=True
)
@click.option(
    "--as-of", type=Moment(), help="Decide with the sealed cohorts and plans of that time; nothing is stored."
)
@click.option(
    "--dry-run", is_flag=True, help="Decide, but store nothing and send no events: for roles that can only read."
)
@click.option("--verify", type=int, metavar="ID", help="Compute a stored verdict again; status 1 if it differs.")
@click.option("--plan", "planning", is_flag=True, help="Show what to expect of the plan: days, margins, cost.")
@click.option("--day-sd", type=click.FloatRange(min=0, max=1e12, min_open=True), metavar="SD",
              help="With --plan: standard deviation of the daily difference to assume, before data exist.")  # fmt: skip
@click.option("--differ", type=click.FloatRange(min=0, max=1, min_open=True, max_open=True), metavar="SHARE",
              help="With --plan and --rows-a-day, in place of --day-sd: the share of requests on which both sides are"
              " expected to differ.")  # fmt: skip
@click.option("--rows-a-day", type=click.FloatRange(min=0, max=1e12, min_open=True), metavar="N",
              help="With --plan: expected number of scored requests per day.")  # fmt: skip
@click.option(
    "--serve", "address", metavar="HOST:PORT", help="Serve the verdict over HTTP, for Argo Rollouts and Flagger."
)
@click.pass_context
def verdict(
    context: click.Context,
    settings: Settings,
    deployment: str | None,
    output: str,
    as_of: datetime | None,
    dry_run: bool,
    verify: int | None,
    planning: bool,
    day_sd: float | None,
    differ: float | None,
    rows_a_day: float | None,
    address: str | None,
) -> int:
    """Decide whether the challenger may replace the live model.

    Exit status: PROMOTE 0, HOLD 10, REJECT 11, INSUFFICIENT_DATA 12; ROLLBACK 0: the former live model is better by
    the same rules.
    """
    context.obj = settings
    if context.invoked_subcommand is not None:
        return 0
    if verify is not None:
        return _verify(settings, verify)
    if planning:
        return _plan(settings, deployment, output, day_sd, differ, rows_a_day)
    if address is not None:
        return _serve(settings, address, dry_run)
    with opened(settings.require_database_url(), READ if as_of or dry_run else WRITE) as connection:
        row = deployment_row(connection, settings.require_stream(), deployment)
        decided = decide_as_of(connection, row, as_of) if as_of else _decide(connection, settings, row, dry_run)
        if not as_of and not dry_run:
            send_events(connection, settings)
    _show(decided, output)
    return STATUS[decided.verdict.decision]


def _decide(connection: Connection, settings: Settings, row: DictRow, dry: bool) -> Decided:
    """Decide now; store the verdict unless it is a dry run. Raises ConfigurationError if the role may not store it."""
    given = "verdict" in settings.model_fields_set
    if dry:
        return dry_run_now(connection, row, settings.verdict, given)
    try:
        return decide_now(connection, row, settings.verdict, given)
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigurationError(f"{explain(error)}; or decide without storing the verdict: --dry-run") from error


def send_events(connection: Connection, settings: Settings) -> None:
    """Send the events in the outbox; if the receiver is unreachable, print a line: the next command sends them."""
    if settings.events.url is None:
        return
    secret = settings.events.secret
    _, problem = events.deliver(connection, settings.events.url, secret.get_secret_value() if secret else None)
    if problem is not None:
        click.echo(f"gnomon: events wait in the outbox: {problem}", err=True)


def _serve(settings: Settings, address: str, dry: bool) -> int:
    url, stream = settings.require_database_url(), settings.require_stream()
    log = get_logger("verdict", stream=stream)

    def decide(deployment: str | None) -> dict[str, Any]:
        try:
            with opened(url, READ if dry else WRITE) as connection:
                return _decide(connection, settings, deployment_row(connection, stream, deployment), dry).as_json()
        except psycopg.Error as error:
            raise explain(error) or GnomonError(" ".join(str(error).split())) from error

    def send() -> None:
        if settings.events.url is None or dry:
            return
        try:
            with opened(url) as connection:
                send_events(connection, settings)
        except (GnomonError, psycopg.Error) as error:
            log.warning("events wait in the outbox", reason=" ".join(str(error).split()))

    with stop_on_signals() as stop:
        serve(address, decide, stop, send, lambda port: log.info("serving", port=port))
    return 0


def _show(decided: Decided, output: str) -> None:
    if output == "json":
        click.echo(render.as_json(decided.as_json()))
    elif output == "markdown":
        click.echo(render.as_markdown(decided), nl=False)
    else:
        Console(highlight=False).print(render.as_table(decided))


def _verify(settings: Settings, verdict_id: int) -> int:
    with opened(settings.require_database_url(), READ) as connection:
        row = stored_verdict(connection, verdict_id)
        found = verify(connection, deployment_row(connection, row["stream"], row["deployment"]), row)
    for problem in found.problems:
        click.echo(problem)
    by = f" ({found.versions})" if found.versions else ""
    click.echo(f"verdict {verdict_id}, {row['decision']}: {'not equal' if found.problems else 'equal'}{by}")
    return 1 if found.problems else 0


def _plan(
    settings: Settings,
    deployment: str | None,
    output: str,
    day_sd: float | None,
    differ: float | None,
    rows_a_day: float | None,
) -> int:
    for option, given in (("--day-sd", day_sd), ("--rows-a-day", rows_a_day), ("--differ", differ)):
        if given is not None and not isfinite(given):
            raise ConfigurationError(f"{option} {given}: must be a finite number above 0")
    source = "as given"
    if differ is not None:
        if day_sd is not None or rows_a_day is None:
            raise ConfigurationError("--differ replaces --day-sd and needs --rows-a-day")
        try:
            day_sd = least_day_sd(settings.verdict, differ, rows_a_day)
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
        source = f"at least: {differ:.3g} of {rows_a_day:,.0f} requests a day differ"
    if day_sd is not None:
        expected = expect(settings.verdict, day_sd, source, rows_a_day=rows_a_day)
    elif settings.database_url is None:
        raise ConfigurationError(
            "before anything runs, --plan needs --day-sd, or --differ with --rows-a-day; later, a database"
            " (--database-url)"
        )
    else:
        with opened(settings.require_database_url(), READ) as connection:
            expected = expectation_of(connection, settings, deployment, rows_a_day)
    if output == "table":
        Console(highlight=False).print(render.expectation(expected))
    else:
        click.echo(render.as_json(finite(asdict(expected) | {"feasible": expected.feasible})))
    return 0 if expected.feasible else 1


@verdict.command(name="export")
@click.argument("verdict_id", type=int, metavar="ID")
@click.option("-o", "--output", type=click.Path(dir_okay=False), metavar="FILE", help="Default: standard output.")
@click.pass_obj
def export_command(settings: Settings, verdict_id: int, output: str | None) -> None:
    """Write a stored verdict as one JSON file; with it anyone can compute the decision again (see docs/verdict.md)."""
    with opened(settings.require_database_url(), READ) as connection:
        whole: dict[str, Any] = export(stored_verdict(connection, verdict_id))
    text = render.as_json(whole)
    if output is None:
        click.echo(text)
        return
    try:
        Path(output).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{output} cannot be written: {error.strerror}") from error
