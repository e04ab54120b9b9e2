"""Promote a challenger and undo a promotion; both are recorded, and the way back is checked first.

The intent is committed before the switch moves. The record, its event and the end of the intent are one transaction
around the move. If the process is killed in between, the intent stays open and `resume` settles it.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
from psycopg.rows import DictRow

from gnomon_consumer.database.connections import Connection
from gnomon_consumer.verdict.database import SQL, Subject, one
from gnomon_consumer.verdict.intents import (
    Completion,
    Intent,
    RefusedError,
    begin,
    finish,
    give_up,
    refuse_unsettled,
    unsettled,
)
from gnomon_consumer.verdict.plans import stored_plans
from gnomon_consumer.verdict.rules.plan import Plan, WayBack
from gnomon_consumer.verdict.sealed import sealed
from gnomon_consumer.verdict.ways import SwitchState, Way, way_of
from gnomon_schemas.errors import ConfigurationError, GnomonError


class StuckError(GnomonError):
    """A switch was moved, could not be recorded, and could not be moved back."""


class UnrecordedError(GnomonError):
    """PostgreSQL became unreachable between the switch and its record; the switch is back in its former position."""

    exit_status = 3


@dataclass(frozen=True)
class Promotion:
    """The result: the switch before and after, and the models whose roles are swapped."""

    promotion_id: int | None
    former: dict[str, Any]
    promoted: dict[str, Any]


@dataclass(frozen=True)
class FormerLive:
    """The model that was live before a valid promotion, as a challenger of the promoted one."""

    deployment: str
    model_name: str
    model_version: str
    since: datetime


def former_live(connection: Connection, stream: str) -> FormerLive:
    """Return the former live model of the stream's newest promotion that was not undone.

    Raises ConfigurationError if there is no such promotion, or if no pair names the live model.
    """
    standing = _standing(connection, stream)
    if standing is None:
        raise ConfigurationError(f"no promotion of stream {stream} is in effect, so there is no former live model")
    former, number = standing["former"], standing["promotion_id"]
    if former["model_name"] is None or former["model_version"] is None:
        raise ConfigurationError(f"promotion {number} does not say which model was live before it: no pair was joined")
    name = f"former-live-{number}"
    return FormerLive(name, former["model_name"], former["model_version"], standing["decided_at"])


def promote(connection: Connection, deployment: DictRow, override: str | None, dry_run: bool) -> Promotion:
    """Make the challenger live. Raises RefusedError without a fresh PROMOTE, unless overridden with a reason.

    Switch, record and event always agree: the record is written first and undone if the switch fails; the switch is
    moved back if the record cannot be committed.
    """
    if override is not None and not override.strip():
        raise ConfigurationError("--override needs a reason")
    plan = _plan(connection, deployment)
    way = way_of(plan.way_back)
    with connection.transaction():
        _lock(connection, deployment["stream"])
        refuse_unsettled(connection, deployment["stream"])
        standing = _standing(connection, deployment["stream"])
        if standing is not None and standing["deployment_id"] == deployment["deployment_id"]:
            raise RefusedError(
                f"{deployment['deployment']} was promoted already (promotion {standing['promotion_id']})"
            )
        verdict_id = _fresh_promote(connection, deployment, plan, override)
        live = one(connection, SQL["live_model"], id=deployment["deployment_id"])
        before, after = way.state(), way.wanted()
        if before == after:
            raise RefusedError(
                "the challenger is already live, but Gnomon did not promote it: move the switch back, then promote"
            )
        # Check the way back first: a promotion that cannot be undone is refused.
        way.check(before)
        way.check(after)
        former = {
            "model_name": (live or {}).get("live_model_name"),
            "model_version": (live or {}).get("live_model_version"),
            "state": before,
        }
        promoted = {key: deployment[key] for key in ("model_name", "model_version", "model_sha256")} | {"state": after}
        if dry_run:
            return Promotion(None, former, promoted)
        intent = begin(
            connection, deployment, plan.way_back, former, promoted, verdict_id=verdict_id, override=override
        )
    return _carry_out(connection, way, intent)


def roll_back(connection: Connection, deployment: DictRow, dry_run: bool) -> Promotion:
    """Undo a deployment's newest promotion that was not undone. Raises ConfigurationError if there is none."""
    with connection.transaction():
        _lock(connection, deployment["stream"])
        refuse_unsettled(connection, deployment["stream"])
        standing = _to_undo(connection, deployment)
        way_back = WayBack.model_validate(standing["way_back"])
        way = way_of(way_back)
        former, promoted = standing["promoted"], standing["former"]
        way.check(promoted["state"])
        if dry_run:
            return Promotion(None, former, promoted)
        intent = begin(connection, deployment, way_back, former, promoted, undoes=standing["promotion_id"])
    return _carry_out(connection, way, intent)


