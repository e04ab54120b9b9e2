"""The coverage simulation computes intervals in NumPy; the SQL of the reports gives the same ones, to 1e-9."""

import uuid
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from psycopg.rows import dict_row
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
