"""`gnomon report`: one command per report, with the same options for all."""

from datetime import datetime
from typing import Any

import rich_click as click

from gnomon_consumer.cli.options import settings_options
from gnomon_consumer.cli.report_check import check
from gnomon_consumer.cli.report_html import html
from gnomon_consumer.cli.report_options import format_option, pair_options, segment_of, show
from gnomon_consumer.cli.report_skew import skew
from gnomon_consumer.reports import REPORTS, Question, Report, ask
from gnomon_consumer.reports.hints import hint, versions_hint
from gnomon_consumer.reports.query import open_reports
from gnomon_consumer.runtime.visible import visible
from gnomon_consumer.settings import Settings

# What the arguments of single reports take, shown in their help.
_METAVARS = {
    "against": "NAME",
    "bins": "N",
    "compare": "RULE",
    "drawn": "yes|no",
    "exact": "yes|no",
    "expression": "SQL",
    "horizon": "SPAN",
    "k": "N",
    "key": "KEY",
    "reference": "NAME",
    "slice": "SLICE",
    "step": "SPAN",
    "tolerance": "NUMBER",
    "top": "N",
    "unit": "UNIT",
}


@click.group()
def report() -> None:
    """Print reports about the pairs in the database."""


def _command(kind: Report) -> click.Command:
    def run(
        settings: Settings,
        deployment: str | None,
        output: str,
        since: datetime | None = None,
        until: datetime | None = None,
        segment: tuple[str, ...] = (),
        time_zone: str | None = None,
        **extra: str | None,
    ) -> None:
        question = Question(
            settings.require_stream(),
            deployment,
            since=since,
            until=until,
            segment=segment_of(segment),
            time_zone=time_zone,
            extra=extra,
        )
        with open_reports(settings.require_database_url()) as connection:
            answer = ask(connection, kind.name, question)
            rows = list(answer.rows)
            if remark := hint(connection, question, rows) or versions_hint(connection, kind.name, question):
                click.echo(visible(remark), err=True)  # it repeats names that a service sent
        show(answer, output)

    run.__doc__ = f"{kind.summary}.\n\n{kind.note}"
    command: Any = settings_options(stream=True, database=True, kafka=False)(run)
    command = format_option(command)
    for name in reversed(kind.arguments):
        option = pair_options.get(name) or click.option(
            f"--{name.replace('_', '-')}", metavar=_METAVARS[name], help=kind.extra[name]
        )
        command = option(command)
    command = pair_options["deployment"](command)
    made: click.Command = click.command(kind.name.replace("_", "-"))(command)
    return made


for _report in REPORTS.values():
    report.add_command(_command(_report))


report.add_command(skew)
report.add_command(html)
report.add_command(check)
