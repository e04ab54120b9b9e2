"""`gnomon report html`: the report as one file."""

from datetime import UTC, datetime
from pathlib import Path

import rich_click as click

from gnomon_consumer.cli.options import settings_options
from gnomon_consumer.cli.report import Moment, segment_of
from gnomon_consumer.reports.query import Question, open_reports
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import ConfigurationError


@click.command()
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The file to write."
)
@click.option("--deployment", metavar="NAME", help="This challenger; default: every one. The control stands beside it.")
@click.option("--since", type=Moment(), help="From this event time on.")
@click.option("--until", type=Moment(), help="Before this event time.")
@click.option("--segment", multiple=True, metavar="KEY=VALUE", help="Only this segment; repeatable.")
@click.option("--time-zone", default="UTC", show_default=True, help="Whose hours and days are meant.")
@settings_options(stream=True, database=True, kafka=False)
def html(
    settings: Settings,
    output: Path,
    deployment: str | None,
    since: datetime | None,
    until: datetime | None,
    segment: tuple[str, ...],
    time_zone: str,
) -> None:
    """The report as one HTML file.

    It needs nothing beside it: no script, no address; it reads on a screen, on paper and aloud.
    """
    # Jinja2 and matplotlib take a second to load: only this command pays it.
    from gnomon_consumer.reports.html import render
    from gnomon_consumer.reports.page import gather

    question = Question(settings.require_stream(), deployment, since, until, segment_of(segment), time_zone)
    with open_reports(settings.require_database_url()) as connection:
        page = gather(connection, question, datetime.now(UTC))
    try:
        output.write_text(render(page), encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"--output {output}: {error.strerror}") from error
    click.echo(f"{output}")
