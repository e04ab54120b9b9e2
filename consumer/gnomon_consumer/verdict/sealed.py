"""The whole local days that count: sealed by a time, under one plan and one live version."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from gnomon_consumer.verdict.database import SQL, Subject, one
from gnomon_consumer.verdict.plans import StoredPlan
from gnomon_consumer.verdict.rules.evidence import LiveVersion
from gnomon_consumer.verdict.rules.plan import Plan
from gnomon_schemas.errors import ConfigurationError

DAY = timedelta(days=1)


class Period:
    """The whole local days that count, as times and as dates."""

    def __init__(self, first: date, end: date, time_zone: str) -> None:
        """Hold [first, end) in a time zone."""
        self.days = tuple(first + i * DAY for i in range(max(0, (end - first).days)))
        self.end = end
        self.time_zone = time_zone
        zone = ZoneInfo(time_zone)
        self.since = datetime.combine(first, time(), zone)
        self.until = datetime.combine(max(first, end), time(), zone)

    @property
    def limits(self) -> dict[str, datetime]:
        """Return the period as arguments of a function of the database."""
        return {"since": self.since, "until": self.until}


@dataclass(frozen=True)
class Sealed:
    """The event time up to which days are sealed, None without a seal, and the cohort that sealed them."""

    until: datetime | None
    cohort_id: int | None


def needs_labels(plan: Plan) -> bool:
    """Return whether any metric of the plan needs labels."""
    return set(plan.margins()) != {"agreement"}


def horizon_of(plan: Plan) -> timedelta | None:
    """Return the maximum delay of a label, None for a plan that needs no labels."""
    return timedelta(days=plan.horizon_days) if needs_labels(plan) else None


def sealed(subject: Subject, plan: Plan, as_of: datetime | None) -> Sealed:
    """Return what was sealed by a time. Raise ConfigurationError for a horizon that the stream does not have.

    Without labels only the joiner matters: the event time up to which every partition is joined counts as sealed.
    """
    horizon = horizon_of(plan)
    if horizon is None:
        found = subject.one(SQL["joined_until"], as_of=as_of)
        return Sealed(found["until"] if found else None, None)
    known = one(subject.connection, SQL["horizons"], stream=subject.row["stream"])
    horizons = known["horizons"] if known else []
    if horizon not in horizons:
        there = ", ".join(f"{h / DAY:g}" for h in horizons)
        raise ConfigurationError(f"stream has no horizon of {plan.horizon_days:g} days; there are {there}")
    found = subject.one(SQL["sealed_cohort"], horizon=horizon, as_of=as_of)
    return Sealed(found["until"], found["cohort_id"]) if found else Sealed(None, None)


def live_versions(subject: Subject, until: datetime, time_zone: str) -> tuple[LiveVersion, ...]:
    """Return the versions of the live model among the pairs, the current one last."""
    found = subject.ask("verdict_live_versions", until=until, time_zone=time_zone)
    return tuple(
        LiveVersion(name=r["name"], version=r["version"], first=r["first_day"], last=r["last_day"], rows=r["n"])
        for r in found
    )


def replayed_until(subject: Subject) -> datetime | None:
    """Return the last capture of a replayed past, None for live traffic.

    If a live stream has no captures on its last days, it has stopped, which must be reported; a replay has ended.
    """
    found = subject.one(SQL["replayed_until"])
    last: datetime | None = found["last"] if found and found["past"] else None
    return last


def whole_days(
    until: datetime, replay_end: datetime | None, newest: StoredPlan, versions: Sequence[LiveVersion]
) -> Period | None:
    """Return the whole days that count, for deployment, plan and live version; None if there are none."""
    if not versions:
        return None
    zone = ZoneInfo(newest.plan.time_zone)
    end = until.astimezone(zone).date()
    if replay_end is not None:
        end = min(end, replay_end.astimezone(zone).date())
    first = min(version.first for version in versions) + DAY
    if newest.evidence_from is not None:
        first = max(first, newest.evidence_from.astimezone(zone).date() + DAY)
    first = max([first, *(version.last + DAY for version in versions[:-1])])
    return Period(first, end, newest.plan.time_zone) if first < end else None
