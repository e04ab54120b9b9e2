"""The doctor's check of this machine: the strength of the sandbox."""

from collections.abc import Iterator

from gnomon_consumer.doctor.finding import Finding, FindingStatus
from gnomon_consumer.scorer.worker.sandbox_check import check_sandbox
from gnomon_consumer.settings import Settings

_ALLOW = "allow Landlock (Linux 5.13) in the container's seccomp profile, or namespaces; see docs/security.md"
_REMEDIES = {
    "files": _ALLOW,
    "secrets": _ALLOW,
    "network": "allow seccomp filters or network namespaces; let the container reach only Kafka",
    "calls": "allow seccomp filters (the system calls seccomp and prctl)",
    "processes": "allow process namespaces: without them, only its keeper ends what a worker detaches",
    "memory": "the address space of a worker is not limited: limit the container's memory",
    "environment": _ALLOW,
    "user": "run the scorer as an ordinary user, or leave it CAP_SETUID, CAP_SETGID and CAP_KILL",
}


def examine_sandbox(settings: Settings) -> Iterator[Finding]:
    """Test what a model can reach from a worker on this machine."""
    refused = settings.score.sandbox == "required"
    for name, text in check_sandbox().items():
        fine = not text.startswith(("open", "a subreaper"))
        stops = refused and name in ("files", "secrets", "calls", "environment", "network")
        status: FindingStatus = "ok" if fine else "failed" if stops else "note"
        yield Finding("sandbox", status, f"{name}: {text}", "" if fine else _REMEDIES[name])
