"""The plan of a verdict, stored before there is evidence. Pure.

`[verdict]` of gnomon.toml. It is hashed and stored when the deployment starts; another plan later starts a new process.
"""

import hashlib
import json
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from gnomon_consumer.sections import Section

Goal = Literal["superior", "not_worse"]
WIDEST = 1e12
"""The widest margin: an infinite margin would not limit anything, and JSON cannot hold it."""

RANKINGS = tuple(f"ndcg{gain}@{k}" for gain in ("", "_exp") for k in (1, 3, 5, 10, 20))
"""NDCG of so many first items by linear and by exponential gain, in the order of the database's `ndcg_metrics`."""
METRICS: dict[str, tuple[int, float | None]] = {
    # metric: (1 where more is better, -1 where less is; the margin that holds unless the plan names another)
    "accuracy": (1, 0.005),
    "precision": (1, None),
    "recall": (1, None),
    "brier": (-1, 0.005),
    "log_loss": (-1, None),
    "squared_error": (-1, None),
    "absolute_error": (-1, None),
    "rmse": (-1, None),
    **dict.fromkeys(RANKINGS, (1, None)),
    "agreement": (1, 0.01),
}
"""The metrics that a plan may name. `agreement` compares the challenger with live itself (1) and needs no labels."""


class Gates(Section):
    """Conditions that must hold in addition to the metrics."""

    error_rate: float = Field(default=0.001, gt=0, lt=1, description="Highest error rate allowed; default 0.001.")
    answered: float = Field(
        default=0.99, ge=0, le=1, description="Lowest share of requests that both sides answered; default 0.99."
    )
    coverage: float = Field(
        default=0.99, ge=0, le=1, description="Lowest share of the offered captures that were evaluated; default 0.99."
    )
    label_coverage: float = Field(
        default=0.9, ge=0, le=1, description="Lowest weighted share of requests with a label; default 0.9."
    )
    cell_coverage: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Lowest label coverage of each cell (live decision, shadow decision); default 0.5.",
    )
    cell_share: float = Field(
        default=0.005,
        ge=0,
        le=1,
        description="Cells with a smaller share of the traffic are exempt from cell_coverage; default 0.005.",
    )
    rows: int = Field(default=1000, ge=1, le=10**12, description="Lowest number of scored requests; default 1000.")
    rows_a_day: int = Field(
        default=1, ge=0, le=10**9, description="Lowest number of scored requests on each whole day; default 1."
    )
    effective_rows: float = Field(
        default=400, ge=0, le=1e12, description="Lowest effective number of labelled rows; default 400."
    )
    class_rows: int = Field(
        default=30,
        ge=0,
        le=10**9,
        description="For classifiers: lowest number of labelled rows of each true class; default 30.",
    )
    latency_sla_ms: float | None = Field(
        default=None, gt=0, le=3_600_000, description="Longest latency that callers accept, milliseconds; default none."
    )
    latency_sla_share: float = Field(
        default=0.01, gt=0, lt=1, description="Highest share of requests slower than latency_sla_ms; default 0.01."
    )
    latency_control_share: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Highest share of requests, above the expected 5%, that may be slower than the control's p95;"
        " default: not compared.",
    )
    drift_psi: float = Field(
        default=0.25,
        gt=0,
        le=100,
        description="No feature's PSI may have a lower confidence limit above this; default 0.25.",
    )
    drift_expected: tuple[str, ...] = Field(default=(), description="Features whose drift is expected; default none.")
    control_disagreement: float = Field(
        default=0.005,
        ge=0,
        le=1,
        description="Highest share of requests on which the control may differ from live; default 0.005.",
    )


