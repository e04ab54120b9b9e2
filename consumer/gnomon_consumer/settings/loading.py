"""All settings in one model, and how they are loaded."""

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import AfterValidator, BaseModel, Field, PrivateAttr, ValidationError, model_validator
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError
from typing_extensions import override

from gnomon_consumer.sections import Section
from gnomon_consumer.settings.database import (
    DeclaredSettings,
    EventSettings,
    JoinSettings,
    LabelSettings,
    ReportSettings,
)
from gnomon_consumer.settings.kafka import KafkaSettings, check_servers
from gnomon_consumer.settings.run import NAME, LogSettings, RunSettings
from gnomon_consumer.settings.score import ScoreSettings
from gnomon_consumer.verdict.rules.plan import Plan
from gnomon_schemas.errors import ConfigurationError

ENV_PREFIX = "GNOMON_"
DEFAULT_FILE = "gnomon.toml"
_SECRET_WORDS = (
    "password",
    "secret",
    "token",
    "authorization",
    "database_url",
    "events.url",
    "jaas",
    "key.pem",
    "user.info",
    "oauthbearer.config",
    "_command",  # its arguments
    "kafka.properties",
)


class Settings(BaseSettings):
    """Everything a command may need; only `load_settings` creates it."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, case_sensitive=False
    )

    bootstrap_servers: Annotated[str, AfterValidator(check_servers)] = Field(
        default="localhost:9092",
        min_length=1,
        description="Kafka brokers, host:port,…; default localhost:9092.",
    )
    database_url: str | None = Field(
        default=None, description="PostgreSQL, postgresql://user:password@host:port/database; no default."
    )
    stream: str | None = Field(
        default=None,
        pattern=NAME,
        description="Name of the stream; no default.",
    )
    topic_prefix: str = Field(
        default="gnomon",
        pattern=NAME,
        description="First part of every topic name.",
    )
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    score: ScoreSettings = Field(default_factory=ScoreSettings)
    join: JoinSettings = Field(default_factory=JoinSettings)
    labels: LabelSettings = Field(default_factory=LabelSettings)
    report: ReportSettings = Field(default_factory=ReportSettings)
    stream_settings: DeclaredSettings = Field(default_factory=DeclaredSettings)
    verdict: Plan = Field(default_factory=Plan)
    events: EventSettings = Field(default_factory=EventSettings)
    run: RunSettings = Field(default_factory=RunSettings)
    _file: Path | None = PrivateAttr(default=None)

    @property
    def file(self) -> Path | None:
        """Return the path of the configuration file, or None without one."""
        return self._file

    @classmethod
    @override
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return flags, then the environment; `load_settings` adds the file as the last source."""
        return init_settings, env_settings

    def require_stream(self) -> str:
        """Return the stream's name; raise ConfigurationError when it is not configured."""
        if self.stream is None:
            raise ConfigurationError("no stream: give --stream, GNOMON_STREAM or `stream` in gnomon.toml")
        return self.stream

    def require_database_url(self) -> str:
        """Return the database's URL; raise ConfigurationError when it is not configured."""
        if self.database_url is None:
            raise ConfigurationError(
                "no database: give --database-url, GNOMON_DATABASE_URL or `database_url` in gnomon.toml"
            )
        return self.database_url


def load_settings(overrides: Mapping[str, Any] | None = None, config: str | Path | None = None) -> Settings:
    """Merge flags (`overrides`, nested), environment, file and defaults.

    `config` None means `gnomon.toml` in the working directory, if that file exists. Raises ConfigurationError: one
    line with the environment variable, the file key and the value.
    """
    path = Path(config) if config is not None else Path(DEFAULT_FILE)
    in_file = _read(path)
    if in_file is None and config is not None:
        raise ConfigurationError(f"--config {path}: no such file")

    if wrong := list(_not_text()):
        raise ConfigurationError("; ".join(wrong))

    class WithFile(Settings):
        @classmethod
        @override
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, in_file or {})

        @model_validator(mode="before")
        @classmethod
        def _usable(cls, merged: Any) -> Any:
            """Refuse before pydantic does: its own messages repeat the text, which may have no bytes."""
            if wrong := list(_unusable(merged)):
                raise ConfigurationError("; ".join(wrong))
            return merged

    try:
        loaded = WithFile(**dict(overrides or {}))
        loaded._file = None if in_file is None else path
        return loaded
    except ValidationError as error:
        raise ConfigurationError("; ".join(_describe(dict(item)) for item in error.errors())) from None
    except (SettingsError, RecursionError) as error:
        deep = f"a setting in {path} or in the environment is nested too deeply"
        reason = "; ".join(_not_json()) or (deep if isinstance(error, RecursionError) else str(error))
        raise ConfigurationError(reason) from None


def _read(path: Path) -> dict[str, Any] | None:
    """Return what a TOML file holds, None without the file. Raises ConfigurationError."""
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig")) if path.is_file() else None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        fault = "is nested too deeply" if isinstance(error, RecursionError) else "has a number of too many digits"
        raise ConfigurationError(f"{path} {fault}") from None


