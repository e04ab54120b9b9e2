"""The evidence of a verdict as plain data: stored with the verdict, exported, computed again to verify. Pure."""

from dataclasses import KW_ONLY, dataclass, field
from datetime import date, datetime
from math import isfinite
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from gnomon_consumer.verdict.rules.confidence import Clusters, Sums


@dataclass(frozen=True, kw_only=True)
class Series:
    """Sums by whole day of one metric, over everything or one segment.

    `variant`: `complete` (labelled requests), `weighted` (weights divided by the labelled share of each group of like
    requests) or `worst` (the missing labels have their worst values). `clusters`: by number of days, V_c and V_cd.
    """

    metric: str
    rows: tuple[int, ...]
    live_y: tuple[float, ...]
    live_x: tuple[float, ...]
    shadow_y: tuple[float, ...]
    shadow_x: tuple[float, ...]
    clusters: dict[int, tuple[float, float]] = field(default_factory=dict)
    segment: str = ""
    variant: str = "complete"

    def sums(self, days: int) -> Sums:
        """Return the sums of the first days."""
        live_y, live_x, shadow_y, shadow_x = (
            np.array(side[:days], dtype=float) for side in (self.live_y, self.live_x, self.shadow_y, self.shadow_x)
        )
        return Sums(live_y, live_x, shadow_y, shadow_x, root=self.metric == "rmse")

    def between_clusters(self, days: int) -> Clusters:
        """Return the cluster variances after this many days, 0 if unknown."""
        return Clusters(*self.clusters.get(days, (0.0, 0.0)))


@dataclass(frozen=True)
class Errors:
    """Units (a cluster on a day; a request without a cluster is a unit by itself) by which side failed in them."""

    units: int = 0
    shadow_failed: int = 0
    shadow_only: int = 0
    live_only: int = 0


@dataclass(frozen=True)
class AnswerCell:
    """Requests by the decisions of both sides: their share of the traffic, and how many of them have a label."""

    live: str | None
    shadow: str | None
    share: float
    labelled: float


@dataclass(frozen=True, kw_only=True)
class LiveVersion:
    """A version of the live model among the pairs, with its first and last local day."""

    name: str
    version: str
    first: date
    last: date
    rows: int


@dataclass(frozen=True, kw_only=True)
class Control:
    """The control's own disagreement with live: the noise floor, with the lower end of its 95% interval."""

    deployment: str
    rows: int
    disagreement: float
    low: float
    features: tuple[str, ...] = ()


@dataclass(frozen=True)
class Compared:
    """The number of comparable answered pairs, and in how many of them each field that the rule ignores differs."""

    rule: str
    answered: int
    compared: int
    ignored: dict[str, int]


@dataclass(frozen=True)
class Rejection:
    """The first REJECT of a process: the verdict, after how many whole days, when, and by which codes."""

    verdict_id: int
    days: int
    decided_at: datetime
    codes: tuple[str, ...]


@dataclass(frozen=True)
class Evidence:
    """Everything that the gate reads. `days`: the whole local days of sealed cohorts since live last changed.

    `silent`: of each metric that no request has the data for, the code and the text of the reason if it is known.
    """

    stream: str
    deployment: str
    role: str
    _: KW_ONLY
    days: tuple[date, ...] = ()
    series: tuple[Series, ...] = ()
    latency: tuple[Series, ...] = ()
    errors: Errors = Errors()
    rows: int = 0
    answered: float | None = None
    coverage: float | None = None
    label_coverage: float | None = None
    effective_rows: float = 0
    classes: dict[str, int] = field(default_factory=dict)
    cells: tuple[AnswerCell, ...] = ()
    ledger_differences: int = 0
    orphaned: int = 0
    drift: dict[str, float] = field(default_factory=dict)
    live_versions: tuple[LiveVersion, ...] = ()
    control: Control | None = None
    sealed_until: datetime | None = None
    cohort_id: int | None = None
    promoted_from: bool = False
    rejected: Rejection | None = None
    compared: Compared | None = None
    silent: dict[str, tuple[str, str]] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)

    def find(self, metric: str, segment: str = "", variant: str = "complete") -> Series | None:
        """Return the series of a metric, None if there is none."""
        wanted = (metric, segment, variant)
        return next((s for s in self.series if (s.metric, s.segment, s.variant) == wanted), None)

    @property
    def live_changed(self) -> bool:
        """Return whether more than one version of the live model answered."""
        return len(self.live_versions) > 1

    def as_json(self) -> dict[str, Any]:
        """Return the evidence as plain JSON values; numbers that are not finite become null."""
        plain: dict[str, Any] = finite(_ADAPTER.dump_python(self, mode="json"))
        return plain

    @staticmethod
    def from_json(value: dict[str, Any]) -> "Evidence":
        """Return the evidence that `as_json` wrote."""
        return _ADAPTER.validate_python(value)


_ADAPTER = TypeAdapter(Evidence)


def finite(value: Any) -> Any:
    """Return the value, including nested ones, in JSON types: dates as text, numbers that are not finite as null."""
    if isinstance(value, dict):
        return {str(key): finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    if isinstance(value, float | np.floating):
        return float(value) if isfinite(value) else None
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, np.integer):
        return int(value)
    return value
