"""The properties that are passed to librdkafka, and those that Gnomon sets itself."""

import re
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
_LISTENERS = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")
_SERVER = re.compile(r"(?:(?P<protocol>[^/]*)://)?(?P<host>\[[^\]]+\]|[^:\[\]/@]+)(?::(?P<port>[^:]*))?")


def check_servers(servers: str) -> str:
    """Return the list of brokers unchanged; raise ValueError for one that librdkafka would read as another address.

    librdkafka takes a port beyond 65,535 modulo 65,536, and any word before :// for a protocol.
    """
    for server in filter(None, (one.strip() for one in servers.split(","))):
        found = _SERVER.fullmatch(server)
        if found is None:
            raise ValueError("write host:port,host:port, an IPv6 address in brackets: [::1]:9092")
        protocol, port = found["protocol"], found["port"]
        if protocol is not None and protocol.lower() not in _LISTENERS:
            raise ValueError("write host:port without a scheme such as http://")
        if port is not None and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError("the port is not a number from 1 to 65535")
    return servers


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
            # librdkafka ends the whole process if the strategy does not match our way of assigning partitions.
            if name == "partition.assignment.strategy" and value not in _STRATEGIES:
                raise ValueError(f"{name} must be {' or '.join(_STRATEGIES)}")
        # librdkafka would wait forever for a token that a program has to provide.
        mechanism = given.get("sasl.mechanism") or given.get("sasl.mechanisms") or ""
        has_tokens = (
            given.get("sasl.oauthbearer.method", "").lower() == "oidc"
            or given.get("enable.sasl.oauthbearer.unsecure.jwt", "").lower() == "true"
        )
        if mechanism.upper() == "OAUTHBEARER" and not has_tokens:
            raise ValueError("sasl.mechanism OAUTHBEARER needs sasl.oauthbearer.method=oidc, and a token endpoint")
        return given

    timeout_seconds: float = Field(
        default=10.0, gt=0, le=300, description="How long a broker may take to answer, seconds; default 10."
    )
