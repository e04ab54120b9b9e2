"""`gnomon up` and `gnomon down`: embedded servers to try the hook in your own service."""

import shlex
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import rich_click as click

from gnomon_consumer.cli.json_option import echo_json, json_option
from gnomon_schemas.errors import GnomonError

folder_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("gnomon-data"),
    show_default=True,
    help="Where the database is kept.",
)


@click.command()
@folder_option
@json_option("Print one JSON object instead of shell lines.")
def up(folder: Path, as_json: bool) -> None:
    """Start an embedded Kafka and PostgreSQL and leave them up; print the environment variables that point to them.

    `eval "$(gnomon up)"` sets them in a shell. The database is upgraded and kept in the folder. The embedded Kafka
    keeps its topics in memory until `gnomon down`. Use it to try Gnomon on one machine: it has no security and no
    durability.
    """
    from gnomon_consumer.database.connections import engine_for
    from gnomon_consumer.quickstart import holder
    from gnomon_migrations import runner

    servers = holder.start(folder.absolute())
    runner.upgrade(engine_for(servers.database_url))
    if as_json:
        echo_json(asdict(servers))
        return
    click.echo(f"export GNOMON_BOOTSTRAP_SERVERS='{servers.bootstrap_servers}'")
    click.echo(f"export GNOMON_DATABASE_URL='{servers.database_url}'")
    click.echo(f"Kafka and PostgreSQL are up; `gnomon down --folder {shlex.quote(str(folder))}` stops them.", err=True)


@click.command()
@folder_option
def down(folder: Path) -> None:
    """Stop the servers of `gnomon up`. The database stays in its folder. Status 1 when no server is running."""
    from gnomon_consumer.quickstart import holder

    if not holder.stop(folder.absolute()):
        raise GnomonError(f"no server of `gnomon up` is running for {folder}")
    click.echo(f"stopped; the database stays in {folder / holder.DATABASE}")
