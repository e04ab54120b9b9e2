"""`gnomon dlq`: list, show and replay the captures that could not become a pair."""

from contextlib import closing
from dataclasses import asdict
from typing import Any

import rich_click as click

from gnomon_consumer.cli.json_option import echo_json, json_option
from gnomon_consumer.cli.options import settings_options
from gnomon_consumer.database.connections import Session, connect
from gnomon_consumer.dead_letters import Letter, LiveBytes, letters
from gnomon_consumer.dead_letters import replay as replay_letters
from gnomon_consumer.runtime.json_text import json_text
from gnomon_consumer.runtime.visible import visible
from gnomon_consumer.scorer.worker.models import describe
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import GnomonError


@click.group()
def dlq() -> None:
    """List, show and replay dead letters: sampled captures that could not become pairs."""


def _connected(settings: Settings) -> closing[Session]:
    return closing(connect(settings.require_database_url(), "gnomon dlq"))


def _as_json(letter: Letter) -> dict[str, Any]:
    return {**asdict(letter), "recorded_at": letter.recorded_at.isoformat()}


@dlq.command("list")
@settings_options(stream=True, database=True, kafka=False)
@click.option("--deployment", metavar="NAME", help="Only dead letters of this deployment.")
@json_option("Print one JSON list.")
def list_(settings: Settings, deployment: str | None, as_json: bool) -> None:
    """List the dead letters with their coordinates and reasons."""
    with _connected(settings) as connection:
        found = letters(connection, settings.require_stream(), deployment)
    if as_json:
        echo_json([_as_json(letter) for letter in found])
        return
    for one in found:
        place = f"{one.source_partition}/{one.source_offset}"
        line = f"{one.deployment}  {place}  {one.request_id or '-'}  {one.stage}: {one.reason}: {one.detail}"
        click.echo(visible(line))
    click.echo(f"{len(found)} dead letter(s)")


@dlq.command()
@settings_options(stream=True, database=True)
@click.argument("partition", type=click.IntRange(0))
@click.argument("offset", type=click.IntRange(0))
@click.option("--deployment", metavar="NAME", help="Only dead letters of this deployment.")
def show(settings: Settings, partition: int, offset: int, deployment: str | None) -> None:
    """Show one dead letter as JSON, with its bytes (hex) if Kafka still holds them and this user may read them."""
    with _connected(settings) as connection:
        found = letters(connection, settings.require_stream(), deployment, (partition, offset))
    if not found:
        raise GnomonError(f"no dead letter at {partition}/{offset}")
    live = LiveBytes(settings)
    try:
        bytes_ = live.read(partition, offset)
    finally:
        live.close()
    held = None if bytes_ is None else {"key": bytes_[0].decode("utf-8", "replace"), "value": bytes_[1].hex()}
    click.echo(json_text({"letters": [_as_json(letter) for letter in found], "live": held}, pretty=True))


@dlq.command()
@settings_options(stream=True, database=True)
@click.option("--deployment", required=True, metavar="NAME", help="The deployment whose dead letters are scored again.")
@click.option("--model", "location", required=True, metavar="FILE", help="The deployment's own model.")
@click.option("--at", metavar="PARTITION/OFFSET", help="Only the dead letter at these coordinates; default: all.")
@click.option(
    "--provider", default="CPUExecutionProvider", show_default=True, help="ONNX Runtime's execution provider."
)
@click.option("--signature", metavar="FILE", help="The deployment's sidecar, if it has one.")
@json_option("Print one JSON list.")
def replay(
    settings: Settings,
    deployment: str,
    location: str,
    at: str | None,
    provider: str,
    signature: str | None,
    as_json: bool,
) -> int:
    """Score dead letters again at their original coordinates and move those that succeed to the pairs.

    Each is moved exactly once, even if the command runs several times or in parallel. Exit status 1 if any remains.
    """
    seconds, authorization = settings.score.call_seconds, settings.score.authorization
    spec = describe(location, None, None, None, provider, signature, seconds, authorization)
    with _connected(settings) as connection:
        chosen = letters(connection, settings.require_stream(), deployment, None if at is None else _place(at))
        done = list(replay_letters(settings, connection, spec, deployment, chosen))
    if as_json:
        echo_json([{**_as_json(one.letter), "outcome": one.outcome} for one in done])
    else:
        for one in done:
            click.echo(visible(f"{one.letter.source_partition}/{one.letter.source_offset}  {one.outcome}"))
    return int(any(one.outcome.startswith("stays") for one in done))


def _place(text: str) -> tuple[int, int]:
    partition, slash, offset = text.partition("/")
    if not slash or not partition.isdigit() or not offset.isdigit():
        raise click.BadParameter(f"{text}: not PARTITION/OFFSET", param_hint="--at")
    return int(partition), int(offset)
