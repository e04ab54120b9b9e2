"""`gnomon schemas`: the feature record of a stream."""

import json
import sys
from pathlib import Path
from typing import Literal

import rich_click as click

from gnomon_consumer import feature_schemas as service
from gnomon_consumer.cli.json_option import echo_json, json_option
from gnomon_consumer.cli.options import settings_options
from gnomon_consumer.runtime.visible import visible
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import SchemaError
from gnomon_schemas.features import Feature, FeatureSchema

Required = Literal["backward", "forward", "full", "none"]


@click.group()
def schemas() -> None:
    """Infer, compare, publish and list the feature records of a stream."""


@schemas.command()
@click.argument("sample", type=click.Path(path_type=Path))
@click.option("--name", default="Features", show_default=True, help="Name of the record.")
@click.option("--leave-out", multiple=True, metavar="COLUMN", help="A column that is not a feature; repeatable.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write; default: standard output.")
def infer(sample: Path, name: str, leave_out: tuple[str, ...], output: Path | None) -> None:
    """Infer a feature record from SAMPLE: a CSV, Parquet or JSON-lines file, which may be compressed.

    A column with an empty value becomes a union with null. Ids with more than 64 bits or with leading zeros become
    strings. An index of pandas is left out. A name that Avro does not allow is mapped. Check the result before you
    use it.
    """
    text = json.dumps(service.infer(sample, name, leave_out=frozenset(leave_out)), indent=2)
    if output is None:
        click.echo(text)
        return
    try:
        output.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise SchemaError(f"{output}: {error.strerror or error}") from error


@schemas.command()
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option(
    "--require",
    type=click.Choice(["backward", "forward", "full", "none"]),
    default="backward",
    show_default=True,
    help="Which compatibility is needed for exit status 0.",
)
@json_option()
def check(old: Path, new: Path, require: Required, as_json: bool) -> None:
    """Check whether two versions of a feature record are compatible: OLD and NEW are `.avsc` files.

    Backward: NEW reads what OLD wrote. Forward: OLD reads what NEW wrote. Exit status 1 if --require does not hold.
    "models" says what a challenger does with captures that lack a feature it needs.
    """
    found = service.compare(FeatureSchema.of(old), FeatureSchema.of(new))
    if as_json:
        keys = ("backward", "forward", "backward_reasons", "forward_reasons", "models")
        echo_json({key: getattr(found, key) for key in keys})
    else:
        for direction, holds, reasons in (
            ("backward", found.backward, found.backward_reasons),
            ("forward", found.forward, found.forward_reasons),
        ):
            click.echo(f"{direction} compatible: {'yes' if holds else 'no'}")
            for reason in reasons:
                click.echo(visible(f"  {reason}"))
        if found.models:
            click.echo("models:")
            for line in found.models:
                click.echo(visible(f"  {line}"))
    wanted = {"backward": found.backward, "forward": found.forward, "full": found.backward and found.forward}
    if not wanted.get(require, True):
        sys.exit(1)


@schemas.command()
@click.argument("features", type=click.Path(path_type=Path))
@settings_options(stream=True)
def register(settings: Settings, features: Path) -> None:
    """Publish FEATURES, an `.avsc` file, inside the record of a capture, before the live service starts.

    It goes to the registry of `-X schema.registry.url=…`, or without one to the stream's schemas topic.
    """
    key = service.publish(settings, FeatureSchema.of(features))
    click.echo(f"{key}")


@schemas.command(name="list")
@settings_options(stream=True)
@json_option("Print one JSON list.")
def list_(settings: Settings, as_json: bool) -> None:
    """List the schemas in the stream's schemas topic, oldest first."""
    found = [
        (str(schema.fingerprint), FeatureSchema.in_live(schema).features) for schema in service.published(settings)
    ]
    if as_json:
        rows = [
            {"fingerprint": key, "features": {f.name: _format_type(f) for f in features}} for key, features in found
        ]
        echo_json(rows)
        return
    for key, features in found:
        click.echo(
            visible(f"{key}  {len(features)} features: {', '.join(f'{f.name} {_format_type(f)}' for f in features)}")
        )
    if not found:
        click.echo("no schema has been published yet")


def _format_type(feature: Feature) -> str:
    return f"{feature.written}?" if feature.nullable else feature.written
