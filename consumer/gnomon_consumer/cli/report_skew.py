"""`gnomon report skew`: compare features recomputed offline with the features that were sent."""

from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import rich_click as click

from gnomon_consumer.cli.options import settings_options
from gnomon_consumer.cli.report_options import format_option, pair_options, segment_of, show
from gnomon_consumer.database.connections import Access, connect
from gnomon_consumer.reports import Question, hints
from gnomon_consumer.reports.catalogue import SKEW
from gnomon_consumer.reports.query import Answer, ask_report
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import ConfigurationError


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--feature", "features", multiple=True, metavar="NAME", help="Only this feature; repeatable.")
@click.option(
    "--tolerance", type=click.FloatRange(0), default=1e-6, show_default=True,
    help="Two numbers differ if |file - live| is more than this times max(1, |live|, |file|).",
)  # fmt: skip
@pair_options["deployment"]
@pair_options["since"]
@pair_options["until"]
@pair_options["segment"]
@pair_options["time_zone"]
@format_option
@settings_options(stream=True, database=True, kafka=False)
def skew(
    settings: Settings, file: Path, features: tuple[str, ...], tolerance: float, output: str, **asked: Any
) -> None:
    """Compare features recomputed offline, in FILE, with the features that the live service sent.

    FILE (CSV with a header, Parquet or JSON-lines) has a column `request_id` and a column named after each feature.
    This finds columns that are wrong but plausible, such as shifted or swapped ones: their distribution looks right,
    so no other report shows them.
    """
    # pyarrow is slow to load: only this command loads it.
    from gnomon_consumer.reports import skew as files
    from gnomon_consumer.reports.files import read_table

    stream = settings.require_stream()
    # One transaction, rolled back at its end: the file is in temporary tables, and a pooler keeps those no longer.
    with (
        closing(connect(settings.require_database_url(), "gnomon report skew", Access.READ)) as connection,
        connection.transaction(force_rollback=True),
    ):
        columns = files.feature_columns(connection, stream)
        if not columns:
            streams = hints.names(connection, hints.SQL["streams"])
            raise ConfigurationError(
                f"stream {stream} has sent no feature yet"
                if stream in streams
                else f"no stream {stream}; {hints.listed('stream', streams)}"
            )
        texts = [files.KEY, *(name for name, column in columns.items() if column.kind == "text")]
        table, names = files.chosen(read_table(file, texts), columns, features, str(file))
        files.copy_file(connection, table, columns)
        answer = ask_report(connection, SKEW, _question(stream, names, tolerance, **asked))
    show(answer, output)
    if output == "table":
        for line in _meeting(answer):
            click.echo(line)


def _question(
    stream: str, features: list[str], tolerance: float, deployment: str | None, since: datetime | None,
    until: datetime | None, segment: tuple[str, ...], time_zone: str | None,
) -> Question:  # fmt: skip
    extra = {"features": features, "tolerance": tolerance}
    return Question(
        stream, deployment, since=since, until=until, segment=segment_of(segment), time_zone=time_zone, extra=extra
    )


def _meeting(answer: Answer) -> list[str]:
    """Return one line per deployment: how many rows of each side have no partner."""
    counts = {row["deployment"]: (row["only_live"], row["only_file"]) for row in answer.rows if row["deployment"]}
    return [
        f"{name}: {live:,} pairs are not in the file; {file:,} rows of the file have no pair (not sampled, or from"
        " another period)."
        for name, (live, file) in counts.items()
    ]
