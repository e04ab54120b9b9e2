"""Sums by whole day of every metric from the pairs themselves, as vectors. Pure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gnomon_consumer.verdict.rules.evidence import AnswerCell, Series
from gnomon_consumer.verdict.rules.plan import RANKINGS
from gnomon_schemas.arrays import Booleans, Floats, Integers

Text = str | None
LEAST_SHARE = 0.05
"""A weight is divided by the labelled share, or by this if the share is lower."""
NEVER = 1e-6
"""Probabilities are clipped to [NEVER, 1 - NEVER] in the log loss."""


@dataclass(frozen=True)
class PairKind:
    """Common properties of pairs: their day (counted from the first), decisions, truth, and values of segment keys.

    `same`: whether the answers match, null if they cannot be compared; known: whether a label counts.
    """

    day: int
    watched: dict[str, str]
    _: KW_ONLY
    live: Text = None
    shadow: Text = None
    truth: Text = None
    known: bool = False
    same: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Pairs that both sides answered, one element each.

    `kind` is an index into `kinds`. `unit`: equal for equal clusters.

    A missing value is NaN. `unit` is None if no request has a cluster. The lists have a row for each pair and a column
    for each metric of RANKINGS; None if the plan has no such metric.
    """

    kinds: Sequence[PairKind]
    kind: Integers
    weight: Floats
    live: Floats
    shadow: Floats
    truth: Floats
    unit: Integers | None = None
    live_lists: Floats | None = None
    shadow_lists: Floats | None = None

    def each(self, of: Callable[[PairKind], object], dtype: Any = np.bool_) -> NDArray[Any]:
        """Return a property of the kinds, one element a pair."""
        return np.array([of(kind) for kind in self.kinds], dtype=dtype)[self.kind]

    @cached_property
    def day(self) -> Integers:
        """Return the day of each pair."""
        return self.each(lambda kind: kind.day, np.int64)

    @cached_property
    def known(self) -> Booleans:
        """Return whether a label counts, for each pair."""
        return np.asarray(self.each(lambda kind: kind.known))

    @cached_property
    def decided(self) -> Booleans:
        """Return whether both sides decided."""
        return np.asarray(self.each(lambda kind: kind.live is not None and kind.shadow is not None))

    @cached_property
    def names(self) -> tuple[set[str], set[str]]:
        """All decisions, and all true classes that count."""
        decisions = {name for kind in self.kinds for name in (kind.live, kind.shadow) if name is not None}
        return decisions, {kind.truth for kind in self.kinds if kind.known and kind.truth is not None}

    @cached_property
    def fits(self) -> bool:
        """Return whether any decision can equal a label: with two vocabularies every accuracy would be 0."""
        decisions, truths = self.names
        return not (decisions and truths and decisions.isdisjoint(truths))

    @cached_property
    def probable(self) -> Booleans:
        """Return whether both values are probabilities; no pair if any value is outside of 0 to 1."""
        there = np.isfinite(self.live) & np.isfinite(self.shadow)
        for side in (self.live, self.shadow):
            if np.any((side[there] < -1e-4) | (side[there] > 1 + 1e-4)):
                return np.zeros_like(there)
        return there

    @cached_property
    def judged(self) -> Booleans:
        """Return whether both decisions can be compared with a true class."""
        return np.asarray(self.fits & self.known & self.decided & self.each(lambda kind: kind.truth is not None))

    @cached_property
    def right(self) -> tuple[Booleans, Booleans]:
        """Return whether the decision of live, and of the shadow, is the true class."""
        return self.each(lambda kind: kind.live == kind.truth), self.each(lambda kind: kind.shadow == kind.truth)

    @cached_property
    def positive(self) -> tuple[Booleans, Booleans]:
        """Return whether live, and the shadow, decided the class whose labels have the value 1.

        A decision that is neither class ("review") is not a positive one. If no label has the value 1, every decision
        that differs from a label of the value 0 is positive.
        """
        surplus: dict[str, float] = {}
        signs = np.where(self.truth == 1, 1.0, np.where(self.truth == 0, -1.0, 0.0))
        for kind, excess in zip(self.kinds, np.bincount(self.kind, signs, len(self.kinds)), strict=True):
            if kind.truth is not None:
                surplus[kind.truth] = surplus.get(kind.truth, 0.0) + float(excess)
        names = {name for name, excess in surplus.items() if excess > 0}
        if not names:
            return self.right[0] == (self.truth == 1), self.right[1] == (self.truth == 1)
        return self.each(lambda kind: kind.live in names), self.each(lambda kind: kind.shadow in names)

    @cached_property
    def corrected(self) -> Floats:
        """Return the weights, divided by the labelled share of their group.

        A group is the pairs with the same segments, live decision and tenth of the live value.
        """
        where = [(sorted(kind.watched.items()), kind.live) for kind in self.kinds]
        like = {key: at for at, key in enumerate(dict.fromkeys(map(repr, where)))}
        group = np.array([like[repr(key)] for key in where], dtype=np.int64)[self.kind]
        tenth = np.full(len(group), 12, dtype=np.int64)
        there = ~np.isnan(self.live)
        tenth[there] = np.clip(np.floor(self.live[there] * 10) + 1, 0, 11).astype(np.int64)
        cell = group * 13 + tenth
        # For an empty array NumPy returns integers.
        every = np.bincount(cell, self.weight).astype(np.float64)
        labelled = np.bincount(cell, self.weight * self.known).astype(np.float64)
        share = np.divide(labelled, every, out=np.zeros_like(every), where=every > 0)
        return np.asarray(self.weight / np.maximum(share, LEAST_SHARE)[cell])


