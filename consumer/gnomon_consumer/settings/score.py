"""The scorer's settings: windows, budget, workers, limits."""

from typing import Literal

from pydantic import Field, SecretStr

from gnomon_consumer.sections import Section


class ScoreSettings(Section):
    """The scorer: sampling, lag control and workers."""

    workers: int = Field(default=1, ge=1, le=256, description="Worker processes; default 1.")
    window_seconds: float = Field(
        default=10.0, ge=0.05, le=3600, description="Maximum length of a window (W), seconds; default 10."
    )
    min_window_seconds: float = Field(
        default=0.2,
        ge=0.0,
        le=60,
        description="Minimum length of a window when workers have spare capacity, seconds; default 0.2.",
    )
    deadline_seconds: float = Field(
        default=30.0,
        ge=0.1,
        le=3600,
        description="Rows that are not scored this long after the seal count as timed out (T_d), seconds; default 30.",
    )
    call_seconds: float = Field(
        default=10.0,
        ge=0.05,
        le=3600,
        description="A worker that needs longer than this for one batch is killed, seconds; default 10.",
    )
    budget_rows_per_second: float = Field(
        default=0.0,
        ge=0.0,
        le=10_000_000,
        description="Maximum scoring rate, rows per second; default 0: as fast as the workers are.",
    )
    efficiency: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="Share of the measured scoring rate that the sampling budget uses (η); default 0.8.",
    )
    reservoir_rows: int = Field(
        default=200_000,
        ge=2,
        le=50_000_000,
        description="Maximum number of captures held in memory before a seal (M); default 200,000.",
    )
    window_captures: int = Field(
        default=1_000_000,
        ge=1,
        le=1_000_000_000,
        description="Maximum number of captures in a window; default 1,000,000.",
    )
    window_bytes: int = Field(
        default=256 * 2**20,
        ge=4096,
        le=2**40,
        description="Maximum number of bytes held in memory before a seal; default 256 MiB.",
    )
    max_strata: int = Field(
        default=64,
        ge=1,
        le=10_000,
        description="Maximum number of strata per partition; further ones are sampled together as `other`; default 64.",
    )
    allocation: Literal["house", "senate", "default"] = Field(
        default="default",
        description="How strata share the budget: house (by size), senate (equally) or default (the larger of both);"
        " default `default`.",
    )
    seed: int = Field(
        default=0,
        ge=-(2**63),
        le=2**63 - 1,
        description="Seed of the sampling hash, the same for every deployment; default 0.",
    )
    batch_rows: int = Field(
        default=4096, ge=1, le=100_000, description="Maximum number of rows in one batch; default 4096."
    )
    probe_rows: int = Field(
        default=32,
        ge=0,
        le=10_000,
        description="Rows per window that are scored one at a time to measure latency; default 32.",
    )
    memory_bytes: int = Field(
        default=4 * 2**30,
        ge=256 * 2**20,
        le=2**44,
        description="Address space a worker may use (RLIMIT_AS), bytes; default 4 GiB.",
    )
    processes: int = Field(
        default=64,
        ge=2,
        le=30_000,
        description="Maximum number of processes and threads of one worker and its child processes; default 64.",
    )
    sandbox: Literal["required", "preferred"] = Field(
        default="required",
        description=(
            "required: refuse to start when a part of the worker's sandbox is missing; preferred: log it and start;"
            " default required. `gnomon doctor` shows which parts work."
        ),
    )
    skip_behind_seconds: float = Field(
        default=0.0,
        ge=0.0,
        le=30 * 86400,
        description="When the scorer is this many seconds behind, skip captures older than half of it and record a gap;"
        " default 0: never.",
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
        description="Number of dead letters in one minute at which the scorer stops with an error; default 1000.",
    )
    model_authorization: SecretStr | None = Field(
        default=None,
        description="Value of the Authorization header for a model server, such as `Bearer …`; no default.",
    )

    @property
    def authorization(self) -> str | None:
        """Return the header's value as plain text; use it for the request only."""
        return None if self.model_authorization is None else self.model_authorization.get_secret_value()
