"""A Kafka as companies run it: SCRAM logins, TLS with its own CA, and an authorizer that denies by default."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourcePatternType,
    ResourceType,
)

from tests.support.servers.certificates import Authority
from tests.support.servers.kafka import SETTINGS
from tests.support.servers.kafka_node import KafkaNode
from tests.support.servers.ports import free_port

ADMIN, SERVICE, STRANGER = "admin", "gnomon", "stranger"
PASSWORD = "sasl-Secret-9"
"""The password of every user."""


@dataclass(frozen=True, slots=True)
class Secured:
    """Two listeners of one broker: SASL over plain text, SASL over TLS; `authority` is the CA's certificate."""

    plain: str
    tls: str
    authority: str

    def properties(self, user: str = SERVICE, password: str = PASSWORD, **more: str) -> dict[str, str]:
        """Return librdkafka's properties for a user on the plain listener."""
        return {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "SCRAM-SHA-256",
            "sasl.username": user,
            "sasl.password": password,
            **{name.replace("_", "."): value for name, value in more.items()},
        }

    def admin(self) -> AdminClient:
        """Return a client of the super user."""
        return AdminClient({"bootstrap.servers": self.plain, **self.properties(ADMIN)})

    def producer(self, user: str) -> Producer:
        """Return a producer of a user's."""
        return Producer({"bootstrap.servers": self.plain, **self.properties(user), "enable.idempotence": True})

    def configure(self, topic: str, **settings: str) -> None:
        """Set properties of a topic: max_message_bytes="5000"."""
        entries = [
            ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
            for name, value in settings.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        admin = self.admin()  # without a name it would end before it answers
        admin.incremental_alter_configs([resource])[resource].result()

    def allow(self, user: str, kind: ResourceType, prefix: str, *operations: AclOperation) -> None:
        """Grant operations on everything whose name begins with `prefix`."""
        pattern = ResourcePatternType.LITERAL if kind == ResourceType.BROKER else ResourcePatternType.PREFIXED
        bindings = [
            AclBinding(kind, prefix, pattern, f"User:{user}", "*", operation, AclPermissionType.ALLOW)
            for operation in operations
        ]
        admin = self.admin()
        for future in admin.create_acls(bindings).values():
            future.result()


@contextlib.contextmanager
def running(folder: Path) -> Iterator[str]:
    """Yield the addresses as JSON (`open_secured` reads them)."""
    root = folder / "secured"
    root.mkdir()
    authority = Authority.made(root)
    broker_files = authority.issue("127.0.0.1", "IP:127.0.0.1,DNS:localhost")
    chain = (broker_files.key, broker_files.certificate, authority.certificate)
    (root / "broker.pem").write_text("".join(file.read_text() for file in chain))
    plain, tls, controller = free_port(), free_port(), free_port()
    secured = Secured(f"127.0.0.1:{plain}", f"127.0.0.1:{tls}", str(authority.certificate))
    login = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    listeners = f"SASL_PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{tls}"
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "CONTROLLER_OF_BROKERS",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,CONTROLLER_OF_BROKERS:PLAINTEXT,"
        "SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL",
        "sasl.enabled.mechanisms": "SCRAM-SHA-256",
        "listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config": login,
        "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config": login,
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(root / "broker.pem"),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:{ADMIN};User:ANONYMOUS",  # the brokers' own listener has no login
        **SETTINGS,
    }
    inner = free_port()
    settings["listeners"] = f"{listeners},CONTROLLER_OF_BROKERS://127.0.0.1:{inner},CONTROLLER://127.0.0.1:{controller}"
    settings["advertised.listeners"] = f"{listeners},CONTROLLER_OF_BROKERS://127.0.0.1:{inner}"
    users = [f"--add-scram=SCRAM-SHA-256=[name={user},password={PASSWORD}]" for user in (ADMIN, SERVICE, STRANGER)]
    broker = KafkaNode(root, "kafka", settings, format_options=users, megabytes=512)
    try:
        broker.wait_until_started()
        yield json.dumps(asdict(secured))
    finally:
        broker.kill()


def open_secured(address: str) -> Secured:
    """Return what `running` yielded."""
    return Secured(**json.loads(address))