class Sides(NamedTuple):
    """Numerator and denominator of each side, unweighted, of the pairs that count; x None means ones."""

    given: Booleans
    live_y: NDArray[Any]
    live_x: NDArray[Any] | None
    shadow_y: NDArray[Any]
    shadow_x: NDArray[Any] | None


def sides(pairs: Pairs, metric: str, *, worst: bool = False) -> Sides:
    """Return the summands of a metric. `worst`: a pair without a label has the label that is worst for the shadow."""
    live, shadow, truth = pairs.live, pairs.shadow, pairs.truth
    live_right, shadow_right = pairs.right
    if metric == "accuracy":
        if not worst:
            return Sides(pairs.judged, live_right, None, shadow_right, None)
        differ = pairs.each(lambda kind: kind.live != kind.shadow)
        given = np.where(pairs.known, pairs.judged, pairs.decided)
        return Sides(given, np.where(pairs.known, live_right, differ), None, pairs.known & shadow_right, None)
    binary = (truth == 0) | (truth == 1)
    if metric in ("precision", "recall"):
        late = truth == 1
        if metric == "recall":
            return Sides(pairs.judged & binary, live_right & late, late, shadow_right & late, late)
        live_says, shadow_says = pairs.positive
        return Sides(pairs.judged & binary, live_right & late & live_says, live_says, shadow_right & late & shadow_says,
                     shadow_says)  # fmt: skip
    if metric in RANKINGS:
        return _lists(pairs, RANKINGS.index(metric))
    probable = pairs.probable  # see docs/statistics.md
    with np.errstate(invalid="ignore", over="ignore"):
        if metric == "brier" and worst:
            hurts = (shadow - 1) ** 2 - (live - 1) ** 2 > shadow**2 - live**2
            truth = np.where(pairs.known, truth, hurts)
            return Sides(probable & (binary | ~pairs.known), (live - truth) ** 2, None, (shadow - truth) ** 2, None)
        if metric == "brier":
            return Sides(pairs.known & probable & binary, (live - truth) ** 2, None, (shadow - truth) ** 2, None)
        if metric == "log_loss":
            losses = (-np.log(np.clip(1 - np.abs(truth - side), NEVER, 1 - NEVER)) for side in (live, shadow))
            return Sides(pairs.known & probable & binary, next(losses), None, next(losses), None)
        finite = pairs.known & np.isfinite(live) & np.isfinite(shadow) & np.isfinite(truth)
        if metric == "absolute_error":
            return Sides(finite, np.abs(live - truth), None, np.abs(shadow - truth), None)
        return Sides(finite, (live - truth) ** 2, None, (shadow - truth) ** 2, None)


def _lists(pairs: Pairs, at: int) -> Sides:
    """Return what an NDCG sums: the lists of which it is known on both sides."""
    assert pairs.live_lists is not None
    assert pairs.shadow_lists is not None
    live, shadow = pairs.live_lists[:, at], pairs.shadow_lists[:, at]
    return Sides(pairs.known & np.isfinite(live) & np.isfinite(shadow), live, None, shadow, None)


def agreement(pairs: Pairs) -> Sides:
    """Return the summands of agreement; live always agrees with itself."""
    same = pairs.each(lambda kind: kind.same is True)
    return Sides(pairs.each(lambda kind: kind.same is not None), np.ones_like(same), None, same, None)


class Units:
    """Clusters, and clusters within days, of a set of pairs, numbered from 0."""

    def __init__(self, unit: Integers, day: Integers) -> None:
        """Give each cluster a number."""
        self.cluster = np.unique(unit, return_inverse=True)[1].astype(np.int64)
        self.cell = np.unique(self.cluster * (int(day.max(initial=0)) + 1) + day, return_inverse=True)[1]

    @staticmethod
    def variance(code: Integers, residual: Floats) -> float:
        """Return the sum of squared sums by group, with n/(n - 1) (Cameron, Gelbach and Miller 2011)."""
        n = int(np.count_nonzero(np.bincount(code)))
        return float((np.bincount(code, residual) ** 2).sum()) * n / (n - 1) if n > 1 else 0.0


