"""The folder of a demo: one demo at a time uses it."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from gnomon_consumer.quickstart.demo.folder import Demo
from gnomon_schemas.errors import ConfigurationError


def test_a_second_demo_in_the_folder_of_a_running_one_is_refused(tmp_path: Path) -> None:
    """It would replace the files and the database of the first."""
    folder = tmp_path / "demo"
    with ExitStack() as first:
        Demo(folder).prepare(first)
        kept = folder / "logs" / "one.log"
        kept.touch()
        with ExitStack() as second, pytest.raises(ConfigurationError, match=r"another demo uses .*/demo: wait"):
            Demo(folder).prepare(second)
        assert kept.exists()
        with ExitStack() as elsewhere:
            Demo(tmp_path / "other").prepare(elsewhere)
    with ExitStack() as later:
        Demo(folder).prepare(later)
    assert not kept.exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with ExitStack() as stack, pytest.raises(ConfigurationError, match="file/demo cannot be used: Not a directory"):
        Demo(tmp_path / "file" / "demo").prepare(stack)
