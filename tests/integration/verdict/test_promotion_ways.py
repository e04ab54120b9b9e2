"""Flag files with unusual content, and commands that fail, hang or leave something behind."""

import contextlib
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.report_database import Database
from tests.support.verdict_database import lenient, made

from gnomon_consumer.verdict import ways
from gnomon_consumer.verdict.database import deployment_row
from gnomon_consumer.verdict.intents import unsettled
from gnomon_consumer.verdict.promotion import StuckError, promote
from gnomon_consumer.verdict.rules.plan import WayBack
from gnomon_consumer.verdict.ways import Command, FlagFile
from gnomon_schemas.errors import ConfigurationError, GnomonError

FLAG = {"state": "ENABLED", "variants": {"live": {"model": "ä"}, "challenger": 2.5}, "defaultVariant": "live"}
NOTE = {"promotion": "7"}


def flag(folder: Path, changes: dict[str, Any] | None = None, **top: Any) -> FlagFile:
    """Write a flag file and return its switch."""
    file = folder / "flags.json"
    whole = {"flags": {"model": FLAG | (changes or {}), "other": {"state": "DISABLED"}}, **top}
    file.write_text(json.dumps(whole, ensure_ascii=False), encoding="utf-8")
    return FlagFile(WayBack(kind="flag", flag_file=str(file), flag="model", flag_variant="challenger"))


def there_and_back(way: FlagFile, file: Path) -> None:
    """Move the switch and move it back; nothing else of the file may change."""
    before = json.loads(file.read_text(encoding="utf-8-sig"))
    start = way.state()
    for target in (start, way.wanted()):
        way.check(target)
    way.move(start, way.wanted(), NOTE)
    assert way.state() == way.wanted()
    way.move(way.wanted(), start, NOTE)
    after = json.loads(file.read_text(encoding="utf-8"))
    metadata = after["flags"]["model"].pop("metadata")
    assert metadata.pop("gnomon.promotion") == "7"
    assert metadata == (before["flags"]["model"].pop("metadata", None) or {})
    before["flags"]["model"].setdefault("defaultVariant", None)
    assert after == before


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"defaultVariant": None},
        {"metadata": None},
        {"metadata": {"owner": "me", "version": 3, "gone": True}},
        {"targeting": {}},
        {"targeting": None},
    ],
)
def test_unusual_flags_are_moved_and_moved_back(tmp_path: Path, changes: dict[str, Any]) -> None:
    way = flag(tmp_path, changes, **{"$evaluators": {"a": {"in": ["@x", {"var": "email"}]}}, "metadata": {"set": "y"}})
    there_and_back(way, tmp_path / "flags.json")
    assert "ä" in (tmp_path / "flags.json").read_text(encoding="utf-8")


def test_a_file_with_a_byte_order_mark_or_behind_a_link(tmp_path: Path) -> None:
    flag(tmp_path)
    file, link = tmp_path / "flags.json", tmp_path / "linked" / "flags.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    link.parent.mkdir()
    link.symlink_to(file)
    way = FlagFile(WayBack(kind="flag", flag_file=str(link), flag="model", flag_variant="challenger"))
    there_and_back(way, link)
    assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flags.json", "linked"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"state": "DISABLED"}, "flag model is not ENABLED, so its default variant has no effect"),
        ({"targeting": {"if": [True, "live"]}}, "flag model has targeting rules, which decide before"),
        ({"variants": None}, "has no table `variants`"),
        ({"variants": ["live", "challenger"]}, "has no table `variants`"),
        ({"metadata": "mine"}, "has metadata that is not a table"),
    ],
)
def test_a_flag_whose_default_variant_decides_nothing_is_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    way = flag(tmp_path, changes)
    with pytest.raises(ConfigurationError, match=said):
        way.check(way.wanted())


@pytest.mark.parametrize(
    "text",
    [
        "# a comment\n{}",
        "flags:\n  model:\n    state: ENABLED\n",
        '{"flags": {"model": {"variants": {"challenger": NaN}}}}',
        '{"flags": {"model": {"variants": {"challenger": 1e400}}}}',
        '{"flags": null}',
    ],
)
def test_what_is_not_json_is_refused_with_the_reason(tmp_path: Path, text: str) -> None:
    way = flag(tmp_path)
    (tmp_path / "flags.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="is not a flag file in flagd's format, which is JSON with a table"):
        way.state()


@pytest.mark.parametrize("place", ["x", "\\ud83d"])
def test_half_a_character_is_refused_before_the_switch_moves(tmp_path: Path, place: str) -> None:
    way = flag(tmp_path)
    file = tmp_path / "flags.json"
    file.write_text(file.read_text(encoding="utf-8")[:-1] + f', "{place}": ["\\ud83d"]}}', encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"flags\.json has \\ud83d, half of a character"):
        way.check(way.wanted())
    assert [path.name for path in tmp_path.iterdir()] == ["flags.json"]


def script(promote: str, rollback: str = "true") -> WayBack:
    return WayBack(kind="command", promote_command=("sh", "-c", promote), rollback_command=("sh", "-c", rollback))


def test_a_command_that_leaves_something_in_the_background_is_done(tmp_path: Path) -> None:
    way = Command(script(f"sleep 60 & echo $! > {tmp_path}/pid; echo done"))
    began = time.monotonic()
    way.move(way.state(), way.wanted(), NOTE)
    assert time.monotonic() - began < 30
    subprocess.run(["kill", (tmp_path / "pid").read_text().strip()], check=True)


def test_a_command_that_hangs_is_killed_whole_and_its_arguments_stay_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "COMMAND_SECONDS", 3)
    way = Command(script(f"PASSWORD=s3cret; (sleep 20; echo late > {tmp_path}/late) & echo $! > {tmp_path}/pid; wait"))
    with pytest.raises(GnomonError, match=r"^sh did not end within 3 s and was killed$"):
        way.move(way.state(), way.wanted(), NOTE)
    with contextlib.suppress(psutil.NoSuchProcess):
        # The signal was sent, but on a busy machine the process may run on for a moment.
        psutil.Process(int((tmp_path / "pid").read_text())).wait(15)


def test_a_promotion_whose_command_fails_half_way_is_taken_back(db: Database, tmp_path: Path) -> None:
    live = tmp_path / "live"
    way = script(f"echo challenger > {live}; echo half way >&2; exit 3", f"echo former > {live}")
    made(db, 14, plan=lenient(way_back=way))
    row = deployment_row(db.connection, "s", "new")
    with pytest.raises(
        GnomonError, match="sh ended with status 3: half way; it was taken back, so the former model is"
    ):
        promote(db.connection, row, "a test", dry_run=False)
    assert live.read_text() == "former\n"
    assert unsettled(db.connection, "s") is None
    assert db.value("select count(*) from gnomon.promotions") == 0


def test_a_promotion_that_cannot_be_taken_back_stays_open(db: Database, tmp_path: Path) -> None:
    made(db, 14, plan=lenient(way_back=script("exit 3", "exit 4")))
    row = deployment_row(db.connection, "s", "new")
    with pytest.raises(StuckError, match=r"sh ended with status 3.*could not be moved back.*sh ended with status 4"):
        promote(db.connection, row, "a test", dry_run=False)
    found = unsettled(db.connection, "s")
    assert found is not None
    assert found.what == "promotion 1 of new"
