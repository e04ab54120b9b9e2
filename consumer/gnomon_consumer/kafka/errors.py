"""Kafka's errors as one line each, with a solution and the exit status.

Status 2: somebody must change a login, TLS or a right; status 3: no broker answers.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException

from gnomon_schemas.errors import ConfigurationError, DependencyUnreachableError, GnomonError

LOGIN = (
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.UNSUPPORTED_SASL_MECHANISM,
    KafkaError.ILLEGAL_SASL_STATE,
)
TLS = (KafkaError._SSL,)
# An address that a broker gave, with its number; those of our own settings end with /bootstrap.
_SENT_TO = re.compile(r"(?:\w+://)?(?P<address>\S+)/\d+: (?:Failed to resolve|Connect to )")
# librdkafka also reports a refused login if the endpoint that issues tokens does not answer.
_CLOSED = re.compile(r"(Send|Receive) failed|Disconnected|reset by peer|Broken pipe")
_NO_TOKEN = re.compile(
    r"acquire SASL OAUTHBEARER token.*(connect to|could ?n.t connect|resolve|timed? ?out|HTTP (429|5\d\d))",
    re.IGNORECASE,
)
RIGHTS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "a right to a topic: Describe and Read to consume, Write to produce",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "Read on the consumer group",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "Write on the transactional id",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "a right to the cluster: Create to make topics, IdempotentWrite on brokers"
    " before 3.0",
}
_KINDS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "group",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "transactional-id",
}
_AWAY = (
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._MSG_TIMED_OUT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._RESOLVE,
    KafkaError._WAIT_COORD,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_ENOUGH_REPLICAS,
    KafkaError.BROKER_NOT_AVAILABLE,
)


@dataclass(frozen=True, slots=True)
class Right:
    """An operation that a client needs; `kind` is kafka-acls' own word: topic, group or transactional-id."""

    operation: str
    kind: str
    name: str

    def __str__(self) -> str:
        kind = self.kind.replace("-", " ")
        return (
            f"{self.operation} on the {kind} {self.name} (kafka-acls --add --allow-principal User:NAME --operation"
            f" {self.operation} --{self.kind} {self.name})"
        )


def read(topic: str) -> Right:
    """Return the right to consume a topic, which includes the right to see it."""
    return Right("Read", "topic", topic)


def write(topic: str) -> Right:
    """Return the right to produce to a topic."""
    return Right("Write", "topic", topic)


def join(group: str) -> Right:
    """Return the right to be a member of a consumer group and to commit in it."""
    return Right("Read", "group", group)


def kafka_error(error: KafkaException) -> KafkaError:
    """Return the librdkafka error inside an exception."""
    inner: KafkaError = error.args[0]
    return inner


def refusal(error: KafkaError, *needed: Right) -> ConfigurationError | None:
    """Return the error for a refused login, TLS connection or right; None if waiting may help.

    `needed` are the rights that the request needs: the error names those that it may lack.
    """
    code, said = error.code(), one_line(error.str())
    if code in LOGIN and _NO_TOKEN.search(said):
        return None
    if code in LOGIN:
        return ConfigurationError(
            f"Kafka refuses the login: {said}: check security.protocol, sasl.mechanism, sasl.username and sasl.password"
            " in [kafka.properties] or -X"
        )
    # A listener of another protocol closes the connection: librdkafka guesses the reason, and has no error code for it.
    if code in TLS and "certificate verify failed" in said:
        return ConfigurationError(
            f"Kafka's certificate is not trusted: {said}: its CA is not in ssl.ca.location, it has expired, or"
            " it was issued for a host name that is not in bootstrap_servers"
        )
    if code in TLS or (code == KafkaError._TRANSPORT and ("SSL handshake" in said or "security.protocol" in said)):
        return ConfigurationError(
            f"no connection to Kafka with this protocol: {said}: check security.protocol, ssl.ca.location,"
            " ssl.certificate.location and ssl.key.location in [kafka.properties] or -X"
        )
    # A broker gives an idempotent producer its id only if the user may write to some topic; librdkafka may call the
    # refusal a fatal error, with the reason in its text.
    no_id = "idempotence PID" in said and "authorization failed" in said.lower()
    if code in RIGHTS or no_id:
        kind = "topic" if no_id else _KINDS.get(code)
        lacking = " or ".join(str(right) for right in needed if right.kind == kind) or RIGHTS.get(code)
        return ConfigurationError(
            f"Kafka denies this user: {said}: grant {lacking}; docs/kafka-acls.md lists the rights of each component"
        )
    return None


def denial(error: BaseException, *needed: Right) -> ConfigurationError | None:
    """Return `refusal` of an exception; None for any exception but librdkafka's."""
    return refusal(kafka_error(error), *needed) if isinstance(error, KafkaException) else None


def no_broker(
    servers: str, error: KafkaError, heard: Sequence[KafkaError] = (), needed: Sequence[Right] = ()
) -> GnomonError:
    """Return the error for a failed request to `servers`; `heard` holds librdkafka's messages meanwhile."""
    told = [one for one in heard if one.code() != KafkaError._ALL_BROKERS_DOWN]  # the reason is in another message
    for one in (error, *told):
        if found := refusal(one, *needed):
            return found
    reasons = [one_line(one.str()) for one in (error, *told[-1:])]
    for one in told:
        sent = _SENT_TO.match(one.str())
        if sent is not None and sent["address"] not in servers:
            reasons.append(
                f"the cluster sends its clients to {sent['address']}: check the brokers' advertised.listeners"
            )
            break
    if heard and all(_CLOSED.search(one.str()) for one in told):
        reasons[1:] = ["it accepts the connection and closes it: check security.protocol, SASL and TLS"]
    return DependencyUnreachableError(
        f"no Kafka broker answers at {servers} ({'; '.join(dict.fromkeys(reasons))}):"
        " start it, or set --bootstrap-servers or GNOMON_BOOTSTRAP_SERVERS"
    )


def explain(error: BaseException) -> GnomonError | None:
    """Return the GnomonError that explains an error of librdkafka; None for any other exception."""
    if not isinstance(error, KafkaException) or not error.args or not isinstance(error.args[0], KafkaError):
        return None
    inner = kafka_error(error)
    if found := refusal(inner):
        return found
    if inner.code() in _AWAY or (inner.retriable() and not inner.fatal()):
        return DependencyUnreachableError(f"Kafka does not answer: {one_line(inner.str())}")
    return GnomonError(f"Kafka: {one_line(inner.str())}")


def one_line(text: str) -> str:
    """Return the text without line breaks."""
    return " ".join(text.split())
