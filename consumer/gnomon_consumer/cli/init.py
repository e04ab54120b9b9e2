"""`gnomon init`: a commented configuration file to start from."""

from pathlib import Path

import rich_click as click

from gnomon_consumer.quickstart.configuration import commented_file
from gnomon_consumer.settings import DEFAULT_FILE
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
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def init(stream: str, output: Path, force: bool) -> None:
    """Write a gnomon.toml that shows every setting, its limits and its default."""
    text = commented_file(checked_name("stream", stream))
    try:
        with output.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigurationError(f"{output} is there already; --force replaces it") from None
    except OSError as error:
        raise ConfigurationError(f"{output} cannot be written: {error.strerror}") from None
    click.echo(f"{output}: set bootstrap_servers and database_url, then `gnomon topics create` and `gnomon db upgrade`")