class Summing:
    """Builds series of pairs over so many days;

    `looks`: the numbers of days at which the variances of clusters are needed.
    """

    def __init__(self, pairs: Pairs, days: int, looks: Sequence[int]) -> None:
        """Give each cluster a number, once."""
        self.pairs = pairs
        self.days = days
        self.looks = looks
        self.units = None if pairs.unit is None else Units(pairs.unit, pairs.day)

    def variants(self, metric: str) -> Iterator[Series]:
        """Yield the complete, weighted and worst series of a metric that needs labels; none without labelled pairs."""
        complete = sides(self.pairs, metric)
        yield from self.series(metric, complete)
        yield from self.series(metric, complete, variant="weighted", weight=self.pairs.corrected)
        if metric in ("accuracy", "brier"):
            yield from self.series(metric, sides(self.pairs, metric, worst=True), variant="worst")

    def segments(self, metric: str, of: Sides, keys: Sequence[str]) -> Iterator[Series]:
        """Yield the complete series of each value of the segment keys."""
        for key in keys:
            values = sorted({kind.watched[key] for kind in self.pairs.kinds if key in kind.watched})
            number = {value: at for at, value in enumerate(values)}
            code = np.array([number.get(kind.watched.get(key, ""), -1) for kind in self.pairs.kinds], dtype=np.int64)
            for value, at in number.items():
                own = of._replace(given=of.given & (code == at)[self.pairs.kind])
                yield from self.series(metric, own, segment=f"{key}={value}")

    def series(
        self, metric: str, of: Sides, *, segment: str = "", variant: str = "complete", weight: Floats | None = None
    ) -> Iterator[Series]:
        """Yield the series of the given sums, nothing if they are empty."""
        rows = np.flatnonzero(of.given)
        if not len(rows):
            return
        w = (self.pairs.weight if weight is None else weight)[rows]
        day = self.pairs.day[rows]
        sums = [w if side is None else w * side[rows] for side in of[1:]]
        by_day = [np.bincount(day, side, self.days) for side in sums]
        live_y, live_x, shadow_y, shadow_x = (tuple(side.tolist()) for side in by_day)
        clusters = (
            {} if self.units is None else {n: self._between(metric, rows, day, sums, by_day, n) for n in self.looks}
        )
        n = tuple(np.bincount(day, minlength=self.days).tolist())
        yield Series(
            metric=metric,
            rows=n,
            live_y=live_y,
            live_x=live_x,
            shadow_y=shadow_y,
            shadow_x=shadow_x,
            clusters=clusters,
            segment=segment,
            variant=variant,
        )

    def _between(
        self, metric: str, rows: Integers, day: Integers, sums: list[Floats], by_day: list[NDArray[Any]], look: int
    ) -> tuple[float, float]:
        """Return the variances between clusters, and between clusters within days, of the linearised residual."""
        assert self.units is not None
        total = [float(side[:look].sum()) for side in by_day]
        if total[1] == 0 or total[3] == 0:
            return 0.0, 0.0
        early = day < look
        residual = np.zeros(int(early.sum()))
        for sign, at in ((-1, 0), (1, 2)):
            y, x, of_x = sums[at], sums[at + 1], total[at + 1]
            ratio = total[at] / of_x
            # The residual of a root is that of the square divided by twice the root; a side without any error has none.
            root = 2 * np.sqrt(ratio) if metric == "rmse" else 1.0
            if root > 0:
                residual += sign * (y[early] - ratio * x[early]) / of_x / root
        chosen = rows[early]
        return (
            Units.variance(self.units.cluster[chosen], residual),
            Units.variance(self.units.cell[chosen], residual),
        )


@dataclass(frozen=True)
class Labelled:
    """The labelled share of the pairs: by decisions, by true class, in total, and by the effective number of rows."""

    cells: tuple[AnswerCell, ...] = ()
    classes: tuple[tuple[str, int], ...] = ()
    coverage: float | None = None
    effective_rows: float = 0.0


def labelled(pairs: Pairs) -> Labelled:
    """Return the labelled share."""
    n = len(pairs.kinds)
    weight = np.bincount(pairs.kind, pairs.weight, n)
    rows = np.bincount(pairs.kind, minlength=n)
    squared = float((pairs.weight[pairs.known] ** 2).sum())
    cells: dict[tuple[Text, Text], list[float]] = {}
    classes: dict[str, int] = {}
    known = 0.0
    for kind, w, count in zip(pairs.kinds, weight.tolist(), rows.tolist(), strict=True):
        cell = cells.setdefault((kind.live, kind.shadow), [0.0, 0.0])
        cell[0] += w
        cell[1] += w * kind.known
        known += w * kind.known
        if kind.truth is not None and kind.known:
            classes[kind.truth] = classes.get(kind.truth, 0) + count
    total = float(weight.sum())
    in_order = sorted(cells.items(), key=lambda item: tuple((side is not None, side or "") for side in item[0]))
    return Labelled(
        tuple(AnswerCell(live, shadow, w / total, of / w) for (live, shadow), (w, of) in in_order),
        tuple(sorted(classes.items())),
        known / total if total else None,
        known * known / squared if squared else 0.0,
    )
