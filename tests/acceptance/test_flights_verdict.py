"""Twenty weeks of flights through the shipped commands, whose output must equal docs/verdict-flights.md."""

import re
from pathlib import Path

import pytest
from tests.support.flights_story import TAKEN, Story, tell
from tests.support.flights_weeks import BROKEN, CHALLENGER, CONTROL, weeks

PAGE = Path(__file__).parents[2] / "docs" / "verdict-flights.md"
pytestmark = [pytest.mark.long, pytest.mark.xdist_group("flights-verdict"), pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    with weeks(tmp_path_factory.mktemp("flights")) as running:
        return tell(running)


def test_the_challenger_is_promoted_at_a_whole_week_and_not_before(story: Story) -> None:
    promote = story.first(CHALLENGER, "PROMOTE")
    assert promote is not None
    assert promote % 7 == 0
    assert {said["decision"] for (days, name), said in story.said.items() if name == CHALLENGER and days < promote} == {
        "HOLD"
    }
    assert all(said["days"] == days for (days, _), said in story.said.items())


def test_the_control_is_never_promoted(story: Story) -> None:
    for (_, name), said in story.said.items():
        if name == CONTROL:
            assert said["decision"] == "HOLD"
            assert "CONTROL" in {reason["code"] for reason in said["reasons"]}
    assert set(story.by_day[CONTROL]) <= {"HOLD", "INSUFFICIENT_DATA"}


def test_the_broken_challenger_is_rejected_and_never_promoted_on_any_day(story: Story) -> None:
    assert story.first(BROKEN, "REJECT") is not None
    assert story.said[140, BROKEN]["decision"] == "REJECT"
    assert "PROMOTE" not in story.by_day[BROKEN]


def test_golden_and_skew_catch_it_at_once(story: Story) -> None:
    assert "rows differ by more than" in story.golden
    assert story.skew["mismatch"] > 0.95


def test_missing_evidence_is_never_good_news(story: Story) -> None:
    assert story.said[140, CHALLENGER]["decision"] == "PROMOTE"
    assert {what: said["decision"] for what, said in story.taken.items()} == dict.fromkeys(TAKEN, "INSUFFICIENT_DATA")


def test_another_live_version_starts_the_evidence_anew(story: Story) -> None:
    assert story.changed["decision"] == "INSUFFICIENT_DATA"
    note = next(reason for reason in story.changed["reasons"] if reason["code"] == "LIVE_CHANGED")
    assert [one["version"] for one in note["numbers"]["earlier"]] == ["2013.03"]
    assert 0 < story.changed["days"] < 14


def test_sides_swapped_by_a_coin_are_promoted_in_five_percent_at_most(story: Story) -> None:
    assert story.promoted_by_coin <= 0.05


def test_the_page_says_what_was_said(story: Story) -> None:
    rows = re.findall(r"^\| (\d+) \|(.*)\|(.*)\|(.*)\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    found = {
        (int(days), name): cell.strip()
        for days, *cells in rows
        for name, cell in zip((CHALLENGER, CONTROL, BROKEN), cells, strict=True)
        if cell.strip()
    }
    assert set(found) == set(story.said)
    for look, cell in found.items():
        decision, _, numbers = cell.partition(": ")
        assert story.said[look]["decision"] == decision, look
        assert numbers in story.said[look]["sentence"].replace("Brier score, ", ""), look
