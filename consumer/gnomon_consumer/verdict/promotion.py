"""Promote a challenger and undo a promotion; both are recorded, and the way back is checked first."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from gnomon_consumer.runtime.user import user_name
from gnomon_consumer.verdict import events
from gnomon_consumer.verdict.database import SQL, Connection, Row, one
from gnomon_consumer.verdict.plans import stored_plans
from gnomon_consumer.verdict.rules.plan import Plan
from gnomon_consumer.verdict.ways import State, Way, way_of
from gnomon_schemas.errors import ConfigurationError, GnomonError


class RefusedError(GnomonError):
    """The promotion is refused; nothing was changed."""

    exit_status = 1


class UnrecordedError(GnomonError):
    """PostgreSQL went away between the switch and its record; the switch stands where it was before."""

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
        raise ConfigurationError(f"no promotion of stream {stream} stands, so no model was live before it")
    former, number = standing["former"], standing["promotion_id"]
    if former["model_name"] is None or former["model_version"] is None:
        raise ConfigurationError(f"promotion {number} does not say which model was live before it: no pair was joined")
    name = f"former-live-{number}"
    return FormerLive(name, former["model_name"], former["model_version"], standing["decided_at"])


def promote(connection: Connection, deployment: Row, override: str | None, dry_run: bool) -> Promotion:
    """Make the challenger live. Raises RefusedError without a fresh PROMOTE, unless overridden with a reason.

    Switch, record and event always agree: the record is written first and undone if the switch fails; the switch is
    moved back if the record cannot be committed.
    """
    if override is not None and not override.strip():
        raise ConfigurationError("--override needs a reason")
    plan = _plan(connection, deployment)
    way = way_of(plan.way_back)
    with _together(way) as moved, connection.transaction():
        _lock(connection, deployment)
        standing = _standing(connection, deployment["stream"])
        if standing is not None and standing["deployment_id"] == deployment["deployment_id"]:
            raise RefusedError(
                f"{deployment['deployment']} was promoted already (promotion {standing['promotion_id']})"
            )
        verdict_id = _fresh_promote(connection, deployment, override)
        live = one(connection, SQL["live_model"], id=deployment["deployment_id"])
        before, after = way.state(), way.wanted()
        if before == after:
            raise RefusedError(
                "the challenger is live already, without a promotion of Gnomon's: move the switch back, then promote"
            )
        # The way back first: a promotion that cannot be undone is not made.
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
        done = _record(connection, deployment, plan, verdict_id, None, override, former, promoted)
        moved.make(before, after, _note(done, verdict_id, override))
    return done


def roll_back(connection: Connection, deployment: Row, dry_run: bool) -> Promotion:
    """Undo a deployment's newest promotion that was not undone. Raises ConfigurationError if there is none."""
    standing = _to_undo(connection, deployment)
    plan = Plan.model_validate({"way_back": standing["way_back"]})
    way = way_of(plan.way_back)
    with _together(way) as moved, connection.transaction():
        _lock(connection, deployment)
        if _to_undo(connection, deployment)["promotion_id"] != standing["promotion_id"]:
            raise RefusedError(f"promotion {standing['promotion_id']} was rolled back by somebody else")
        before, after = standing["promoted"]["state"], standing["former"]["state"]
        way.check(after)
        if dry_run:
            return Promotion(None, standing["promoted"], standing["former"])
        undone = standing["promotion_id"]
        done = _record(connection, deployment, plan, None, undone, None, standing["promoted"], standing["former"])
        # A switch that stands where it should is only recorded: somebody was quicker, or a promotion was cut off.
        if plan.way_back.kind == "command" or way.state() != after:
            moved.make(before, after, _note(done, None, None))
    return done


def _to_undo(connection: Connection, deployment: Row) -> Row:
    """Return a deployment's promotion that was not undone. Raises ConfigurationError if there is none."""
    standing = _standing(connection, deployment["stream"])
    if standing is None or standing["deployment_id"] != deployment["deployment_id"]:
        raise ConfigurationError(f"there is no promotion of {deployment['deployment']} to roll back")
    return standing


