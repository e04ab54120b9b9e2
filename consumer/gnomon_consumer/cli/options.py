"""Options that commands share: each flag overrides one setting; its help is the setting's description."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import rich_click as click
from click import get_current_context

from gnomon_consumer.runtime import logging
from gnomon_consumer.runtime.redaction import hide_secrets_of
from gnomon_consumer.sections import Section
from gnomon_consumer.settings import Settings, load_settings
from gnomon_schemas.errors import ConfigurationError

F = TypeVar("F", bound=Callable[..., Any])
_OVERRIDES = "gnomon.overrides"


def setting_option(flag: str, key: str, **attributes: Any) -> Callable[[F], F]:
    """Return a flag for the setting `key` (`score.workers`); the settings validate its text and describe it."""
    field = _field(key)
    attributes.setdefault("help", field.description)
    attributes.setdefault("metavar", key.rsplit(".", 1)[-1].upper())

    def remember(context: click.Context, _parameter: click.Parameter, value: Any) -> None:
        if value is not None and value != ():  # a repeatable flag that is not given
            _put(context, key, value)

    return click.option(flag, expose_value=False, callback=remember, default=None, **attributes)


def metrics_option(command: F) -> F:
    """Add `--metrics`, passed on as the argument `metrics`."""
    return click.option("--metrics", metavar="HOST:PORT", help="Serve /metrics, /healthz and /readyz.")(command)


MODEL_HELP = (
    "The model: an ONNX file, an MLflow folder, xgboost:FILE, lightgbm:FILE, catboost:FILE, module:factory of Python"
    " code, or http://host/v2/models/NAME."
)
_MODEL_OPTIONS = (
    click.option(
        "--model",
        "location",
        required=True,
        metavar="MODEL",
        help=MODEL_HELP,
    ),
    click.option(
        "--role",
        type=click.Choice(["challenger", "control"]),
        default="challenger",
        show_default=True,
        help="Role of the deployment.",
    ),
    click.option("--model-name", metavar="NAME", help="Name of the model; default: the file's name."),
    click.option(
        "--model-version", metavar="VERSION", help="Version of the model; default: the first digits of its SHA-256."
    ),
    click.option(
        "--signature", metavar="FILE", help="Sidecar of the model (YAML): features, inputs, outputs, classes, …"
    ),
    click.option(
        "--allow-network", is_flag=True, help="Let the model open network connections; it can then reach live systems."
    ),
    click.option("--model-sha256", metavar="HEX", help="Refuse a model file with another SHA-256."),
    click.option(
        "--provider", default="CPUExecutionProvider", show_default=True, help="ONNX Runtime's execution provider."
    ),
)


def model_options(command: F) -> F:
    """Add the options that describe a deployment's model."""
    for option in reversed(_MODEL_OPTIONS):
        command = option(command)
    return command


def settings_options(stream: bool = False, database: bool = False, kafka: bool = True) -> Callable[[F], F]:
    """Add the common options and pass the loaded `Settings` as the argument `settings`; sets up logging."""

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def with_settings(*args: Any, config: str | None, **kwargs: Any) -> Any:
            context = get_current_context()
            settings = load_settings(context.meta.get(_OVERRIDES), config)
            hide_secrets_of(settings)
            logging.configure(settings.log)
            return command(*args, settings=settings, **kwargs)

        wrapped: Any = with_settings
        wrapped = setting_option("--log-format", "log.format")(wrapped)
        wrapped = setting_option("--log-level", "log.level")(wrapped)
        wrapped = click.option(
            "--config", metavar="FILE", help="Configuration file; default: gnomon.toml, if it exists."
        )(wrapped)
        if kafka:
            wrapped = click.option(
                "-X",
                "properties",
                multiple=True,
                metavar="KEY=VALUE",
                expose_value=False,
                callback=_remember_properties,
                help="Any librdkafka property; repeatable.",
            )(wrapped)
            wrapped = setting_option("--bootstrap-servers", "bootstrap_servers")(wrapped)
        if database:
            wrapped = setting_option("--database-url", "database_url")(wrapped)
        if stream:
            wrapped = setting_option("--stream", "stream")(wrapped)
        result: F = wrapped
        return result

    return decorate


def _remember_properties(context: click.Context, _parameter: click.Parameter, value: tuple[str, ...]) -> None:
    for number, pair in enumerate(value, 1):
        key, equals, setting = pair.partition("=")
        if not equals or not key.strip():
            # The text is not shown: it can be the second half of a password that the shell has split.
            raise ConfigurationError(f"-X number {number} is not KEY=VALUE")
        _put(context, "kafka.properties", {key.strip(): setting})


def _put(context: click.Context, key: str, value: Any) -> None:
    table: dict[str, Any] = context.meta.setdefault(_OVERRIDES, {})
    *sections, last = key.split(".")
    for section in sections:
        table = table.setdefault(section, {})
    if isinstance(value, dict):
        table.setdefault(last, {}).update(value)
    else:
        table[last] = value


def _field(key: str) -> Any:
    model: Any = Settings
    *sections, last = key.split(".")
    for section in sections:
        model = model.model_fields[section].annotation
        if not issubclass(model, Section):
            raise TypeError(f"{key}: {section} is not a section of the settings")
    return model.model_fields[last]