def _carry_out(connection: Connection, way: Way, intent: Intent) -> Promotion:
    """Move the switch and record it, both or neither."""
    before, after = intent.former["state"], intent.promoted["state"]
    try:
        with _together(way) as moved, connection.transaction():
            _lock(connection, intent.stream)
            finish(connection, intent)
            # A switch that was moved back by hand is only recorded.
            if intent.undoes is None or intent.way_back.kind == "command" or way.state() != after:
                moved.make(
                    before, after, intent.note, uncertain=intent.way_back.kind == "command" and intent.undoes is None
                )
    except StuckError:
        raise
    except GnomonError:
        # The switch is in its former position. If PostgreSQL is unreachable, `resume` marks the intent later.
        with suppress(psycopg.Error, RefusedError), connection.transaction():
            give_up(connection, intent)
        raise
    return Promotion(intent.promotion_id, intent.former, intent.promoted)


@dataclass(frozen=True)
class Settled:
    """A promotion or rollback that was interrupted, and its result."""

    intent: Intent
    outcome: Completion


def resume(connection: Connection, stream: str, stated: Completion | None = None) -> Settled:
    """Settle what was interrupted: record it if the switch has moved, else mark it as undone.

    The progress of a command cannot be read, so the rollback command is run, after which the former model is live. With
    `stated`, the user's own answer, the switch is not read. Raises ConfigurationError if nothing was interrupted,
    RefusedError if the switch is in a third position.
    """
    with connection.transaction():
        # A process that is still working holds this lock until it ends.
        _lock(connection, stream)
        intent = unsettled(connection, stream)
        if intent is None:
            raise ConfigurationError(f"no promotion or rollback of stream {stream} was interrupted")
        outcome = stated or _outcome_of_switch(way_of(intent.way_back), intent)
        if outcome == "done":
            finish(connection, intent)
        else:
            give_up(connection, intent)
    return Settled(intent, outcome)


def _outcome_of_switch(way: Way, intent: Intent) -> Completion:
    before, after = intent.former["state"], intent.promoted["state"]
    if intent.way_back.kind == "command":
        way.move(way.wanted(), way.state(), intent.note)
        return "undone" if intent.undoes is None else "done"
    now = way.state()
    if now == after:
        return "done"
    if now == before:
        return "undone"
    raise RefusedError(
        f"{intent.what} was to move the switch from {before} to {after}, but the switch is at {now}: move it to one of"
        " the two, or give --outcome done or --outcome undone"
    )


def _to_undo(connection: Connection, deployment: DictRow) -> DictRow:
    """Return a deployment's promotion that was not undone. Raise ConfigurationError if there is none."""
    standing = _standing(connection, deployment["stream"])
    if standing is None or standing["deployment_id"] != deployment["deployment_id"]:
        raise ConfigurationError(f"there is no promotion of {deployment['deployment']} to roll back")
    return standing


