"""The verdict's own types: decision, gate states, reasons. Pure."""

from dataclasses import asdict, dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any

from gnomon_consumer.verdict.rules.evidence import finite
from gnomon_consumer.verdict.rules.judged import Judged


class Decision(StrEnum):
    """The decision of a verdict."""

    PROMOTE = "PROMOTE"
    ROLLBACK = "ROLLBACK"
    HOLD = "HOLD"
    REJECT = "REJECT"
    INSUFFICIENT_DATA = "INSUFFICIENT_DATA"


class State(StrEnum):
    """The state of a gate; `note` does not influence the decision."""

    PASS = "pass"  # noqa: S105
    NOT_YET = "not_yet"
    NO_DATA = "no_data"
    FAIL = "fail"
    HARM = "harm"
    NOTE = "note"


@dataclass(frozen=True)
class Reason:
    """One gate: its code, its text, and its numbers."""

    code: str
    state: State
    text: str
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The decision, every reason, and when the next one is expected."""

    decision: Decision
    reasons: tuple[Reason, ...]
    days: int
    look: int
    metrics: tuple[Judged, ...]
    sentence: str
    expected: date | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the verdict as plain JSON values."""
        plain: dict[str, Any] = finite(asdict(self))
        plain["expected"] = self.expected.isoformat() if self.expected else None
        return plain

    @property
    def blocking(self) -> tuple[Reason, ...]:
        """Return the reasons that prevent PROMOTE."""
        return tuple(r for r in self.reasons if r.state in (State.HARM, State.NO_DATA, State.NOT_YET, State.FAIL))

    @property
    def deciding(self) -> tuple[Reason, ...]:
        """Return the reasons that led to the decision, without passed gates and notes."""
        wanted = {
            Decision.REJECT: {State.HARM},
            Decision.INSUFFICIENT_DATA: {State.NO_DATA},
            Decision.HOLD: {State.NOT_YET, State.FAIL},
        }.get(self.decision, {State.PASS})
        return tuple(reason for reason in self.reasons if reason.state in wanted)