class WayBack(Section):
    """The switch that makes and undoes a promotion. Without it the verdict is never PROMOTE."""

    kind: Literal["none", "mlflow", "flag", "command"] = Field(
        default="none",
        description="mlflow: a registry alias; flag: an OpenFeature flag file; command: your commands; default none.",
    )
    mlflow_uri: str | None = Field(
        default=None, description="Tracking or registry URI of MLflow; default: the one MLflow is configured with."
    )
    mlflow_model: str | None = Field(default=None, description="Registered model whose alias a promotion moves.")
    mlflow_alias: str = Field(default="champion", description="Alias that the live service loads; default champion.")
    mlflow_version: str | None = Field(default=None, description="The challenger's version in the registry.")
    flag_file: str | None = Field(default=None, description="Flag file in flagd's format.")
    flag: str | None = Field(default=None, description="Flag whose default variant a promotion changes.")
    flag_variant: str | None = Field(default=None, description="Variant of the flag that means the challenger.")
    promote_command: tuple[str, ...] = Field(default=(), description="Command that promotes, as a list of arguments.")
    rollback_command: tuple[str, ...] = Field(
        default=(), description="Command that undoes the promotion, as a list of arguments."
    )
    check_command: tuple[str, ...] = Field(
        default=(), description="Command that exits with status 0 if a rollback would work; default none."
    )

    @model_validator(mode="after")
    def _whole(self) -> "WayBack":
        needs = {
            "none": (),
            "mlflow": ("mlflow_model", "mlflow_version"),
            "flag": ("flag_file", "flag", "flag_variant"),
            "command": ("promote_command", "rollback_command"),
        }
        missing = [name for name in needs[self.kind] if not getattr(self, name)]
        if missing:
            raise ValueError(f"way_back of kind {self.kind} needs {', '.join(missing)}")
        return self


class AnswerComparison(Section):
    """The rule by which two answers agree, for the metric agreement."""

    compare: Literal["stream", "label", "absolute", "relative", "top-k", "sql"] = Field(
        default="stream",
        description="stream: as the stream's settings say; label: equal decisions; absolute, relative: values within"
        " the tolerance; top-k: the same k best items; sql: the expression; default stream.",
    )
    tolerance: float | None = Field(
        default=None,
        ge=0,
        le=WIDEST,
        description="absolute: the largest difference; relative: the largest share of the larger value.",
    )
    k: int | None = Field(default=None, ge=1, le=10**6, description="top-k: how many items, in any order.")
    expression: str | None = Field(
        default=None,
        min_length=1,
        max_length=10_000,
        description="sql: a condition over the columns of report_v1.pairs; it can only read.",
    )

    @model_validator(mode="after")
    def _whole(self) -> "AnswerComparison":
        needs = {"absolute": "tolerance", "relative": "tolerance", "top-k": "k", "sql": "expression"}.get(self.compare)
        for name in ("tolerance", "k", "expression"):
            if name == needs and getattr(self, name) is None:
                raise ValueError(f"comparison {self.compare} needs {name}")
            if name != needs and getattr(self, name) is not None:
                raise ValueError(f"comparison {self.compare} does not read {name}")
        return self

    @property
    def ignored(self) -> tuple[str, ...]:
        """Return the fields of an answer that the rule does not read; none if that cannot be known."""
        by_value = ("label", "ranking")
        return {"label": ("value", "ranking"), "absolute": by_value, "relative": by_value,
                "top-k": ("label", "value")}.get(self.compare, ())  # fmt: skip


