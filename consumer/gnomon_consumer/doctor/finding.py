"""One finding per check; a failure names the way out."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "note", "failed", "unreachable"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was looked at, how it stands, and what to do where it is not ok."""

    check: str
    status: Status
    text: str
    remedy: str = ""


def exit_status(findings: list[Finding]) -> int:
    """3 when a dependency is unreachable, 1 when a check failed, else 0."""
    found = {finding.status for finding in findings}
    return 3 if "unreachable" in found else 1 if "failed" in found else 0
