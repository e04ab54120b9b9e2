"""The intent of a promotion or rollback, committed before it acts, so that an interrupted one is never forgotten."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from gnomon_consumer.database.connections import Connection
from gnomon_consumer.runtime.user import user_name
from gnomon_consumer.verdict import events
from gnomon_consumer.verdict.database import SQL, one
from gnomon_consumer.verdict.rules.plan import WayBack
from gnomon_schemas.errors import GnomonError

Completion = Literal["done", "undone"]


class RefusedError(GnomonError):
    """The promotion is refused; nothing was changed."""

    exit_status = 1


@dataclass(frozen=True, kw_only=True)
class Intent:
    """The change of a switch from `former["state"]` to `promoted["state"]`, and the number of its future record."""

    promotion_id: int
    stream: str
    deployment_id: int
    deployment: str
    verdict_id: int | None
    undoes: int | None
    override: str | None
    way_back: WayBack
    former: dict[str, Any]
    promoted: dict[str, Any]
    decided_by: str
    decided_at: datetime

    @property
    def what(self) -> str:
        """Return a description of the change."""
        kind = "promotion" if self.undoes is None else "rollback"
        return f"{kind} {self.promotion_id} of {self.deployment}"

    @property
    def note(self) -> dict[str, str]:
        """Return the note that is written next to the switch: number, user, verdict, reason."""
        note = {"promotion": str(self.promotion_id), "by": self.decided_by, "verdict": str(self.verdict_id or "")}
        return note | ({"override": self.override} if self.override else {})


def unsettled(connection: Connection, stream: str) -> Intent | None:
    """Return the promotion or rollback of a stream that started and has not ended."""
    row = one(connection, SQL["open_intent"], stream=stream)
    if row is None:
        return None
    fields = {name: row[name] for name in Intent.__dataclass_fields__}
    return Intent(**{**fields, "way_back": WayBack.model_validate(row["way_back"])})


def refuse_unsettled(connection: Connection, stream: str) -> None:
    """Raise RefusedError if a promotion or rollback of a stream started and has not ended."""
    found = unsettled(connection, stream)
    if found is not None:
        raise RefusedError(
            f"{found.what} was started by {found.decided_by} at {found.decided_at:%Y-%m-%d %H:%M:%S} and has not ended;"
            " if it was interrupted, run `gnomon promote --resume`"
        )


def begin(
    connection: Connection,
    deployment: DictRow,
    way_back: WayBack,
    former: dict[str, Any],
    promoted: dict[str, Any],
    *,
    verdict_id: int | None = None,
    undoes: int | None = None,
    override: str | None = None,
) -> Intent:
    """Store the intent; it counts after the transaction is committed."""
    connection.execute(
        SQL["add_intent"],
        {"id": deployment["deployment_id"], "verdict": verdict_id, "undoes": undoes, "override": override,
         "way_back": Jsonb(way_back.model_dump(mode="json")), "former": Jsonb(former), "promoted": Jsonb(promoted),
         "by": user_name()},
    )  # fmt: skip
    intent = unsettled(connection, deployment["stream"])
    assert intent is not None
    return intent


def finish(connection: Connection, intent: Intent) -> None:
    """Record the intent as done, with its event. Raise RefusedError if another process settled it before."""
    _settle(connection, intent, "done")
    connection.execute(SQL["add_promotion"], {"promotion": intent.promotion_id})
    kind = "promoted" if intent.undoes is None else "rolled_back"
    fields = ("promotion_id", "verdict_id", "undoes", "override", "former", "promoted")
    data = {name: getattr(intent, name) for name in fields}
    events.write(connection, {"deployment_id": intent.deployment_id}, kind, data)


def give_up(connection: Connection, intent: Intent) -> None:
    """Mark the intent as undone. Raise RefusedError if another process settled it before."""
    _settle(connection, intent, "undone")


def _settle(connection: Connection, intent: Intent, outcome: Completion) -> None:
    if one(connection, SQL["resolve_intent"], promotion=intent.promotion_id, outcome=outcome) is None:
        raise RefusedError(f"{intent.what} was settled by another process")
