"""The coverage simulation computes intervals in NumPy; the SQL of the reports gives the same ones, to 1e-9."""

import dataclasses
import uuid
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from psycopg.rows import dict_row
from tests.support import label_simulation
from tests.support.coverage_simulation import Drawn, Setting, draw, intervals
from tests.support.report_database import START, Database

HORIZON = timedelta(days=1)


def rows(drawn: Drawn) -> list[dict[str, Any]]:
    """Return the sample as rows of `pairs`."""
    names = np.array(["on_time", "late"])
    return [
        {
            "request_id": f"r{at}",
            "event_time": START + timedelta(days=int(drawn.day[at]), seconds=at),
            "cluster": None if drawn.cluster[at] < 0 else f"c{drawn.cluster[at]}",
            "stratum": str(drawn.stratum[at]),
            "capture_probability": float(1 / (drawn.chance[at] * drawn.weight[at])),
            "inclusion_probability": float(drawn.chance[at]),
            "window_id": uuid.UUID(int=int(drawn.window[at]) + 1),
            "live_label": str(names[int(drawn.live[at])]),
            "shadow_label": str(names[int(drawn.shadow[at])]),
            "live_latency_us": int(drawn.latency[at]),
        }
        for at in range(len(drawn.weight))
    ]


@pytest.mark.parametrize(
    "setting",
    [
        Setting(5, 0.3, captures=1500, sampled=300, strata=3, allocation="senate"),
        Setting(8, 0.2, 12, 0.4, captures=1500, sampled=300),
        Setting(9, 0.1, agree=0.99, positive=0.05, weights=1e3, captures=2000, sampled=300),
        Setting(1, captures=800, sampled=200),
    ],
    ids=["strata", "clusters", "weights", "one day"],
)
def test_the_copy_is_the_sql(db: Database, setting: Setting) -> None:
    drawn = draw(setting, np.random.default_rng(7), [b"%d" % number for number in range(setting.captures)])
    written = rows(drawn)
    db.connection.execute("update gnomon.streams set horizons = %s", [[HORIZON]])
    db.add_pairs(written)
    db.add_labels(
        [
            {
                "request_id": row["request_id"], "observed_at": row["event_time"], "value": float(truth),
                "label": "late" if truth else "on_time",
            }
            for row, truth in zip(written, drawn.truth, strict=True)
        ],
        START + timedelta(days=60),
    )  # fmt: skip
    with db.connection.cursor(row_factory=dict_row) as cursor:
        agreement = cursor.execute("select * from report_v1.agreement('s')").fetchall()[0]
        quality = {
            (row["metric"], row["side"]): row
            for row in cursor.execute("select * from report_v1.quality('s')").fetchall()
        }
        latency = cursor.execute(
            "select * from report_v1.latency('s') where measure = 'live_all' and quantile = 0.95"
        ).fetchall()[0]
    expected = intervals(drawn)
    found = {
        "agreement": (agreement["low"], agreement["high"]),
        "accuracy, difference": tuple(quality["accuracy", "difference"][end] for end in ("low", "high")),
        "precision": tuple(quality["precision", "shadow"][end] for end in ("low", "high")),
        "kappa": (agreement["kappa_low"], agreement["kappa_high"]),
        "latency p95": (latency["low"], latency["high"]),
        "agreement, period": (agreement["period_low"], agreement["period_high"]),
    }
    if setting.weights > 1:  # the copy does not include the service's own sampling
        del found["agreement, period"]
    for name, ends in found.items():
        for end, copy in zip(ends, expected[name], strict=True):
            assert end == (None if copy is None else pytest.approx(copy, rel=1e-9, abs=1e-12)), name


@pytest.mark.parametrize(
    "traffic",
    [
        label_simulation.Traffic(5, 0.3, rows=300),
        label_simulation.Traffic(8, 0.2, 12, 0.4, rows=300, off=0.3),
        label_simulation.Traffic(6, 0.1, 200, 0.3, rows=400, weights=100.0),
        label_simulation.Traffic(1, rows=100),
    ],
    ids=["days", "clusters", "weights", "one day"],
)
def test_the_copy_of_the_reports_on_labels_is_the_sql(db: Database, traffic: label_simulation.Traffic) -> None:
    drawn = label_simulation.draw(traffic, np.random.default_rng(7))
    db.connection.execute("update gnomon.streams set horizons = %s", [[HORIZON]])
    written: list[dict[str, Any]] = [
        {
            "request_id": f"r{at}",
            "event_time": START + timedelta(seconds=float(drawn.at[at])),
            "source_offset": at,
            "cluster": None if drawn.cluster[at] < 0 else f"c{drawn.cluster[at]}",
            "capture_probability": float(1 / drawn.weight[at]),
            "live_label": "yes", "shadow_label": "yes",
            "live_value": float(drawn.score[at]), "shadow_value": float(drawn.score[at]),
        }
        for at in range(traffic.rows)
    ]  # fmt: skip
    db.add_pairs(written)
    db.add_labels(
        [
            {
                "request_id": row["request_id"], "value": float(truth), "label": "yes" if truth else "no",
                "observed_at": row["event_time"] + timedelta(seconds=float(delay)),
            }
            for row, truth, delay in zip(written, drawn.truth, drawn.delay, strict=True)
        ],
        START + timedelta(seconds=drawn.watermark),
    )  # fmt: skip
    groups = db.connection.execute(
        "select abs(hashtextextended(coalesce('c' || cluster, 'r' || source_partition || ':' || source_offset), 0)"
        " % 100)::integer from report_v1.pairs order by source_offset"
    ).fetchall()
    drawn = dataclasses.replace(drawn, group=np.array([group for (group,) in groups]))
    with db.connection.cursor(row_factory=dict_row) as cursor:
        labels = cursor.execute("select * from report_v1.labels('s')").fetchall()[0]
        delay = cursor.execute(
            "select * from report_v1.label_delay('s') where delay = %s",
            [timedelta(seconds=label_simulation.READ_AT * label_simulation.STEP)],
        ).fetchall()[0]
    # Of calibration only what has a label within the horizon has a truth.
    found = {"labelled": (labels["low"], labels["high"]), "label delay, 6 hours": (delay["low"], delay["high"])}
    db.connection.execute("update gnomon.streams set horizons = %s", [[timedelta(days=900)]])
    db.connection.execute("update gnomon.label_loads set complete_until = %s", [START + timedelta(days=2000)])
    with db.connection.cursor(row_factory=dict_row) as cursor:
        wide = "'s', horizon => interval '900 days'"
        bins = cursor.execute(
            f"select * from report_v1.calibration({wide}) where side = 'live' and bin = %s", [label_simulation.BIN]
        ).fetchall()[0]
        error = cursor.execute(f"select * from report_v1.calibration_error({wide}) where side = 'live'").fetchall()[0]
    found["calibration, 5th of 10 bins"] = (bins["low"], bins["high"])
    found["calibration error"] = (error["low"], error["high"])
    expected = label_simulation.intervals(drawn)
    assert found.keys() == expected.keys()
    for name, ends in found.items():
        for end, copy in zip(ends, expected[name], strict=True):
            assert end == (None if copy is None else pytest.approx(copy, rel=1e-8, abs=1e-11)), name
