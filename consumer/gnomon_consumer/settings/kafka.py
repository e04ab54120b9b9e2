"""What passes through to librdkafka, and what Gnomon sets there itself."""

from collections.abc import Mapping

from pydantic import Field, field_validator

from gnomon_consumer.sections import Section

# Properties that Gnomon sets itself, each with the reason: another value would lose or repeat captures, or end the
# process.
OWNED_PROPERTIES: Mapping[str, str] = {
    "bootstrap.servers": "give --bootstrap-servers or GNOMON_BOOTSTRAP_SERVERS",
    "metadata.broker.list": "give --bootstrap-servers or GNOMON_BOOTSTRAP_SERVERS",
    "group.id": "each deployment has its own group, named under topic_prefix",
    "transactional.id": "each member of a deployment has its own, by --member",
    "enable.idempotence": "without it a retried message is written twice",
    "enable.gapless.guarantee": "it ends the producer at the first lost message",
    "enable.auto.commit": "progress is in the shadow log and in the database",
    "enable.auto.offset.store": "progress is in the shadow log and in the database",
    "auto.commit.interval.ms": "progress is in the shadow log and in the database",
    "auto.commit.enable": "progress is in the shadow log and in the database",
    "auto.offset.reset": "a jump over captures must be an error",
    "isolation.level": "aborted transactions must not be read",
    "enable.partition.eof": "Gnomon uses the end of a partition itself",
    "delivery.report.only.error": "what was delivered is counted",
    "offset.store.method": "progress is in the shadow log and in the database",
}
_STRATEGIES = ("range", "cooperative-sticky")


class KafkaSettings(Section):
    """Properties for librdkafka, and how long a broker may take to answer."""

    properties: dict[str, str] = Field(
        default_factory=dict,
        description="Any librdkafka property (`-X key=value`), SASL, OAuth and mTLS included; no default.",
    )

    @field_validator("properties")
    @classmethod
    def _check_owned(cls, given: dict[str, str]) -> dict[str, str]:
        for name, value in given.items():
            if name in OWNED_PROPERTIES:
                raise ValueError(f"{name} is set by Gnomon: {OWNED_PROPERTIES[name]}")
            # librdkafka ends the whole process when the strategy does not fit our way of assigning partitions.
            if name == "partition.assignment.strategy" and value not in _STRATEGIES:
                raise ValueError(f"{name} must be {' or '.join(_STRATEGIES)}")
        return given

    timeout_seconds: float = Field(
        default=10.0, gt=0, le=300, description="How long a broker may take to answer, seconds; default 10."
    )
