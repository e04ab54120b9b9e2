"""`gnomon streams`: show and set the settings of a stream, before or after its first join."""

from typing import Any

import rich_click as click

from gnomon_consumer.cli.json_option import echo_json, json_option
from gnomon_consumer.cli.options import setting_option, settings_options
from gnomon_consumer.database.connections import connect
from gnomon_consumer.database.stream_settings import declare, plain, settings_of
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import ConfigurationError


@click.group()
def streams() -> None:
    """Show and set the settings of a stream: task, classes, tolerance, labels, retention."""


@streams.command()
@settings_options(stream=True, database=True, kafka=False)
@json_option()
def show(settings: Settings, as_json: bool) -> None:
    """Show the settings of a stream."""
    with connect(settings.require_database_url(), "gnomon streams") as connection:
        found = {name: plain(value) for name, value in settings_of(connection, settings.require_stream()).items()}
    if as_json:
        echo_json(found)
        return
    for name, value in found.items():
        click.echo(f"{name:20} {_format_value(name, value)}")


def _format_value(name: str, value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if value is None:
        return "inferred from answers and labels" if name == "task" else "not declared"
    return str(value)


@streams.command(name="set")
@settings_options(stream=True, database=True, kafka=False)
@setting_option("--task", "stream_settings.task", metavar="binary|multiclass|regression|ranking")
@setting_option("--positive", "stream_settings.positive_class", metavar="CLASS")
@setting_option("--negative", "stream_settings.negative_class", metavar="CLASS")
@setting_option("--class", "stream_settings.classes", metavar="CLASS", multiple=True)
@setting_option("--tolerance", "stream_settings.value_tolerance", metavar="NUMBER")
@setting_option("--relative-tolerance", "stream_settings.relative_tolerance", metavar="SHARE")
@setting_option("--horizon", "stream_settings.horizons", metavar="SPAN", multiple=True)
@setting_option("--label-kind", "stream_settings.label_kind", metavar="explicit|absence_is_negative")
@setting_option("--label-choice", "stream_settings.label_choice", metavar="first|last")
@setting_option("--grace", "stream_settings.label_grace", metavar="SPAN")
@setting_option("--retention", "stream_settings.retention", metavar="SPAN")
@setting_option("--time-zone", "stream_settings.time_zone", metavar="ZONE")
@setting_option("--granularity", "stream_settings.granularity", metavar="day|month")
def set_(settings: Settings) -> None:
    """Store the options given here and the settings of `[stream_settings]` in the configuration.

    A new stream is created. An empty text removes a setting. After a change of the tolerance, the agreement of
    all stored pairs is counted again.
    """
    declared = settings.stream_settings
    if not declared.model_dump(exclude_none=True):
        raise ConfigurationError("nothing to set; see `gnomon streams set --help`, or [stream_settings] of gnomon.toml")
    stream = settings.require_stream()
    with connect(settings.require_database_url(), "gnomon streams") as connection:
        changed = declare(connection, stream, declared)
    click.echo(f"{stream}: {', '.join(changed)} changed" if changed else f"{stream}: nothing changed")
