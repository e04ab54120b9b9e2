"""`gnomon init`: write a commented configuration file."""

from pathlib import Path

import rich_click as click

from gnomon_consumer.quickstart.configuration import commented_file
from gnomon_consumer.settings import DEFAULT_FILE, write_private
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.topics import checked_name


@click.command()
@click.option("--stream", default="my-stream", show_default=True, metavar="NAME", help="Name of the stream.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path(DEFAULT_FILE),
    show_default=True,
    help="The file to write.",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
def init(stream: str, output: Path, force: bool) -> None:
    """Write a gnomon.toml that shows every setting, its limits and its default."""
    text = commented_file(checked_name("stream", stream))
    try:
        write_private(output, text, replace=force)
    except FileExistsError:
        raise ConfigurationError(f"{output} exists already; --force replaces it") from None
    except OSError as error:
        raise ConfigurationError(f"{output} cannot be written: {error.strerror}") from None
    click.echo(f"{output}: set bootstrap_servers and database_url, then `gnomon topics create` and `gnomon db upgrade`")
