"""Outcomes of sampled captures: the bucket of the ledger and the record of each row, as columns. Types only."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import pyarrow as pa

from gnomon_consumer.scorer.captures import Texts, text_at
from gnomon_schemas.records import (
    Failure,
    FailureKind,
    Prediction,
)

Status = Literal["scored", "failed", "timed_out", "dead_lettered"]
STATUSES: tuple[Status, ...] = get_args(Status)
ANSWER = ("prediction", "error", "latency_us", "batch_size", "queued_us", "scored_at", "feature_state")
"""The columns of outcomes that a worker returns; the scorer fills the others."""


class Scored(NamedTuple):
    """The outcome of one row: its ledger bucket, its ShadowPrediction, and the reason if it is a dead letter."""

    status: Status
    message: bytes
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Outcomes:
    """Outcomes of some rows as columns: `codes[i]` is the index of row i's bucket in STATUSES.

    `dead` holds reason and detail of each dead letter, by its row. `columns` are the model's answers (see ANSWER) if
    all rows were answered together; `messages` are then written on demand.
    """

    codes: bytes
    written: Texts | Callable[[], Texts]
    dead: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    columns: pa.RecordBatch | None = None

    @cached_property
    def messages(self) -> Texts:
        """Return the framed ShadowPredictions."""
        return self.written() if callable(self.written) else self.written

    @classmethod
    def of(cls, outcomes: Sequence[Scored]) -> "Outcomes":
        """Return the columns of single outcomes."""
        return cls(
            bytes(STATUSES.index(one.status) for one in outcomes),
            [one.message for one in outcomes],
            {at: (one.reason, one.detail) for at, one in enumerate(outcomes) if one.status == "dead_lettered"},
        )

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, at: int) -> Scored:
        return Scored(STATUSES[self.codes[at]], text_at(self.messages, at), *self.dead.get(at, ()))

    def __iter__(self) -> Iterator[Scored]:
        return (self[at] for at in range(len(self)))


def status_of(outcome: Prediction | Failure) -> Status:
    """Return the bucket of the ledger that an outcome belongs to."""
    if isinstance(outcome, Prediction):
        return "scored"
    if outcome.kind == FailureKind.DEAD_LETTER:
        return "dead_lettered"
    return "timed_out" if outcome.kind == FailureKind.TIMEOUT else "failed"
