"""Sealed cohorts against pandas: who is in which slice, with which label, recomputed from what was sent and when."""

import random
from collections.abc import Iterator
from typing import Any

import pandas as pd
import psycopg
import pytest
from tests.integration.test_sink import READER, sink_of, window
from tests.shadow_log import START_US

from gnomon_consumer.labels.store import LabelBatch, LabelStore

HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000
DAYS, PER_DAY, PARTITIONS = 20, 12, 2


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url) as opened:
        yield opened


def plan(seed: int) -> tuple[Any, Any]:
    """Captures, and versions of labels with the round (day) in which each is stored: most at once, some days late."""
    rng = random.Random(seed)
    captures, labels = [], []
    for offset in range(DAYS * PER_DAY):
        captured = START_US + offset * DAY_US // PER_DAY
        captures.append({"offset": offset, "captured": captured, "round": offset // PER_DAY})
        for version in range(rng.choice([0, 1, 1, 1, 1, 2])):
            observed = captured + int(rng.expovariate(1 / (1.5 * DAY_US))) + version * DAY_US
            late = rng.choice([0, 0, 0, 2])
            stored = (observed - START_US) // DAY_US + late
            labels.append({"offset": offset, "observed": observed, "value": float(version), "round": stored})
    return pd.DataFrame(captures), pd.DataFrame(labels)


def expected(captures: Any, labels: Any, horizon: int, choice: str) -> dict[int, float | None]:
    """Offset to its label's value (None: it matured without one), as the definition of a sealed cohort says."""
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


@pytest.mark.parametrize(("seed", "choice"), [(1, "last"), (2, "first")])
def test_cohorts_equal_pandas(connection: psycopg.Connection[Any], seed: int, choice: str) -> None:
    captures, labels = plan(seed)
    sink = sink_of(connection)
    store = LabelStore(connection, "s")
    connection.execute("update gnomon.streams set label_choice = %s", [choice])
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
        found = stored(connection, horizon)
        assert found
        assert found == expected(captures, labels, horizon, choice)


def stored(connection: psycopg.Connection[Any], horizon: int) -> dict[int, float | None]:
    rows = connection.execute(
        "select source_offset, truth_value"
        " from report_v1.labelled('s', null, null, null, '{}', make_interval(days => %s))",
        [horizon],
    ).fetchall()
    assert len(rows) == len({offset for offset, _ in rows})
    return dict(rows)
