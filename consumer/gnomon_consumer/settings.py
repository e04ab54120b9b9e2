"""Configuration: flag > `GNOMON_…` environment (`__` nests) > `gnomon.toml` (`--config`) > default.

Every field states its unit, its default and its limits, and is validated when the settings are made. Each
command group owns one section (a model below, a table in the file); add a field there and `setting_option` in
`cli.options` makes its flag.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings.exceptions import SettingsError
from typing_extensions import override

from gnomon_schemas.errors import ConfigurationError

ENV_PREFIX = "GNOMON_"
DEFAULT_FILE = "gnomon.toml"
_SECRET_WORDS = ("password", "secret", "token", "database_url", "jaas", "key.pem")


class Section(BaseModel):
    """A table of the settings; unknown keys are errors: a misspelt key would silently do nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaSettings(Section):
    """What passes through to librdkafka, and how long a broker may take to answer."""

    properties: dict[str, str] = Field(
        default_factory=dict,
        description="Any librdkafka property (`-X key=value`), SASL, OAuth and mTLS included; no default.",
    )
    timeout_seconds: float = Field(
        default=10.0, gt=0, le=300, description="How long a broker may take to answer, seconds; default 10."
    )


class LogSettings(Section):
    """What is logged, to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Lowest level that is shown; default info."
    )
    format: Literal["auto", "console", "logfmt", "json"] = Field(
        default="auto", description="Shape of a line; default auto: console on a terminal, logfmt elsewhere."
    )


class ScoreSettings(Section):
    """The scorer: sampling, lag control and workers."""

    workers: int = Field(default=1, ge=1, le=256, description="Worker processes; default 1.")
    window_seconds: float = Field(
        default=10.0, ge=0.05, le=3600, description="Longest life of a window W, seconds; default 10."
    )
    min_window_seconds: float = Field(
        default=0.2,
        ge=0.0,
        le=60,
        description="Shortest life of a window with spare capacity, seconds; default 0.2.",
    )
    deadline_seconds: float = Field(
        default=30.0,
        ge=0.1,
        le=3600,
        description="After sealing, rows not scored in this time are timed out (T_d), seconds; default 30.",
    )
    call_seconds: float = Field(
        default=10.0,
        ge=0.05,
        le=3600,
        description="Longest life of one batch in a worker before it is killed, seconds; default 10.",
    )
    budget_rows_per_second: float = Field(
        default=0.0,
        ge=0.0,
        le=10_000_000,
        description="Upper limit of the scoring rate, rows per second; default 0: the workers' own.",
    )
    efficiency: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="Share of the measured scoring rate that is planned with (η); default 0.8.",
    )
    reservoir_rows: int = Field(
        default=200_000,
        ge=2,
        le=50_000_000,
        description="Most captures held before a seal (M); default 200,000.",
    )
    window_captures: int = Field(
        default=1_000_000, ge=1, le=1_000_000_000, description="Most captures in a window; default 1,000,000."
    )
    window_bytes: int = Field(
        default=256 * 2**20, ge=4096, le=2**40, description="Most bytes held before a seal; default 256 MiB."
    )
    max_strata: int = Field(
        default=64,
        ge=1,
        le=10_000,
        description="Strata told apart in a partition, the rest is `other`; default 64.",
    )
    allocation: Literal["house", "senate", "default"] = Field(
        default="default",
        description="Sharing of the budget over strata: by size, equally, the larger; default default.",
    )
    seed: int = Field(
        default=0,
        ge=-(2**63),
        le=2**63 - 1,
        description="Seed of the sampling hash, the same for all; default 0.",
    )
    batch_rows: int = Field(
        default=4096, ge=1, le=100_000, description="Most rows handed to a worker in one call; default 4096."
    )
    probe_rows: int = Field(
        default=32, ge=0, le=10_000, description="Rows a window scored one at a time for latency; default 32."
    )
    memory_bytes: int = Field(
        default=4 * 2**30,
        ge=256 * 2**20,
        le=2**44,
        description="Address space a worker may use (RLIMIT_AS), bytes; default 4 GiB.",
    )
    skip_behind_seconds: float = Field(
        default=0.0,
        ge=0.0,
        le=30 * 86400,
        description="Further behind than this, skip what is older than half of it, a gap; seconds; default 0: never.",
    )
    breaker_seconds: float = Field(
        default=5.0,
        ge=0.1,
        le=3600,
        description="How long the model's circuit breaker stays open at first, seconds; default 5.",
    )
    poison_limit: int = Field(
        default=1000,
        ge=1,
        le=1_000_000_000,
        description="Dead letters in a minute that stop the scorer with an error; default 1000.",
    )


class JoinSettings(Section):
    """The joiner: how much it reads at once and holds."""

    batch_messages: int = Field(
        default=20_000, ge=1, le=1_000_000, description="Most messages taken from Kafka at once; default 20,000."
    )
    poll_seconds: float = Field(
        default=0.02, gt=0, le=10, description="Longest wait for a batch of messages, seconds; default 0.02."
    )
    replay_from: AwareDatetime | None = Field(
        default=None,
        description="Begin of the past that is replayed (ISO 8601 with zone): it gets partitions too; no default.",
    )
    replay_until: AwareDatetime | None = Field(
        default=None, description="End of the past that is replayed (ISO 8601 with zone); no default."
    )
    held_messages: int = Field(
        default=200_000,
        ge=1,
        le=100_000_000,
        description="Messages held over all partitions before the log that is ahead waits; default 200,000.",
    )


class LabelSettings(Section):
    """The label consumer: when a partition counts as idle, how often cohorts are sealed."""

    batch_messages: int = Field(
        default=5000, ge=1, le=1_000_000, description="Most messages taken from Kafka at once; default 5000."
    )
    poll_seconds: float = Field(
        default=0.1, gt=0, le=10, description="Longest wait for a batch of messages, seconds; default 0.1."
    )
    idle_seconds: float = Field(
        default=60.0,
        ge=0,
        le=86_400,
        description="A label partition with nothing new for so long holds no watermark back, seconds; default 60.",
    )
    seal_seconds: float = Field(
        default=10.0, gt=0, le=86_400, description="Time between two looks for cohorts to seal, seconds; default 10."
    )


class ReportSettings(Section):
    """What `gnomon report check` holds the reports to."""

    bounds: tuple[str, ...] = Field(
        default=(),
        description="Bounds such as 'agreement.low >= 0.9'; default none.",
    )
    last_seconds: float | None = Field(
        default=None, gt=0, description="How far back they look, in seconds of event time; default: at everything."
    )


class Settings(BaseSettings):
    """Everything a command may need; made by `load_settings` only."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, case_sensitive=False
    )

    bootstrap_servers: str = Field(
        default="localhost:9092",
        min_length=1,
        description="Kafka brokers, host:port,…; default localhost:9092.",
    )
    database_url: str | None = Field(
        default=None, description="PostgreSQL, postgresql://user:password@host:port/database; no default."
    )
    stream: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,79}$",
        description="Name of the stream; no default.",
    )
    topic_prefix: str = Field(
        default="gnomon",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,79}$",
        description="First part of every topic name.",
    )
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    score: ScoreSettings = Field(default_factory=ScoreSettings)
    join: JoinSettings = Field(default_factory=JoinSettings)
    labels: LabelSettings = Field(default_factory=LabelSettings)
    report: ReportSettings = Field(default_factory=ReportSettings)

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
        """Flags, then the environment; `load_settings` adds the file as the last source."""
        return init_settings, env_settings

    def require_stream(self) -> str:
        """The stream's name; raises ConfigurationError where none is configured."""
        if self.stream is None:
            raise ConfigurationError("no stream: give --stream, GNOMON_STREAM or `stream` in gnomon.toml")
        return self.stream

    def require_database_url(self) -> str:
        """The database's URL; raises ConfigurationError where none is configured."""
        if self.database_url is None:
            raise ConfigurationError(
                "no database: give --database-url, GNOMON_DATABASE_URL or `database_url` in gnomon.toml"
            )
        return self.database_url


