"""The table of docs/kafka-acls.md, and granting its lines."""

import time
from collections.abc import Sequence

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)

from tests.support.servers.secured import PASSWORD, Secured
from tests.support.servers.shared import ROOT

KINDS = {
    "topic": ResourceType.TOPIC, "group": ResourceType.GROUP, "transactional id": ResourceType.TRANSACTIONAL_ID,
}  # fmt: skip
OPERATIONS = {
    "Read": AclOperation.READ, "Write": AclOperation.WRITE, "Alter": AclOperation.ALTER,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}  # fmt: skip
Rule = tuple[str, ResourceType, str, list[AclOperation]]
"""A line of the page: component, kind of resource, name, operations."""


def table() -> list[list[str]]:
    """Return the cells of the page's table."""
    lines = (ROOT / "docs/kafka-acls.md").read_text().splitlines()
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]
    return [cells for cells in rows if len(cells) == 5 and cells[1] in KINDS]


def documented(stream: str, deployment: str) -> list[Rule]:
    """Return the rights of the page."""
    return [
        (component, KINDS[kind], resolved(name, stream, deployment), [OPERATIONS[one] for one in granted.split(", ")])
        for component, kind, name, granted, _ in table()
    ]


def resolved(name: str, stream: str, deployment: str) -> str:
    """Return a name of the page with its stream and deployment."""
    return ".".join({"S": stream, "D": deployment}.get(part, part) for part in name.split("."))


def grant(cluster: Secured, users: dict[str, str], rules: Sequence[Rule]) -> None:
    """Create users with these rights; return when the broker applies them, which is later than its answer."""
    admin = cluster.admin()
    credentials = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096)
    added: list[UserScramCredentialAlteration] = [
        UserScramCredentialUpsertion(user, credentials, PASSWORD.encode()) for user in users.values()
    ]
    for future in admin.alter_user_scram_credentials(added).values():
        future.result()
    bindings = [
        AclBinding(
            kind,
            name.rstrip("*"),
            ResourcePatternType.PREFIXED if name.endswith("*") else ResourcePatternType.LITERAL,
            f"User:{users[component]}",
            "*",
            operation,
            AclPermissionType.ALLOW,
        )
        for component, kind, name, operations in rules
        for operation in operations
    ]
    for made in admin.create_acls(bindings).values():
        made.result()
    deadline = time.monotonic() + 60
    for user in users.values():
        of_user = AclBindingFilter(
            ResourceType.ANY,
            None,  # type: ignore[arg-type]  # of any name; the package's types do not allow it
            ResourcePatternType.ANY,
            f"User:{user}",
            None,  # type: ignore[arg-type]  # the same: from any host
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        wanted = {binding for binding in bindings if binding.principal == f"User:{user}"}
        while not wanted.issubset(admin.describe_acls(of_user).result()):
            assert time.monotonic() < deadline, f"the rights of {user} are not applied"
            time.sleep(0.05)  # a broker does not report when it applies them
