"""`gnomon report html`: the report as one file."""

from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path

import rich_click as click

from gnomon_consumer.cli.options import settings_options
from gnomon_consumer.cli.report_options import Moment, pair_options, segment_of
from gnomon_consumer.reports.query import Question, open_reports
from gnomon_consumer.runtime.visible import visible
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import ConfigurationError, GnomonError


@click.command()
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The file to write."
)
@click.option("--deployment", metavar="NAME", help="Only this challenger, and the control; default: all.")
@click.option("--since", type=Moment(), help="Only requests at or after this time (event time).")
@click.option("--until", type=Moment(), help="Only requests before this time (event time).")
@pair_options["segment"]
@pair_options["time_zone"]
@settings_options(stream=True, database=True, kafka=False)
def html(
    settings: Settings,
    output: Path,
    deployment: str | None,
    since: datetime | None,
    until: datetime | None,
    segment: tuple[str, ...],
    time_zone: str | None,
) -> None:
    """Write the report as one HTML file.

    The file needs no other file, no script and no network. It works on screen, in print and with a screen reader.
    """
    # Jinja2 and matplotlib take a second to load: only this command loads them.
    from gnomon_consumer.reports.hints import segment_hint
    from gnomon_consumer.reports.html import render
    from gnomon_consumer.reports.page import gather

    question = Question(
        settings.require_stream(),
        deployment,
        since=since,
        until=until,
        segment=segment_of(segment),
        time_zone=time_zone,
    )
    url = settings.require_database_url()
    with ExitStack() as opened:
        connection = opened.enter_context(open_reports(url))
        others = []
        # The role may have one connection only; then the questions run one after the other.
        with suppress(GnomonError):
            others.append(opened.enter_context(open_reports(url)))
        page = gather(connection, question, datetime.now(UTC), others)
        if not any(row.get("n") for row in page.reports["agreement"]) and (
            remark := segment_hint(connection, question)
        ):
            click.echo(visible(remark), err=True)
    try:
        output.write_text(render(page), encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"--output {output}: {error.strerror}") from error
    click.echo(f"{output}")
