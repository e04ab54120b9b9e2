"""The output of the shipped commands on the flights over twenty weeks: the content of docs/verdict-flights.md."""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gnomon_consumer.verdict.rules.confidence import Sums, bounds
from gnomon_consumer.verdict.rules.evidence import Evidence
from gnomon_consumer.verdict.rules.gate import decide
from gnomon_consumer.verdict.rules.judged import tuning
from gnomon_consumer.verdict.rules.plan import Plan
from tests.support.flights_weeks import BROKEN, CHALLENGER, CONTROL, MINUTES, ROLES, Weeks

LOOKS = {
    14: (CHALLENGER, CONTROL, BROKEN),
    28: (CHALLENGER, BROKEN),
    42: (BROKEN,),
    49: (BROKEN,),
    56: (CHALLENGER,),
    84: (CHALLENGER,),
    112: (CHALLENGER,),
    126: (CHALLENGER,),
    133: (CHALLENGER,),
    140: (CHALLENGER, CONTROL, BROKEN),
}
"""The numbers of whole days after which `gnomon verdict` runs, with the deployments."""
COINS = 2000
TAKEN = {
    "Half of the labels": (
        "delete from gnomon.labels where hashtext(request_id) % 2 = 0",
    ),
    "What one service run lost": (
        "update gnomon.producer_tallies set highest_sequence = highest_sequence + 20000",
    ),
    "The pairs of one day": (
        "delete from gnomon.pairs where event_time >= '2013-04-09 04:00+00' and event_time < '2013-04-10 04:00+00'",
    ),
}  # fmt: skip
"""Statements on a copy of the database, each of which removes one kind of evidence."""


@dataclass
class Story:
    """All outputs, in order."""

    golden: str = ""
    skew: dict[str, Any] = field(default_factory=dict)
    said: dict[tuple[int, str], dict[str, Any]] = field(default_factory=dict)
    taken: dict[str, dict[str, Any]] = field(default_factory=dict)
    changed: dict[str, Any] = field(default_factory=dict)
    by_day: dict[str, list[str]] = field(default_factory=dict)
    promoted_by_coin: float = 1.0

    def first(self, deployment: str, decision: str) -> int | None:
        """Return after how many days a deployment got a decision for the first time."""
        return next((n for (n, name), s in self.said.items() if (name, s["decision"]) == (deployment, decision)), None)


def tell(weeks: Weeks) -> Story:
    """Run the weeks and return all outputs."""
    story = Story()
    for days, deployments in LOOKS.items():
        weeks.publish(days)
        if not story.skew:
            story.golden, story.skew = _golden(weeks), _skew(weeks)
        story.said |= {(days, name): weeks.ask(name) for name in deployments}
    exported = {name: _export(weeks, story.said[140, name]["verdict_id"]) for name in ROLES}
    story.by_day = {name: every_day(Plan.model_validate(x["plan"]), x["evidence"]) for name, x in exported.items()}
    story.promoted_by_coin = by_coin(Evidence.from_json(exported[CHALLENGER]["evidence"]))
    weeks.children.stop()
    for what, statements in TAKEN.items():
        with weeks.without(*statements) as url:
            story.taken[what] = weeks.ask(CHALLENGER, url)
    weeks.version = "2013.09"
    weeks.start()
    weeks.publish(150)
    story.changed = weeks.ask(CHALLENGER)
    return story


def _golden(weeks: Weeks) -> str:
    """Return the error of `gnomon score --golden` before it scores anything; the features' schema must have arrived."""
    model, rows = weeks.models.files[BROKEN], weeks.golden()
    refused = weeks.gnomon("score", "--deployment", "golden", "--model", model, "--golden", rows, status=2)
    return next(line for line in reversed(refused.splitlines()) if line.startswith("gnomon: "))


def _skew(weeks: Weeks) -> dict[str, Any]:
    """Return the output of `gnomon report skew` on the scheduled departure."""
    answer = weeks.gnomon("report", "skew", weeks.offline(), "--deployment", BROKEN, "--format", "json")
    row: dict[str, Any] = next(row for row in json.loads(answer)["rows"] if row["feature"] == MINUTES)
    return row


def _export(weeks: Weeks, verdict_id: int) -> dict[str, Any]:
    exported: dict[str, Any] = json.loads(weeks.gnomon("verdict", "export", verdict_id))
    return exported


def every_day(plan: Plan, evidence: dict[str, Any]) -> list[str]:
    """Return the decision on the first 1, 2, … days of stored evidence.

    Sealed day sums never change; an earlier REJECT is left out. The variances of clusters are left out, because they
    are stored for two looks only, so these decisions are less strict than those of `gnomon verdict` on that day.
    """
    series = [{**one, "clusters": {}} for one in evidence["series"]]
    days = evidence["days"]
    cuts = ({**evidence, "series": series, "days": days[:n], "rejected": None} for n in range(1, len(days) + 1))
    return [str(decide(plan, Evidence.from_json(cut)).decision) for cut in cuts]


def by_coin(evidence: Evidence, seed: int = 2013) -> float:
    """Return how often one of two equal models would be promoted, with the sides of each day swapped at random.

    Looks at whole weeks from the fourteenth day on, `COINS` times, by the bounds that the verdict uses.
    """
    series = evidence.find("brier")
    assert series is not None
    coin = np.random.default_rng(seed).random((COINS, len(evidence.days))) < 0.5
    live_y, live_x, shadow_y, shadow_x = (
        np.array(side) for side in (series.live_y, series.live_x, series.shadow_y, series.shadow_x)
    )
    whole = Sums(
        np.where(coin, shadow_y, live_y),
        np.where(coin, shadow_x, live_x),
        np.where(coin, live_y, shadow_y),
        np.where(coin, live_x, shadow_x),
    )
    plan = Plan(metric="brier")
    promoted = np.zeros(COINS, dtype=bool)
    for look in range(14, len(evidence.days) + 1, 7):
        promoted |= bounds(whole.first(look), plan.alpha, *tuning(plan.days, plan.weeks, plan.alpha)).high < 0
    return float(promoted.mean())
