"""The settings of every command (`log`), and of `gnomon run`."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from gnomon_consumer.sections import Section

NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,79}$"


class LogSettings(Section):
    """Level and format of the log on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Lowest level that is logged; default info."
    )
    format: Literal["auto", "console", "logfmt", "json"] = Field(
        default="auto", description="Format of the log lines; default auto: console on a terminal, logfmt elsewhere."
    )


class RunDeployment(Section):
    """One deployment that `gnomon run` scores and joins; the keys are options of `gnomon score`."""

    model: str = Field(min_length=1, description="The model, as --model takes it, relative to the working directory.")
    role: Literal["challenger", "control"] = Field(
        default="challenger", description="Role of the deployment; default challenger."
    )
    model_name: str | None = Field(default=None, min_length=1, description="Default: the file's name.")
    model_version: str | None = Field(
        default=None, min_length=1, description="Default: the first digits of its SHA-256."
    )
    model_sha256: str | None = Field(
        default=None, pattern=r"^[0-9A-Fa-f]{64}$", description="Refuse any other file; no default."
    )
    signature: str | None = Field(default=None, min_length=1, description="Sidecar YAML of the model; no default.")
    allow_network: bool = Field(default=False, description="Let the model open connections; default false.")
    start: str = Field(
        default="earliest",
        min_length=1,
        description="Where a new deployment starts to read: earliest, latest or a time; default earliest.",
    )


class RunSettings(Section):
    """What `gnomon run` keeps running."""

    deployments: dict[Annotated[str, StringConstraints(pattern=NAME)], RunDeployment] = Field(
        default_factory=dict,
        description="A table `[run.deployments.NAME]` for each challenger and control; keys: model, role, model_name,"
        " model_version, model_sha256, signature, allow_network, start.",
    )
    labels: bool = Field(default=True, description="Whether `gnomon run` also consumes labels; default true.")
