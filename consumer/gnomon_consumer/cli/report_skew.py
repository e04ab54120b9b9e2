"""`gnomon report skew`: features recomputed offline beside those that were sent."""

from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import rich_click as click

from gnomon_consumer.cli.options import settings_options
from gnomon_consumer.cli.report import format_option, pair_options, segment_of, show
from gnomon_consumer.database import connect
from gnomon_consumer.reports import Question, hints
from gnomon_consumer.reports.catalogue import SKEW
from gnomon_consumer.reports.query import Answer, ask_report
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import ConfigurationError


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--feature", "features", multiple=True, metavar="NAME", help="Only this column; repeatable.")
@click.option(
    "--tolerance", type=click.FloatRange(0), default=1e-6, show_default=True,
    help="Numbers differ where |file - live| exceeds this times max(1, |live|, |file|).",
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
    """Features recomputed offline, in FILE, beside those that the live service sent.

    FILE (CSV with a header, Parquet or JSON-lines) has a column `request_id` and one for each feature, by its name. A
    column that is wrong but plausible, shifted or swapped, has the right distribution and shows nowhere else.
    """
    # pyarrow is slow to load: only this command pays it.
    from gnomon_consumer.reports import skew as files
    from gnomon_consumer.reports.files import read_table

    stream = settings.require_stream()
    with closing(connect(settings.require_database_url(), "gnomon report skew")) as connection:
        connection.autocommit = True
        columns = files.feature_columns(connection, stream)
        if not columns:
            streams = hints.names(connection, "streams", "name")
            raise ConfigurationError(
                f"stream {stream} has sent no feature yet"
                if stream in streams
                else f"no stream {stream}; {hints.listed('stream', streams)}"
            )
        texts = [files.KEY, *(name for name, column in columns.items() if column.kind == "text")]
        table, names = files.chosen(read_table(file, texts), columns, features, str(file))
        files.put(connection, table, columns)
        answer = ask_report(connection, SKEW, _question(stream, names, tolerance, **asked))
    show(answer, output)
    if output == "table":
        for line in _meeting(answer):
            click.echo(line)


def _question(
    stream: str, features: list[str], tolerance: float, deployment: str | None, since: datetime | None,
    until: datetime | None, segment: tuple[str, ...], time_zone: str,
) -> Question:  # fmt: skip
    extra = {"features": features, "tolerance": tolerance}
    return Question(stream, deployment, since, until, segment_of(segment), time_zone, extra)


def _meeting(answer: Answer) -> list[str]:
    """How many rows of each side found nobody, in words, a line a deployment."""
    counts = {row["deployment"]: (row["only_live"], row["only_file"]) for row in answer.rows if row["deployment"]}
    return [
        f"{name}: {live:,} pairs are not in the file; {file:,} rows of the file are in no pair (not sampled, or of"
        " another period)."
        for name, (live, file) in counts.items()
    ]
