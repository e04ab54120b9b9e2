"""Sealed cohorts against pandas: which requests are in which slice, with which label, recomputed from the input."""

import random
from collections.abc import Iterator
from typing import Any

import pandas as pd
import psycopg
import pytest
from tests.support.joined_windows import READER, sink_of, window
from tests.support.logs import START_US

from gnomon_consumer.labels.store import LabelBatch, LabelStore

HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000
DAYS, PER_DAY, PARTITIONS = 20, 12, 2


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url) as opened:
        yield opened


def plan(seed: int) -> tuple[Any, Any]:
    """Return captures, and versions of labels with the round (day) in which each is stored: most at once, some late.

    A few are known, and stored, before their prediction.
    """
    rng = random.Random(seed)
    captures, labels = [], []
    for offset in range(DAYS * PER_DAY):
        captured = START_US + offset * DAY_US // PER_DAY
        captures.append({"offset": offset, "captured": captured, "round": offset // PER_DAY})
        for version in range(rng.choice([0, 1, 1, 1, 1, 2])):
            observed = captured + int(rng.expovariate(1 / (1.5 * DAY_US))) + version * DAY_US
            if rng.random() < 0.1:
                observed = max(START_US, captured - rng.randrange(3 * DAY_US))
            late = rng.choice([0, 0, 0, 2])
            stored = (observed - START_US) // DAY_US + late
            labels.append({"offset": offset, "observed": observed, "value": float(version), "round": stored})
    return pd.DataFrame(captures), pd.DataFrame(labels)


def expected(captures: Any, labels: Any, horizon: int, choice: str) -> dict[int, float | None]:
    """Return offset -> its label's value (None: it matured without one), by the definition of a sealed cohort."""
    result: dict[int, float | None] = {}
    sealed_until: int | None = None
    for turn in range(DAYS):
        known = labels[labels["round"] <= turn]
        reached = [known.loc[known["offset"] % PARTITIONS == p, "observed"].max() for p in range(PARTITIONS)]
        if any(pd.isna(reached)):
            continue
        joined = captures[captures["round"] <= turn]
        until = int(min(min(reached) - horizon * DAY_US, joined["captured"].max())) // DAY_US * DAY_US
        if until <= (sealed_until if sealed_until is not None else START_US):
            continue
        low = -(2**63) if sealed_until is None else sealed_until
        for capture in joined[(joined["captured"] >= low) & (joined["captured"] < until)].itertuples():
            own = known[
                (known["offset"] == capture.offset) & (known["observed"] <= capture.captured + horizon * DAY_US)
            ].sort_values("observed")
            result[capture.offset] = None if own.empty else own["value"].iloc[0 if choice == "first" else -1]
        sealed_until = until
    return result


@pytest.mark.parametrize(
    ("seed", "choice", "kind"),
    [(1, "last", "explicit"), (2, "first", "explicit"), (3, "last", "absence_is_negative")],
)
def test_cohorts_equal_pandas(connection: psycopg.Connection[Any], seed: int, choice: str, kind: str) -> None:
    captures, labels = plan(seed)
    before = labels.merge(captures, on="offset", suffixes=("", "_captured"))
    assert (before["round"] < before["round_captured"]).sum() > 5, "no label came before its prediction"
    sink = sink_of(connection)
    store = LabelStore(connection, "s")
    connection.execute("update gnomon.streams set label_choice = %s, label_kind = %s", [choice, kind])
    for partition in range(PARTITIONS):
        store.begin(partition, 0, "c", None)
    ends = dict.fromkeys(range(PARTITIONS), 0)
    frozen: dict[tuple[int, int], Any] = {}
    for turn in range(DAYS):
        times = captures[captures["round"] == turn].set_index("offset")["captured"].to_dict()
        sink.apply([window(min(times), len(times), changes={o: {"captured_at": t} for o, t in times.items()})], READER)
        batches: dict[int, LabelBatch] = {}
        for label in labels[labels["round"] == turn].itertuples():
            partition = int(label.offset) % PARTITIONS
            batch = batches.setdefault(partition, LabelBatch(ends[partition], ends[partition]))
            record = {
                "request_id": f"r{label.offset}", "value": label.value, "label": None, "relevance": None,
                "items": None, "occurred_at": label.observed, "observed_at": label.observed, "source": "",
            }  # fmt: skip
            batch.labels.append((ends[partition], record))
            ends[partition] += 1
            batch.end = ends[partition]
        store.apply(batches, START_US + 1000 * DAY_US)
        store.seal_cohorts()
        for horizon in (1, 3, 7):
            for offset, value in stored(connection, horizon).items():
                assert frozen.setdefault((horizon, offset), value) == value, "a sealed result changed"
    for horizon in (1, 3, 7):
        wanted = expected(captures, labels, horizon, choice)
        assert wanted
        negative = kind == "absence_is_negative"
        assert stored(connection, horizon) == {
            offset: 0.0 if value is None and negative else value for offset, value in wanted.items()
        }
        check_reports(connection, captures, labels, horizon, wanted, negative)


def check_reports(
    connection: psycopg.Connection[Any],
    captures: Any,
    labels: Any,
    horizon: int,
    wanted: dict[int, float | None],
    negative: bool,
) -> None:
    """Check a cohort's shares of labelled, negative, late and missing requests, and its Brier scores in the reports."""
    came = set(labels.loc[labels["round"] < DAYS, "offset"])
    late = {offset for offset, value in wanted.items() if value is None and offset in came}
    labelled = sum(value is not None for value in wanted.values())
    n, silent = len(wanted), len(wanted) - labelled
    shares = (labelled, silent, 0, 0) if negative else (labelled, 0, len(late), silent - len(late))
    names = "n, labelled, negative, late, missing, pending, sealed"
    (row,) = connection.execute(
        f"select {names} from report_v1.labels('s', horizon => make_interval(days => %s))", [horizon]
    ).fetchall()
    assert row[0] == n
    assert row[1:5] == pytest.approx([share / n for share in shares])
    assert row[5:] == (len(captures) - n, True)
    truth = [0.0 if value is None else value for value in wanted.values() if value is not None or negative]
    scored = connection.execute(
        "select side, n, estimate from report_v1.quality('s', horizon => make_interval(days => %s))"
        " where metric = 'brier' and side in ('live', 'shadow') order by side",
        [horizon],
    ).fetchall()
    assert [(side, count) for side, count, _ in scored] == [("live", len(truth)), ("shadow", len(truth))]
    brier = [sum((answer - value) ** 2 for value in truth) / len(truth) for answer in (0.5, 0.25)]
    assert [estimate for _, _, estimate in scored] == pytest.approx(brier)


def stored(connection: psycopg.Connection[Any], horizon: int) -> dict[int, float | None]:
    rows = connection.execute(
        "select source_offset, truth_value"
        " from gnomon_estimators.labelled('s', null, null, null, '{}', make_interval(days => %s))",
        [horizon],
    ).fetchall()
    assert len(rows) == len({offset for offset, _ in rows})
    return dict(rows)
