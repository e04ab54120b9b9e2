"""The pages' tables equal the results, and their drawings and texts are correct."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from benchmarks.harness.running import ROOT, BenchmarkError, Measured, interleaved
from benchmarks.jobs import hook
from benchmarks.output import frames, page, plots, tables
from benchmarks.output.tables import Result


@pytest.mark.parametrize("name", page.PAGES)
def test_a_page_says_what_the_results_say(name: str) -> None:
    text = (ROOT / name).read_text()
    assert page.PLACE.findall(text)
    assert page.filled(text) == text, "python -m benchmarks page writes the tables anew"


def test_every_result_stands_on_a_page() -> None:
    shown = {found[1] for name in page.PAGES for found in page.PLACE.findall((ROOT / name).read_text())}
    assert set(page.SCALE) | set(page.BLOCKS) <= shown
    whole_jobs = {path.stem for path in tables.RESULTS.glob("*.json") if "series" in json.loads(path.read_text())}
    loads = {
        f"{path.stem}-{load}" for path in tables.RESULTS.glob("hook-*.json") for load in json.loads(path.read_text())
    }
    assert whole_jobs | loads <= shown


@pytest.mark.parametrize("path", sorted(tables.RESULTS.glob("[!r]*-*.md")), ids=lambda path: str(path.stem))
def test_a_table_beside_its_figures_says_the_same(path: Path) -> None:
    data = json.loads(path.with_suffix(".json").read_text())
    kind = path.stem.removeprefix("hook-")
    assert (tables.markdown(data) if "series" in data else hook.markdown(kind, data)) == path.read_text()


def test_the_picture_shows_what_is_kept() -> None:
    drawn = plots.PICTURE.read_text()
    for panel in plots.panels(plots.kept()):
        assert panel.title in drawn
        assert panel.across in drawn


def test_whoever_cannot_run_is_in_the_table_with_the_reason(tmp_path: Path) -> None:
    def refused(_: int) -> Measured:
        raise BenchmarkError("ended with status 1: Traceback\n  a line\nKafkaError: no | such request")

    rates = iter((100.0, 300.0, 200.0))
    series = interleaved(
        {"ours": lambda _: Measured(10, next(rates), 4.0, 2_000_000), "theirs": refused}, 3, lambda _: None
    )
    text = tables.write(Result("some", "Some", series, "ours", 10), tmp_path).read_text()
    assert "| ours | 200 (100 – 300) | 4.00 (4.00 – 4.00) | 2 | 3 | 1.00 × | 1.00 × |" in text
    assert "| theirs | cannot run: KafkaError: no / such request | | | 0 | | |" in re.sub(" +", " ", text)


def test_a_thread_that_only_waits_is_left_out_and_boxes_add_up() -> None:
    process = 'process 7:"/somewhere/gnomon join"'
    raw = [
        f"{process};thread (0x1);main;read 30",
        f"{process};thread (0x1);main;write 50",
        f"{process};thread (0x1);other 20",
        f"{process};thread (0x2);run;_next_signal (gnomon_consumer/runtime/signals.py:56) 99",
    ]
    stacks, left_out = frames.busy(frames.read("\n".join(raw)))
    assert left_out == 99
    assert stacks == Counter(
        {("process 7", "main", "read"): 30, ("process 7", "main", "write"): 50, ("process 7", "other"): 20}
    )
    assert list(frames.boxes(stacks)) == [
        (0, 0, 100, "process 7"),
        (1, 0, 80, "main"),
        (1, 80, 20, "other"),
        (2, 0, 30, "read"),
        (2, 30, 50, "write"),
    ]
    assert "<title>write: 50 samples, 50.0%</title>" in frames.drawn("a job", stacks)
