"""The options that all report commands share, and printing an answer."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import rich_click as click
from rich.console import Console

from gnomon_consumer.cli.json_option import asked_pretty, pretty_option
from gnomon_consumer.reports import Answer
from gnomon_consumer.reports.query import LIVE_VERSION
from gnomon_consumer.reports.terminal import as_csv, as_json, table
from gnomon_consumer.times import instant
from gnomon_schemas.errors import ConfigurationError

_QUOTED = "gnomon.quote_formulas"
_LIVE_VERSION = "gnomon.live_version"


class Moment(click.ParamType[datetime]):
    """A time in ISO 8601; without a zone it is UTC."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the text as a datetime with a zone."""
        if isinstance(value, datetime):
            return value
        try:
            return instant("time", value)
        except ValueError as error:
            self.fail(str(error).removeprefix("time: "), param, ctx)


def segment_of(pairs: tuple[str, ...]) -> dict[str, str] | None:
    """Return `("origin=JFK",)` and --live-version as one mapping, None without either. Raises ConfigurationError."""
    found: dict[str, str] = {}
    context = click.get_current_context(silent=True)
    if context is not None and (version := context.meta.get(_LIVE_VERSION)) is not None:
        found[LIVE_VERSION] = version
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ConfigurationError(f"--segment {pair}: not key=value")
        found[key] = value
    return found or None


def show(answer: Answer, output: str) -> None:
    """Print an answer in the format of the option --format."""
    context = click.get_current_context(silent=True)
    chosen = {} if context is None else context.meta
    if output == "json":
        click.echo(as_json(answer, asked_pretty()))
    elif output == "csv":
        click.echo(as_csv(answer, chosen.get(_QUOTED, True)), nl=False)
    else:
        Console().print(table(answer))


def format_option(command: Any) -> Any:
    """Add --format, which is passed to `show`, and its related options."""
    command = click.option(
        "--quote-formulas/--keep-formulas",
        default=True,
        show_default=True,
        expose_value=False,
        callback=lambda ctx, _, value: ctx.meta.update({_QUOTED: value}),
        help="CSV: put an apostrophe before a text that a spreadsheet would run as a formula.",
    )(command)
    command = pretty_option("JSON: indent the output, one value per line.")(command)
    return click.option(
        "--format",
        "output",
        type=click.Choice(["table", "json", "csv"]),
        default="table",
        show_default=True,
        help="Output format.",
    )(command)


def _segment_options(command: Any) -> Any:
    """Add --segment and --live-version; `segment_of` makes one mapping of both."""
    command = click.option(
        "--live-version",
        metavar="VERSION",
        expose_value=False,
        callback=lambda ctx, _, value: ctx.meta.update({_LIVE_VERSION: value}),
        help="Only requests that this version of the live model answered.",
    )(command)
    return click.option(
        "--segment", multiple=True, metavar="KEY=VALUE", help="Only requests in this segment; repeatable."
    )(command)


pair_options: dict[str, Callable[[Any], Any]] = {
    "deployment": click.option("--deployment", metavar="NAME", help="Only this deployment; default: all."),
    "since": click.option("--since", type=Moment(), help="Only requests at or after this time (event time)."),
    "until": click.option("--until", type=Moment(), help="Only requests before this time (event time)."),
    "segment": _segment_options,
    "time_zone": click.option(
        "--time-zone", metavar="ZONE", help="Time zone of hours and days; default: the stream's, see `streams set`."
    ),
}
