"""The kept database of a demo: its reports equal the results of pandas and scikit-learn on the same rows."""

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pytest
from tests.support import demo_numbers
from tests.support.page_reader import PageReader, said
from tests.support.servers.process import Gnomon

from gnomon_consumer.cli.demo import show
from gnomon_consumer.quickstart.demo import flights
from gnomon_consumer.quickstart.demo.folder import STREAM, Demo
from gnomon_consumer.quickstart.embedded.start import start_postgres

# One demo serves all of them, so they belong in one worker.
pytestmark = pytest.mark.xdist_group("demo")

CAPTURES = 20_000
DEPLOYMENT_KEYS = {
    "name", "role", "seen", "sampled", "sampled_out", "paired", "scored", "failed", "timed_out", "dead_lettered",
    "orphaned", "gaps", "agreement", "verdict",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "output"


@pytest.fixture(scope="module")
def outcome(folder: Path) -> dict[str, Any]:
    """Return the output of one demo, which was a single JSON object."""
    done = Gnomon(folder.parent).run(
        "demo", "--captures", CAPTURES, "--keep", "--json", "--output", folder, timeout=500
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.fixture(scope="module")
def address(outcome: dict[str, Any], folder: Path) -> Iterator[str]:
    with start_postgres(folder / "postgres") as database:
        yield database.address


@pytest.fixture(scope="module")
def pairs(address: str) -> pd.DataFrame:
    with psycopg.connect(address) as connection:
        return demo_numbers.export(connection, demo_numbers.PAIRS)


def report(address: str, folder: Path, name: str, *options: str) -> list[dict[str, Any]]:
    """Return the rows of `gnomon report NAME --format json`."""
    done = Gnomon(folder).run(
        "report", name, "--format", "json", *options,
        env={"GNOMON_DATABASE_URL": address, "GNOMON_STREAM": STREAM},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)["rows"]
    return rows


@pytest.mark.timeout(600)
def test_every_flight_is_in_exactly_one_bucket(outcome: dict[str, Any]) -> None:
    keys = {"captured", "labels", "seconds", "captures_per_second", "report", "deployments", "verdicts"}
    assert set(outcome) == keys
    assert outcome["captured"] == CAPTURES
    # About 3% of April's flights are cancelled, diverted or have no recorded arrival: they get no label.
    assert 0.95 * CAPTURES < outcome["labels"] < CAPTURES
    assert outcome["captures_per_second"] == pytest.approx(CAPTURES / outcome["seconds"], rel=0.05)
    assert [one["role"] for one in outcome["deployments"]] == ["challenger", "control"]
    for one in outcome["deployments"]:
        assert set(one) == DEPLOYMENT_KEYS
        assert one["seen"] == CAPTURES
        assert one["seen"] == one["sampled_out"] + one["paired"] + one["dead_lettered"] + one["orphaned"]
        assert one["paired"] == one["scored"] + one["failed"] + one["timed_out"]
        assert one["sampled"] == one["paired"] + one["dead_lettered"] + one["orphaned"]
        assert one["scored"] > 0
        assert (one["failed"], one["dead_lettered"], one["orphaned"], one["gaps"]) == (0, 0, 0, 0)


@pytest.mark.timeout(600)
def test_every_pair_is_a_replayed_flight_once_and_the_rest_is_counted(
    outcome: dict[str, Any], pairs: pd.DataFrame
) -> None:
    replayed = set(flights.load()[1].select(slice(0, CAPTURES)).request_id)
    for one in outcome["deployments"]:
        mine = pairs[pairs["deployment"] == one["name"]]
        assert len(mine) == one["paired"] > 1000
        assert not mine["request_id"].duplicated().any()
        assert set(mine["request_id"]) <= replayed
        # Σ 1/π of a window is its number of captures, so the sum over all windows is the number of all captures.
        assert (1 / mine["inclusion_probability"]).sum() == pytest.approx(CAPTURES)


@pytest.mark.timeout(600)
def test_agreement_is_what_pandas_and_scikit_learn_say(
    address: str, folder: Path, outcome: dict[str, Any], pairs: pd.DataFrame, known: pd.DataFrame
) -> None:
    rows = report(address, folder, "agreement", "--time-zone", demo_numbers.TIME_ZONE)
    assert {row["deployment"] for row in rows} == {one["name"] for one in outcome["deployments"]}
    for row in rows:
        expected = demo_numbers.agreement(pairs[pairs["deployment"] == row["deployment"]])
        assert {name: row[name] for name in vars(expected)} == pytest.approx(vars(expected), rel=1e-9, abs=1e-12)
        (one,) = (one for one in outcome["deployments"] if one["name"] == row["deployment"])
        assert one["agreement"] == pytest.approx(expected.agreement)
        if row["role"] == "control":
            assert row["agreement"] > 0.999
        else:
            assert 0.6 < row["agreement"] < 0.95
            assert row["low"] < row["agreement"] < row["high"]


@pytest.fixture(scope="module")
def known() -> pd.DataFrame:
    return demo_numbers.outcomes()


@pytest.mark.timeout(600)
def test_cohorts_are_what_pandas_makes_of_the_published_flights(
    address: str, folder: Path, pairs: pd.DataFrame, known: pd.DataFrame
) -> None:
    """Labelled in time, late, never and pending, by horizon: computed from the CSV file and the pairs' request ids."""
    replayed = known[known.index.isin(flights.load()[1].select(slice(0, CAPTURES)).request_id)]
    rows = report(address, folder, "labels")
    assert len(rows) == 6  # two deployments, three horizons
    for row in rows:
        horizon, until = pd.Timedelta(row["horizon"]), pd.Timestamp(row["cohort_until"])
        assert not row["sealed"] or until == until.normalize()  # a cohort that is not sealed yet ends at the watermark
        assert until <= replayed["observed_at"].max() - horizon
        expected = demo_numbers.cohort(pairs[pairs["deployment"] == row["deployment"]], known, until, horizon)
        assert {name: row[name] for name in vars(expected)} == pytest.approx(vars(expected), rel=1e-12)
        assert row["negative"] == 0
        assert expected.n > 500
        assert 0.94 < row["labelled"] < 0.98
        assert 0.015 < row["missing"] < 0.05
        assert row["late"] > 0
    by_horizon = [row["labelled"] for row in rows if row["role"] == "challenger"]
    assert by_horizon[0] < by_horizon[2]


@pytest.mark.timeout(600)
def test_quality_by_horizon_is_what_scikit_learn_says(
    address: str, folder: Path, pairs: pd.DataFrame, known: pd.DataFrame
) -> None:
    rows = report(address, folder, "quality", "--time-zone", demo_numbers.TIME_ZONE)
    compared = 0
    for deployment, horizon in {(row["deployment"], row["horizon"]) for row in rows}:
        mine = {
            f"{row['metric']} {row['side']}": row
            for row in rows
            if (row["deployment"], row["horizon"]) == (deployment, horizon)
        }
        until = pd.Timestamp(mine["auc live"]["cohort_until"])
        expected = demo_numbers.quality(pairs[pairs["deployment"] == deployment], known, until, pd.Timedelta(horizon))
        assert mine["auc live"]["n"] == expected.pop("n")
        assert {name: mine[name]["estimate"] for name in expected} == pytest.approx(expected, rel=1e-9)
        compared += 1
    assert compared == 6  # two deployments, three horizons


@pytest.mark.timeout(600)
def test_it_ends_with_a_verdict_in_json_page_and_terminal(
    outcome: dict[str, Any], folder: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    decided = {one["name"]: one["verdict"] for one in outcome["deployments"]}
    assert decided == {"gradient-boosting": "HOLD", "control": "HOLD"}
    assert set(outcome["verdicts"]) == set(decided)
    text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", (folder / "report.html").read_text("utf-8"))).split())
    decision, _, reasons = outcome["verdicts"]["gradient-boosting"].partition(": ")
    assert decision == "Hold"
    assert reasons[1:] in text  # below the decision, with a capital letter
    show(outcome, [], Demo(folder))
    terminal = " ".join(capsys.readouterr().out.split())
    for name, sentence in outcome["verdicts"].items():
        assert f"{name}: {sentence}" in terminal
    # The command gives the same answer from the kept database.
    env = {"GNOMON_DATABASE_URL": address, "GNOMON_STREAM": STREAM}
    asked = Gnomon(folder).run("verdict", "--deployment", "gradient-boosting", "--format", "json", env=env)
    assert asked.returncode == 10, asked.stderr
    assert json.loads(asked.stdout)["sentence"] == outcome["verdicts"]["gradient-boosting"]


@pytest.mark.timeout(600)
def test_the_html_report_is_there(outcome: dict[str, Any], folder: Path) -> None:
    assert outcome["report"] == str(folder / "report.html")
    text = (folder / "report.html").read_text()
    assert text.startswith(("<!doctype html>", "<!DOCTYPE html>"))
    for one in outcome["deployments"]:
        assert one["name"] in text
    assert not any(word in text for word in ("<script", 'src="http', 'href="http'))


@pytest.mark.timeout(600)
def test_the_html_report_says_what_pandas_says(
    address: str, folder: Path, outcome: dict[str, Any], pairs: pd.DataFrame, known: pd.DataFrame
) -> None:
    """Challenger and control differ on the page as pandas computes from the raw pairs and labels, after rounding."""
    page = PageReader((folder / "report.html").read_text(encoding="utf-8"))
    challenger, control = (one["name"] for one in outcome["deployments"])
    mine = {name: pairs[pairs["deployment"] == name] for name in (challenger, control)}

    def says(text: str, expected: float) -> None:
        value, half = said(text)
        assert abs(value - expected) <= half, (text, expected)

    agreement = {name: demo_numbers.agreement(rows).agreement for name, rows in mine.items()}
    (card,) = (card for card in page.cards if card["title"] == "Agreement with live")
    says(card["value"], agreement[challenger])
    says(card["compared"].removeprefix("control "), agreement[control])

    rows = report(address, folder, "quality", "--horizon", "7 days")
    until = pd.Timestamp(next(row["cohort_until"] for row in rows if row["metric"] == "auc"))
    quality = {name: demo_numbers.quality(each, known, until, pd.Timedelta("7 days")) for name, each in mine.items()}
    lines = {line[0]: line[1:] for line in page.table("Quality against the truth, labels within 7 days")[1:]}
    for name, metric in (("accuracy", "accuracy"), ("AUC", "auc"), ("Brier score", "brier")):
        expected = {side: quality[challenger][f"{metric} {side}"] for side in ("live", "shadow")}
        deployment, difference, _, _, live, shadow, n = lines[name]
        assert (deployment, int(n.replace(",", ""))) == (challenger, quality[challenger]["n"])
        says(live, expected["live"])
        says(shadow, expected["shadow"])
        says(difference, expected["shadow"] - expected["live"])
        noise = 1e-5 if metric == "auc" else 1e-6  # two flights whose scores differ by rounding may swap places
        assert abs(quality[control][f"{metric} shadow"] - quality[control][f"{metric} live"]) < noise
    (caption,) = (caption for caption in page.tables if "Quality against the truth, labels within 7 days" in caption)
    assert "The control is equal to live in accuracy, precision, recall, F1, AUC, log loss, Brier score" in caption

    weight = 1 / (mine[challenger]["inclusion_probability"] * mine[challenger]["capture_probability"])
    same = mine[challenger]["live_label"] == mine[challenger]["shadow_label"]
    confusion = page.table(f"of {challenger} (columns)")
    for line in confusion[1:]:
        for label, share in zip(confusion[0][1:], line[1:], strict=True):
            cell = (mine[challenger]["live_label"] == line[0]) & (mine[challenger]["shadow_label"] == label)
            says(share, weight[cell].sum() / weight.sum())
    times = pd.to_datetime(mine[challenger]["event_time"], utc=True, format="ISO8601")
    weekday = times.dt.tz_convert(demo_numbers.TIME_ZONE).dt.strftime("%a")
    by_weekday = [line for line in page.table("live by weekday")[1:] if line[1] == challenger]
    assert {line[0] for line in by_weekday} == set(weekday)
    for line in by_weekday:
        here = weekday == line[0]
        assert int(line[2].replace(",", "")) == here.sum()
        says(line[4], weight[here & same].sum() / weight[here].sum())
