"""`gnomon init` writes a file that loads, and whose comments are the defaults."""

import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from gnomon_consumer.cli.init import init
from gnomon_consumer.quickstart.configuration import commented_file
from gnomon_consumer.settings import Settings, load_settings
from gnomon_schemas.errors import ConfigurationError


@pytest.fixture(autouse=True)
def no_other_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GNOMON_")]:
        monkeypatch.delenv(name)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")


def test_the_file_loads_and_sets_nothing_but_the_stream(tmp_path: Path) -> None:
    file = tmp_path / "gnomon.toml"
    done = CliRunner().invoke(init, ["--stream", "orders", "--output", str(file)])
    assert done.exit_code == 0, done.output
    assert load_settings(config=file).model_dump() == load_settings({"stream": "orders"}).model_dump()


def test_every_setting_is_there_and_its_comment_is_its_default(tmp_path: Path) -> None:
    text = commented_file("orders")
    # Remove the '#' of every `key = value`; a key without any default stays a comment.
    opened = re.sub(r"^# (\w+ = .+)$", r"\1", text, flags=re.MULTILINE)
    assert opened != text
    file = tmp_path / "gnomon.toml"
    file.write_text(opened)
    loaded = load_settings(config=file).model_dump()
    assert loaded.pop("database_url") is not None  # an example; it has no default
    defaults = load_settings({"stream": "orders"}).model_dump()
    defaults.pop("database_url")
    assert loaded == defaults
    for name, field in Settings.model_fields.items():
        keys = getattr(field.annotation, "model_fields", None)
        for key in keys or [name]:
            assert re.search(rf"^(# )?{key} =|^\[{name}\.{key}\]$", text, re.MULTILINE), key


def test_a_file_that_is_there_stays_unless_forced(tmp_path: Path) -> None:
    file = tmp_path / "gnomon.toml"
    file.write_text("mine")
    with pytest.raises(ConfigurationError, match="--force"):
        CliRunner().invoke(init, ["--output", str(file)], catch_exceptions=False)
    assert file.read_text() == "mine"
    CliRunner().invoke(init, ["--output", str(file), "--force"], catch_exceptions=False)
    assert file.read_text() != "mine"


def test_a_stream_that_no_topic_may_be_named_after_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="stream 'a b'"):
        CliRunner().invoke(init, ["--stream", "a b", "--output", str(tmp_path / "x")], catch_exceptions=False)