def write_private(path: Path, text: str, *, replace: bool = True) -> None:
    """Write a file that only its owner may read. Raises OSError; without `replace` FileExistsError."""
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if replace else os.O_EXCL)
    with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)


def environment_name(key: str) -> str:
    """Return the environment variable of a setting: `score.workers` -> `GNOMON_SCORE__WORKERS`."""
    return ENV_PREFIX + key.upper().replace(".", "__")


def is_secret(name: str) -> bool:
    """Return whether the value of a setting or property with this name must not be shown."""
    return any(word in name.lower() for word in _SECRET_WORDS)


def _describe(error: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown setting: file key {key} (environment {environment_name(key)})"
    message = _PLAIN.get(error["type"]) or " ".join(str(error["msg"]).removeprefix("Value error, ").split())
    if error["type"] == "too_short" and error["ctx"]["field_type"] == "Value":  # a text that is not shown
        message = f"must have at least {error['ctx']['min_length']} characters"
    if key.startswith("kafka.properties.") and isinstance(error["input"], dict):
        message = _quoted(key.removeprefix("kafka.properties."), error["input"])
    shown = _HIDDEN if error["type"] == "model_type" else _format_value(key, error["input"])
    return f"{_variable(key)} (file key {key}): {shown}: {message}"


def _quoted(name: str, value: Any) -> str:
    """Return how to write a property whose name has dots: without quotes TOML makes tables of them."""
    while isinstance(value, dict) and value:
        below, value = next(iter(value.items()))
        name += f".{below}"
    return f"""is a table; write the property as "{name}" = "…", in the environment as {{"{name}": "…"}}"""


def _variable(key: str) -> str:
    """Return the environment variable that holds a value, also one that is inside of a list or table."""
    model: Any = Settings
    parts: list[str] = []
    for part in key.split("."):
        if not (isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields):
            break
        parts.append(part)
        model = model.model_fields[part].annotation
    return environment_name(".".join(parts))


_PLAIN = {
    "tuple_type": 'must be a list, such as ["…"]',
    "dict_type": 'must be a table, such as {"…": …} in the environment',
    "model_type": 'must be a table, such as {"…": …} in the environment',
}
"""What to write instead of a value of another kind, by pydantic's name of the error."""


_HIDDEN = "…"


def _format_value(key: str, value: Any) -> str:
    """Return a value as messages show it; a table or list, or a text instead of a table, may contain a password."""
    if is_secret(key) or isinstance(value, dict | list | tuple):
        return _HIDDEN
    try:
        shown = repr(value)
    except ValueError:  # an integer of too many digits
        return _HIDDEN
    return _HIDDEN if "@" in shown else shown[:79] + "…" if len(shown) > 80 else shown


def _not_text() -> Iterator[str]:
    """Name the variables whose bytes are not UTF-8: nothing that reads them later could say whose they are."""
    for name, value in os.environ.items():
        if not _encodes(value):
            key = name.upper().removeprefix(ENV_PREFIX).lower().replace("__", ".")
            if name.upper().startswith(ENV_PREFIX) and key.split(".")[0] in Settings.model_fields:
                yield f"{name.upper()} (file key {key}): is not UTF-8 text"


def _unusable(values: Any, key: str = "") -> Iterator[str]:
    """Name the texts that no server can get: clients cut a text at a NUL, and half a surrogate pair has no bytes."""
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from _unusable(value, f"{key}.{name}" if key else str(name))
            yield from _unusable(name, key)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _unusable(value, key)
    elif isinstance(values, str):
        fault = "has a NUL character" if "\0" in values else "" if _encodes(values) else "is not UTF-8 text"
        if fault:
            yield f"{_variable(key)} (file key {key.encode(errors='replace').decode()}): {fault}"


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _not_json(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[str]:
    """Name the structured variables whose value is not JSON, which pydantic-settings leaves out."""
    set_here = {name.upper(): value for name, value in os.environ.items()}
    for name, field in model.model_fields.items():
        key = prefix + name
        section = field.annotation
        value = set_here.get(environment_name(key))
        if isinstance(section, type) and issubclass(section, Section):
            yield from _not_json(section, f"{key}.")
            shown, wanted = _HIDDEN, "a JSON object"
        else:
            shown, wanted = _format_value(key, value), 'JSON, such as ["…"] or {"…": …}'
        if value is not None and not _is_json(value) and _structured(section):
            yield f"{environment_name(key)} (file key {key}): {shown}: must be {wanted}"


def _structured(annotation: Any) -> bool:
    """Return whether a setting can be a table, a list or a mapping."""
    if isinstance(annotation, type) and not get_args(annotation):
        return issubclass(annotation, BaseModel)
    return get_origin(annotation) in (tuple, list, dict) or any(map(_structured, get_args(annotation)))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
