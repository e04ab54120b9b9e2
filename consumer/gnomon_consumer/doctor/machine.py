"""What the doctor finds on this machine: how far a model is shut in."""

from collections.abc import Iterator

from gnomon_consumer.doctor.finding import Finding
from gnomon_consumer.scorer.sandbox import NAMESPACE, probe

_REMEDIES = {
    "network": "Python code is refused connections all the same; allow network namespaces to stop system calls too",
    "processes": "allow process namespaces: a model that stops its keeper can leave a process behind",
    "memory": "the address space of a worker is not limited: limit the container's memory",
    "environment": "allow process namespaces, or pass credentials by file instead of by environment",
}


def examine_sandbox() -> Iterator[Finding]:
    """What a model can reach from a worker here, tried; `gnomon score` runs either way."""
    for name, text in probe().items():
        fine = text in ("none", "limited", "hidden", NAMESPACE)
        yield Finding("sandbox", "ok" if fine else "note", f"{name}: {text}", "" if fine else _REMEDIES[name])
