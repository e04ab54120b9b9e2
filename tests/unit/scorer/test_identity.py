"""A shadow log is continued only under the identity with which it began."""

from dataclasses import replace
from typing import Any

import pytest

from gnomon_consumer.scorer.intake.shadow_tail import check_identity
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.records import Artefact, DeploymentStart

BEGUN = DeploymentStart(
    deployment="boost",
    role="challenger",
    cluster_id="cluster",
    topic_id="topic",
    source_partition=2,
    start_offset=100,
    model=Artefact("m", "1", "ab" * 32),
    seed=7,
    policy="policy",
    started_at=0,
)


def test_the_same_goes_on_under_another_policy() -> None:
    check_identity(replace(BEGUN, policy="other", started_at=9), BEGUN, "shadow")
    check_identity(BEGUN, replace(BEGUN, topic_id=None), "shadow")  # begun when no id was available


@pytest.mark.parametrize(
    "other",
    [
        {"cluster_id": "a broker that was reset"},
        {"topic_id": "re-created"},
        {"model": Artefact("m", "1", "cd" * 32)},
        {"seed": 8},
        {"role": "control"},
        {"deployment": "second"},
        {"source_partition": 3},
    ],
    ids=str,
)
def test_another_is_refused_and_told_what_differs(other: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigurationError, match=f"was started with {next(iter(other))} .*: use another --deployment name"
    ):
        check_identity(replace(BEGUN, **other), BEGUN, "shadow")
