"""Bounds on predictions and on the reports' numbers: read from TOML, held against `report_v1.signs`. Pure but for the
file.
"""

import math
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gnomon_consumer.reports.query import Row
from gnomon_schemas.errors import ConfigurationError

NUMBERS = (
    "captures_per_second", "agreement", "shadow_error_rate", "live_error_rate", "value_difference",
    "shadow_value_min", "shadow_value_max", "shadow_value_mean", "live_value_min", "live_value_max", "live_value_mean",
    "shadow_nan_share", "live_nan_share", "shadow_class_share", "live_class_share", "sampling_fraction", "coverage",
    "ledger_closes",
)  # fmt: skip
CLASS_SHARES = ("shadow_class_share", "live_class_share")


class Bound(BaseModel):
    """One `[[check]]`: a number of `report_v1.signs` and what it may be, ends included."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, description="How the check is called in the output and in alerts.")
    number: str = Field(description="Which number.")
    part: str = Field(default="", description="The class, for a class share.")
    deployment: str | None = Field(default=None, description="Only this one; default: every deployment.")
    low: float = Field(default=-math.inf, description="Lowest value allowed.")
    high: float = Field(default=math.inf, description="Highest value allowed.")
    at_least: int = Field(default=1, ge=0, description="Pairs (or windows) below which nothing can be said.")

    @model_validator(mode="after")
    def _is_a_bound(self) -> "Bound":
        if self.number not in NUMBERS:
            raise ValueError(f"number {self.number} is none of {', '.join(NUMBERS)}")
        if bool(self.part) != (self.number in CLASS_SHARES):
            raise ValueError(f"{self.number} needs {'a' if not self.part else 'no'} part")
        if not self.low <= self.high or (self.low, self.high) == (-math.inf, math.inf):
            raise ValueError("needs low or high, low at most high")
        return self


class Bounds(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    window_seconds: float = Field(default=3600, gt=0, description="How far back the numbers look, event time.")
    check: tuple[Bound, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Result:
    """A bound held against one deployment. `holds` None: too little is known, which is no good news."""

    bound: Bound
    deployment: str
    role: str
    value: float | None
    n: int
    holds: bool | None
    remark: str


def read_bounds(path: Path) -> Bounds:
    """Read a file of bounds. Raises ConfigurationError that names the check and what is wrong."""
    try:
        return Bounds.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from error
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ConfigurationError(f"{path}: {' '.join(said.split())}") from error


def hold(bounds: Iterable[Bound], signs: Sequence[Row]) -> list[Result]:
    """Every bound against every deployment that it is about; one that is about none is a result too."""
    results = []
    roles = {row["deployment"]: row["role"] or "" for row in signs if row["deployment"]}
    known = {(row["deployment"], row["number"], row["part"]): row for row in signs}
    for bound in bounds:
        meant = [name for name in roles if bound.deployment in (None, name)]
        results += [_held(bound, name, roles[name], known.get((name, bound.number, bound.part))) for name in meant]
        if not meant:
            problem = next((row["status"] for row in signs if row["status"] != "ok"), "unknown deployment")
            remark = "unknown deployment" if roles else problem
            results.append(Result(bound, bound.deployment or "", "", None, 0, None, remark))
    return results


def _held(bound: Bound, deployment: str, role: str, row: Row | None) -> Result:
    value, n = (row["value"], row["n"]) if row else (None, 0)
    if row is None and bound.part:
        value, n, remark = None, 0, f"class {bound.part} was not seen"
    elif value is None:
        remark = row["status"] if row else "nothing is known of it in this period"
    elif n < bound.at_least and bound.number != "captures_per_second":
        return Result(bound, deployment, role, value, n, None, f"from {n} only, {bound.at_least} are needed")
    elif value < bound.low:
        return Result(bound, deployment, role, value, n, False, f"below {bound.low:g}")
    elif value > bound.high:
        return Result(bound, deployment, role, value, n, False, f"above {bound.high:g}")
    else:
        return Result(bound, deployment, role, value, n, True, "")
    return Result(bound, deployment, role, value, n, None, remark)


def metrics(stream: str, signs: Sequence[Row], results: Sequence[Result], now: float) -> CollectorRegistry:
    """Numbers and checks as Prometheus metrics, for node_exporter's textfile collector; `now` in Unix seconds."""
    registry = CollectorRegistry()
    number = Gauge(
        "gnomon_report_number", "A number of report_v1.signs.", ["stream", "deployment", "role", "number", "part"],
        registry=registry,
    )  # fmt: skip
    for row in signs:
        if row["value"] is not None:
            labels = (row["deployment"], row["role"] or "", row["number"], row["part"])
            number.labels(stream, *labels).set(row["value"])
    check = Gauge(
        "gnomon_check_state", "1: the bound holds, 0: it is broken, -1: too little is known.",
        ["stream", "deployment", "role", "check"], registry=registry,
    )  # fmt: skip
    for result in results:
        state = -1 if result.holds is None else int(result.holds)
        check.labels(stream, result.deployment, result.role, result.bound.name).set(state)
    Gauge("gnomon_check_time_seconds", "When the checks ran last, Unix seconds.", ["stream"], registry=registry).labels(
        stream
    ).set(now)
    return registry
