"""One finding per check; a failure names the way out."""

from dataclasses import dataclass
from typing import Literal

FindingStatus = Literal["ok", "note", "failed", "unreachable"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: its subject, its result, and what to do if it is not ok."""

    check: str
    status: FindingStatus
    text: str
    remedy: str = ""


def exit_status(findings: list[Finding]) -> int:
    """Return 3 if a dependency is unreachable, 1 if a check failed, else 0."""
    found = {finding.status for finding in findings}
    return 3 if "unreachable" in found else 1 if "failed" in found else 0