@dataclass
class _Move:
    """A move of a switch, which is undone if its record fails."""

    way: Way
    done: list[tuple[SwitchState, SwitchState]] = field(default_factory=list)

    def make(self, before: SwitchState, after: SwitchState, note: dict[str, str], *, uncertain: bool) -> None:
        """Move the switch. `uncertain`: a move that fails may have acted in part, so it is undone too."""
        try:
            self.way.move(before, after, note)
        except BaseException:
            if uncertain:
                self.done.append((before, after))
            raise
        self.done.append((before, after))

    def undo(self, reason: BaseException) -> None:
        """Move it back. If that fails too, raise GnomonError with the switch's position and the right one."""
        for before, after in self.done:
            try:
                self.way.move(after, before, {"undone": "not recorded"})
            except Exception as error:
                raise StuckError(
                    f"it was not recorded ({_line(reason)}), and the switch could not be moved back ({_line(error)}):"
                    f" move it by hand from {after} to {before}"
                ) from error


@contextmanager
def _together(way: Way) -> Iterator[_Move]:
    """Yield a move that is undone if the block, including the transaction's commit, ends with an error.

    If the connection breaks during the commit, it is unknown whether the server recorded it. The switch is then in its
    former position. `resume` settles that; if the record says that the switch was moved, `gnomon rollback` corrects it.
    """
    move = _Move(way)
    try:
        yield move
    except BaseException as error:
        move.undo(error)
        if move.done and isinstance(error, psycopg.Error):
            raise UnrecordedError(
                f"PostgreSQL did not confirm the record ({_line(error)}); the switch was moved back:"
                " run `gnomon promote --resume` when PostgreSQL is reachable again"
            ) from error
        if move.done and isinstance(error, GnomonError):
            raise GnomonError(f"{_line(error)}; it was taken back, so the former model is live") from error
        raise


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def _plan(connection: Connection, deployment: DictRow) -> Plan:
    plans = stored_plans(connection, deployment["deployment_id"])
    if not plans:
        raise RefusedError(f"{deployment['deployment']} has no plan yet; run `gnomon verdict` first")
    return plans[-1].plan


def _lock(connection: Connection, stream: str) -> None:
    connection.execute(SQL["lock_promotions"], {"stream": stream})


def _standing(connection: Connection, stream: str) -> DictRow | None:
    """Return the newest promotion of the stream that was not undone."""
    return one(connection, SQL["standing_promotion"], stream=stream)


def _fresh_promote(connection: Connection, deployment: DictRow, plan: Plan, override: str | None) -> int | None:
    """Return the newest verdict's id. Raise RefusedError unless it is PROMOTE for the newest seal and plan."""
    last = one(connection, SQL["newest_verdict"], id=deployment["deployment_id"])
    if override is not None:
        return last["verdict_id"] if last else None
    name = deployment["deployment"]
    if last is None:
        raise RefusedError(f"{name} has no verdict yet; run `gnomon verdict` first, or give --override REASON")
    if last["decision"] not in ("PROMOTE", "ROLLBACK"):
        raise RefusedError(f"the newest verdict of {name} ({last['verdict_id']}) says {last['decision']}")
    if last["plan_id"] != last["newest_plan"]:
        raise RefusedError(f"the plan of {name} changed after verdict {last['verdict_id']}; run `gnomon verdict` again")
    if last["cohort_id"] != last["newest_cohort"] or _days_came(connection, deployment, plan, last):
        raise RefusedError(f"verdict {last['verdict_id']} is older than the newest seal; run `gnomon verdict` again")
    return int(last["verdict_id"])


def _days_came(connection: Connection, deployment: DictRow, plan: Plan, last: DictRow) -> bool:
    """Return whether whole days were joined after the last verdict of a plan without labels."""
    if last["cohort_id"] is not None or last["sealed_until"] is None:
        return False
    zone = ZoneInfo(plan.time_zone)
    until = sealed(Subject(connection, deployment), plan, None).until
    return until is not None and until.astimezone(zone).date() > last["sealed_until"].astimezone(zone).date()