class Plan(Section):
    """Metric, margins, segments, days, error, gates and the way back."""

    metric: str = Field(default="accuracy", description="The metric that decides; default accuracy.")
    margin: float | None = Field(
        default=None,
        gt=0,
        le=WIDEST,
        description="Largest acceptable loss of the metric; default 0.005 (accuracy, brier), 0.01 (agreement).",
    )
    goal: Goal = Field(
        default="superior",
        description="superior: better than live; not_worse: not worse by the margin; default superior.",
    )
    guardrails: dict[str, float] = Field(
        default_factory=dict, description="Further metrics, each with its largest acceptable loss; default none."
    )
    segments: dict[str, float] = Field(
        default_factory=dict,
        description="Segments ('key=value'), each with its largest acceptable loss of the metric; default none.",
    )
    harm: tuple[str, ...] | None = Field(
        default=None,
        description="Segment keys whose values are watched for harm; default: every key, 50 values at most.",
    )
    horizon_days: float = Field(
        default=1, gt=0, le=365, description="Days after the request within which a label counts; default 1."
    )
    days: int = Field(default=14, ge=14, le=366, description="Planned number of whole days, at least 14; default 14.")
    weeks: int = Field(
        default=6, ge=4, le=52, description="Planned number of weeks, when weeks are the blocks; default 6."
    )
    alpha: float = Field(
        default=0.05,
        ge=1e-6,
        le=0.2,
        description="Probability of a false PROMOTE over the whole process, however often it is checked; default 0.05.",
    )
    blocks: Literal["auto", "day", "week"] = Field(
        default="auto",
        description="Independent blocks of the test: day, week, or auto (weeks when days depend); default auto.",
    )
    promote_at: Literal["week", "day"] = Field(
        default="week", description="When PROMOTE is possible: week: after whole weeks; day: on any day; default week."
    )
    time_zone: str = Field(default="UTC", description="Time zone of the days; default UTC.")
    comparison: AnswerComparison = Field(default_factory=AnswerComparison)
    gates: Gates = Field(default_factory=Gates)
    way_back: WayBack = Field(default_factory=WayBack)

    @field_validator("metric")
    @classmethod
    def _check_metric(cls, name: str) -> str:
        if name not in METRICS:
            raise ValueError(f"there is no metric {name}; there are {', '.join(METRICS)}")
        return name

    @field_validator("guardrails")
    @classmethod
    def _guarded(cls, guardrails: dict[str, float]) -> dict[str, float]:
        for name, margin in guardrails.items():
            cls._check_metric(name)
            if not 0 < margin <= WIDEST:
                raise ValueError(f"the margin of {name} must be above 0 and finite")
        return guardrails

    @field_validator("segments")
    @classmethod
    def _named(cls, segments: dict[str, float]) -> dict[str, float]:
        for name, margin in segments.items():
            if not name.partition("=")[0] or "=" not in name or not 0 < margin <= WIDEST:
                raise ValueError(f"'{name}' = {margin}: write 'key=value' and a finite margin above 0")
        return segments

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"there is no time zone {name}; write UTC or Europe/Berlin") from None
        return name

    @model_validator(mode="after")
    def _has_margins(self) -> "Plan":
        if self.margin is None and METRICS[self.metric][1] is None:
            raise ValueError(f"{self.metric} has no common margin; name one")
        return self

    def margins(self) -> dict[str, float]:
        """Return the margin of the metric and of each guardrail, the metric first."""
        margin = self.margin if self.margin is not None else METRICS[self.metric][1]
        assert margin is not None
        return {self.metric: margin} | {name: m for name, m in self.guardrails.items() if name != self.metric}

    @property
    def attainable(self) -> bool:
        """Return whether a challenger can reach the goal: none can agree with live more than live itself."""
        return self.metric != "agreement" or self.goal == "not_worse"

    def canonical(self) -> str:
        """Return the plan as one line of JSON with sorted keys: the text that is hashed.

        Keys that were introduced after plans had been stored are left out at their defaults, so that old hashes stay
        valid.
        """
        whole = self.model_dump(mode="json")
        if self.comparison == AnswerComparison():
            del whole["comparison"]
        return json.dumps(whole, sort_keys=True, separators=(",", ":"))

    @property
    def process(self) -> str:
        """Return the SHA-256 of everything except the way back; a plan with another one starts a new process."""
        return hashlib.sha256(self.model_copy(update={"way_back": WayBack()}).canonical().encode()).hexdigest()

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of the canonical text, hexadecimal."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()