@dataclass
class _Move:
    """A move of a switch, which is undone if its record fails."""

    way: Way
    done: list[tuple[State, State]] = field(default_factory=list)

    def make(self, before: State, after: State, note: dict[str, str]) -> None:
        """Move the switch."""
        self.way.move(before, after, note)
        self.done.append((before, after))

    def undo(self, reason: BaseException) -> None:
        """Move it back. If that fails too, raise GnomonError with the switch's position and the right one."""
        for before, after in self.done:
            try:
                self.way.move(after, before, {"undone": "not recorded"})
            except Exception as error:
                raise GnomonError(
                    f"it was not recorded ({_line(reason)}), and the switch could not be moved back ({_line(error)}):"
                    f" move it by hand from {after} to {before}"
                ) from error


@contextmanager
def _together(way: Way) -> Iterator[_Move]:
    """Yield a move that is undone if the block, including the transaction's commit, ends with an error.

    If the connection breaks during the commit, it is unknown whether the server recorded it. The switch is then in its
    former position; if the record says otherwise, `gnomon rollback` corrects the record.
    """
    move = _Move(way)
    try:
        yield move
    except BaseException as error:
        move.undo(error)
        if move.done and isinstance(error, psycopg.Error):
            raise UnrecordedError(
                f"PostgreSQL did not confirm the record ({_line(error)}); the switch was moved back"
            ) from error
        raise


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def _plan(connection: Connection, deployment: Row) -> Plan:
    plans = stored_plans(connection, deployment["deployment_id"])
    if not plans:
        raise RefusedError(f"{deployment['deployment']} has no plan yet; ask `gnomon verdict` first")
    return plans[-1].plan


def _lock(connection: Connection, deployment: Row) -> None:
    connection.execute(SQL["lock_promotions"], {"stream": deployment["stream"]})


def _standing(connection: Connection, stream: str) -> Row | None:
    """Return the newest promotion of the stream that was not undone."""
    return one(connection, SQL["standing_promotion"], stream=stream)


def _fresh_promote(connection: Connection, deployment: Row, override: str | None) -> int | None:
    """Return the newest verdict's id. Raises RefusedError unless it says PROMOTE for the newest seal and plan."""
    last = one(connection, SQL["newest_verdict"], id=deployment["deployment_id"])
    if override is not None:
        return last["verdict_id"] if last else None
    name = deployment["deployment"]
    if last is None:
        raise RefusedError(f"{name} has no verdict yet; ask `gnomon verdict` first, or give --override REASON")
    if last["decision"] not in ("PROMOTE", "ROLLBACK"):
        raise RefusedError(f"the newest verdict of {name} ({last['verdict_id']}) says {last['decision']}")
    if last["plan_id"] != last["newest_plan"]:
        raise RefusedError(f"the plan of {name} changed after verdict {last['verdict_id']}; ask `gnomon verdict` again")
    if last["cohort_id"] != last["newest_cohort"]:
        raise RefusedError(f"verdict {last['verdict_id']} is older than the newest seal; ask `gnomon verdict` again")
    return int(last["verdict_id"])


def _record(
    connection: Connection,
    deployment: Row,
    plan: Plan,
    verdict_id: int | None,
    undoes: int | None,
    override: str | None,
    former: dict[str, Any],
    promoted: dict[str, Any],
) -> Promotion:
    way_back = plan.way_back.model_dump(mode="json")
    row = one(
        connection,
        SQL["add_promotion"],
        id=deployment["deployment_id"],
        verdict=verdict_id,
        undoes=undoes,
        override=override,
        way_back=Jsonb(way_back),
        former=Jsonb(former),
        promoted=Jsonb(promoted),
        by=user_name(),
    )
    assert row is not None
    kind = "promoted" if undoes is None else "rolled_back"
    data = {"promotion_id": row["promotion_id"], "verdict_id": verdict_id, "undoes": undoes, "override": override,
            "former": former, "promoted": promoted}  # fmt: skip
    events.write(connection, deployment, kind, data)
    return Promotion(row["promotion_id"], former, promoted)


def _note(done: Promotion, verdict_id: int | None, override: str | None) -> dict[str, str]:
    note = {"promotion": str(done.promotion_id), "by": user_name(), "verdict": str(verdict_id or "")}
    return note | ({"override": override} if override else {})
