"""Names of a stream's topics."""

import re
from dataclasses import dataclass

from gnomon_schemas.errors import ConfigurationError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")


def checked_name(kind: str, name: str) -> str:
    """Return `name` if it is valid in a topic's name; raise ConfigurationError that names the `kind` otherwise."""
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{kind} {name!r} must be 1 to 80 letters, digits, '_' or '-', beginning with a letter or digit"
        )
    return name


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one stream. Dots separate the parts, so no part may contain one."""

    stream: str
    prefix: str = "gnomon"

    def __post_init__(self) -> None:
        checked_name("stream", self.stream)
        checked_name("topic prefix", self.prefix)

    @property
    def live(self) -> str:
        """LivePrediction records, keyed by request id."""
        return f"{self.prefix}.{self.stream}.live"

    def shadow(self, deployment: str) -> str:
        """DeploymentStart, ShadowPrediction and SamplingWindow records of one deployment."""
        return f"{self.prefix}.{self.stream}.shadow.{checked_name('deployment', deployment)}"

    @property
    def labels(self) -> str:
        """Label records, keyed by request id."""
        return f"{self.prefix}.{self.stream}.labels"

    @property
    def schemas(self) -> str:
        """Schema JSON, keyed by fingerprint in hex; compacted."""
        return f"{self.prefix}.{self.stream}.schemas"

    @property
    def producers(self) -> str:
        """ProducerReport records, keyed by producer id."""
        return f"{self.prefix}.{self.stream}.producers"

    @property
    def dead_letters(self) -> str:
        """Messages that could not be read, byte for byte, with their coordinates in the headers."""
        return f"{self.prefix}.{self.stream}.dlq"
