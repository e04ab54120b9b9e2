"""What `gnomon score` was asked to do, beside the settings."""

from dataclasses import dataclass
from pathlib import Path

from gnomon_consumer.scorer.live import StartAt
from gnomon_consumer.scorer.models import ModelSpec
from gnomon_schemas.records import Role
from gnomon_schemas.topics import Topics


@dataclass(frozen=True)
class Options:
    """One deployment at work: its name, role and model, and where and how it scores."""

    deployment: str
    role: Role
    model: ModelSpec
    member: str
    start: StartAt
    no_sampling: bool = False
    allow_network: bool = False
    exit_when_idle: float | None = None
    warm_up: int | Path = 0
    golden: Path | None = None
    tolerance: float = 1e-4
    metrics: str | None = None

    def group(self, names: Topics) -> str:
        """The consumer group of the deployment's members."""
        return f"{names.prefix}.{names.stream}.score.{self.deployment}"