def load_settings(overrides: Mapping[str, Any] | None = None, config: str | Path | None = None) -> Settings:
    """Merge flags (`overrides`, nested), environment, file and defaults.

    `config` None means `gnomon.toml` of the working directory if there is one. Raises ConfigurationError, one
    line that names the environment variable, the file key and the value.
    """
    path = Path(config) if config is not None else Path(DEFAULT_FILE)
    if config is not None and not path.is_file():
        raise ConfigurationError(f"--config {path}: no such file")

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
            return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, path)

    try:
        return WithFile(**dict(overrides or {}))
    except ValidationError as error:
        raise ConfigurationError("; ".join(_describe(dict(item)) for item in error.errors())) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    except SettingsError as error:
        raise ConfigurationError(f"{error}{_offending_environment()}") from None


def environment_name(key: str) -> str:
    """`score.workers` -> `GNOMON_SCORE__WORKERS`."""
    return ENV_PREFIX + key.upper().replace(".", "__")


def _describe(error: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown setting: file key {key} (environment {environment_name(key)})"
    shown = "…" if any(word in key.lower() for word in _SECRET_WORDS) else repr(error["input"])
    if len(shown) > 80:
        shown = shown[:79] + "…"
    message = " ".join(str(error["msg"]).split())
    return f"{environment_name(key)} (file key {key}): {shown}: {message}"


def _offending_environment() -> str:
    """Name the structured variables, which pydantic-settings leaves out when their JSON is broken."""
    sections = {environment_name(name) for name in ("kafka", "log", "score", "join", "labels")} | {
        "GNOMON_KAFKA__PROPERTIES"
    }
    named = sorted(name for name in os.environ if name.upper() in sections)
    return f" (set: {', '.join(named)}; each must be a JSON object)" if named else ""
