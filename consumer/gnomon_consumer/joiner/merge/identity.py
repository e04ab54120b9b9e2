"""The identity of a deployment, as stated by a DeploymentStart and kept in the database. No I/O."""

from dataclasses import dataclass
from typing import Any

from gnomon_consumer.times import moment
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.records import DeploymentStart


class IdentityError(ConfigurationError):
    """The input to be joined differs from the one that this deployment's earlier pairs came from."""


@dataclass(frozen=True, slots=True)
class JoinProgress:
    """A partition's progress, and the identity of its log."""

    next_source: int
    next_shadow: int
    identity: dict[str, Any]


IDENTITY = (
    "cluster_id", "topic_id", "start_offset", "model_name", "model_version", "model_sha256", "seed", "policy",
    "started_at",
)  # fmt: skip


def identity_of(start: DeploymentStart) -> dict[str, Any]:
    """Return the identity that a DeploymentStart states, by the columns of join_progress."""
    return {
        "cluster_id": start.cluster_id,
        "topic_id": start.topic_id,
        "start_offset": start.start_offset,
        "model_name": start.model.name,
        "model_version": start.model.version,
        "model_sha256": start.model.sha256,
        "seed": start.seed,
        "policy": start.policy,
        "started_at": moment(start.started_at),
    }


def check_identity(partition: int, stored: dict[str, Any], found: dict[str, Any]) -> None:
    """Raise IdentityError that names the part that differs."""
    for name in IDENTITY:
        if name in found and stored[name] != found[name]:
            raise IdentityError(
                f"partition {partition}: {name} is {found[name]}, but the joined pairs came from"
                f" {stored[name]}; join it as another deployment, or into another database"
            )
