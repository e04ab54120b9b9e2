"""Bugs that the tests of such a system must find, each as a replacement of one place in the product."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_CONSUMER = Path("consumer/gnomon_consumer")


@dataclass(frozen=True, slots=True)
class Mutant:
    """`old`, which occurs once in the file, becomes `new`; `tests` find bugs that the simulation cannot see.

    `also` are further replacements in the file, if a second guard would catch what the first one lets through.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...] = ()
    also: tuple[tuple[str, str], ...] = ()

    @property
    def path(self) -> Path:
        """Return the path, relative to the root."""
        return _CONSUMER / self.file

    def applied(self, text: str) -> str:
        """Return the file's text with the bug; raise ValueError if it does not apply."""
        for old, new in ((self.old, self.new), *self.also):
            if text.count(old) != 1:
                raise ValueError(f"{self.name}: {old!r} stands {text.count(old)} times in {self.path}")
            text = text.replace(old, new)
        return text


_TAIL, _DRAIN, _ASSIGNMENT = "scorer/intake/shadow_tail.py", "scorer/intake/drain.py", "scorer/intake/assignment.py"
_RESUME, _LOOP = "scorer/intake/resume.py", "scorer/loop.py"
_ROWS, _SEALER, _FLIGHT = "scorer/sealed/sampled_rows.py", "scorer/sealed/sealer.py", "scorer/sealed/in_flight.py"
_WRITER, _ALLOCATION = "scorer/sealed/transaction.py", "scorer/sampling/allocation.py"
_RESERVOIR, _OPEN = "scorer/sampling/reservoir.py", "scorer/sampling/open_window.py"
_JOIN, _MERGING, _BOTH = "joiner/merge/merge_join.py", "joiner/merge/window.py", "joiner/reading/both_logs.py"
_PARTITION, _SINK, _LEDGER = "joiner/merge/partition.py", "joiner/postgres/sink.py", "joiner/pairs/ledger_rows.py"
_SQL, _GROUP = "joiner/postgres/queries.sql", "kafka/group.py"

MUTANTS = (
    # The offset at which a scorer continues.
    Mutant("resume one offset too late", _TAIL, 'end = record["end_offset"]', 'end = record["end_offset"] + 1'),
    Mutant("resume one offset too early", _TAIL, 'end = record["end_offset"]', 'end = record["end_offset"] - 1'),
    Mutant("resume where the last window began", _TAIL, 'record["end_offset"]', 'record["start_offset"]'),
    Mutant("resume at the group's offset", _RESUME, "offsets[partition] = tail.end_offset", "offsets[partition] = max(committed.get(partition, 0), 0)"),
    Mutant("a recorded start without windows is ignored", _RESUME, "            elif tail.start is not None:\n                offsets", "            elif tail.expired and tail.start is not None:\n                offsets"),
    # Callbacks and ownership.
    Mutant("a callback of librdkafka asks the broker", _ASSIGNMENT, "        self._retry_at = self._clock()\n\n    def _on_revoke", "        self._retry_at = self._clock()\n        self.step()\n\n    def _on_revoke"),
    Mutant("windows of a revoked partition are kept", _ASSIGNMENT, "        for partition in gone:\n            self.owned.pop(partition, None)\n        self._drop_unowned(self.owns)", "        for partition in gone:\n            self.owned.pop(partition, None)", also=(("return owned is not None and owned.owner is owner", "return owned is not None"),)),
    Mutant("the scorer continues after a commit without an answer", _LOOP, "            self.assignment.resume_owned()\n", ""),
    # Counting.
    Mutant("the next offset one too low", _DRAIN, "        self._sealer.add_messages(position, offsets, run)\n        owned.advance(end)", "        self._sealer.add_messages(position, offsets, run)\n        owned.advance(end - 1)"),
    Mutant("captures are counted twice", _OPEN, "self.seen += len(captures)\n        self.bytes_seen", "self.seen += 2 * len(captures)\n        self.bytes_seen", ("tests/property/scorer/test_sampling.py",)),
    Mutant("a reservoir forgets to count what it drops", _RESERVOIR, "        self.seen += len(captures)\n        if self.cut is not None:\n            captures = captures.select(np.flatnonzero(captures.ranks <= self.cut))\n", "        if self.cut is not None:\n            captures = captures.select(np.flatnonzero(captures.ranks <= self.cut))\n        self.seen += len(captures)\n", ("tests/property/scorer/test_sampling.py",)),
    Mutant("a truncated log is skipped silently", _DRAIN, "        self._in_flight.gap(owned.owner, owned.next_offset, until, reason, self._clock())\n", ""),
    Mutant("a gap is one short", _SEALER, "gap=Gap(reason, end - start)", "gap=Gap(reason, end - start - 1)"),
    # Sampling.
    Mutant("the inclusion probability counts one row too many as seen", _ALLOCATION, "return self.draw_probability * len(self.sample) / self.seen if self.seen else 0.0", "return self.draw_probability * len(self.sample) / (self.seen + 1)"),
    Mutant("the inclusion probability ignores the draw of partitions", _ALLOCATION, "return self.draw_probability * len(self.sample) / self.seen", "return 1.0 * len(self.sample) / self.seen"),
    Mutant("the sample is the first rows, not those of the smallest ranks", _RESERVOIR, "np.flatnonzero(self.ranks < ends[k]), int(ends[k])", "np.arange(k), int(ends[k])"),
    Mutant("the sample is the rows of the largest ranks", _RESERVOIR, 'order = np.argsort(self.ranks, kind="stable")', 'order = np.argsort(-self.ranks, kind="stable")'),
    Mutant("the seed is ignored", "scorer/sampling/ranks.py", "seeds = itertools.repeat(seed % 2**64)", "seeds = itertools.repeat(0)"),
    Mutant("a cell may get a single row", _ALLOCATION, "_LEAST = 2 ", "_LEAST = 1 ", ("tests/property/scorer/test_sampling.py",)),
    # Outcomes and seals.
    Mutant("an outcome is dropped", _ROWS, "            open=count,\n", "            open=max(0, count - 1),\n"),
    Mutant("late rows have no outcome", _FLIGHT, '                    window.sample.store_one(place, Scored("timed_out", message))', '                    window.sample.open -= 1'),
    Mutant("a window is sealed twice", _WRITER, "                    self._window(producer, window, tick)\n", "                    self._window(producer, window, tick)\n                    self._window(producer, window, tick)\n"),
    Mutant("outcomes are not in the order of offsets", _ROWS, "            order = np.argsort(sample.offsets)\n", "            order = np.argsort(-sample.offsets)\n", ("tests/unit/scorer/test_sealed_window.py", "tests/property/scorer/test_sampling.py")),
    Mutant("a window's record has the cells of all windows", _ROWS, "cell_of == at]", "cell_of >= 0]"),
    Mutant("a seal is written before its rows", _WRITER, "        keys, messages = window.sample.rows.keys, window.sample.messages\n", "        keys, messages = window.sample.rows.keys, window.sample.messages\n        self._produce(producer, self._shadow, partition, None, window.record(tick))\n        if messages:\n            return\n"),
    Mutant("a failed commit counts as done", _WRITER, "                if not kafka_error(error).retriable() or self.clock() > deadline:\n                    raise\n                tries += 1", "                break"),
    Mutant("the starts of windows are committed as offsets", _WRITER, "] = window.seal.end\n", "] = window.seal.start\n", ("tests/faults/scorer/test_scorer_group.py",)),
    Mutant("the producer is kept after several tries", _WRITER, "        if tries > 1:\n", "        if tries > 99:\n", ("tests/unit/scorer/test_transaction.py",)),
    # The merge join.
    Mutant("a repeated window is joined again", _JOIN, "if end <= self._next_source:", "if end < start:", ("tests/property/joiner/test_merge_join.py",)),
    Mutant("rows of a torn window are kept", _JOIN, "        self._rows.clear()\n", "", ("tests/property/joiner/test_merge_join.py",)),
    Mutant("a hole in the shadow log is accepted", _JOIN, "if start > self._next_source:", "if start > self._next_source + 10**9:", ("tests/property/joiner/test_merge_join.py",)),
    Mutant("the last capture of a window is not matched", _JOIN, "window.read(run.between(at, end))", "window.read(run.between(at, max(at + 1, end - 1)))"),
    Mutant("orphans are forgotten", _MERGING, "for row in plain(self.rows, lost))", "for row in plain(self.rows, lost[:0]))"),
    Mutant("the fallback cell is not counted", _MERGING, "self.joined.seen.update(strata)", "self.joined.seen.update(strata[1:])"),
    Mutant("dead letters become pairs", _MERGING, "            refused.add(at)\n", ""),
    # The database.
    Mutant("progress without compare-and-set", _SQL, "where deployment_id = %s and source_partition = %s and next_source_offset = %s", "where deployment_id = %s and source_partition = %s and next_source_offset <> -%s - 1", ("tests/integration/joiner/test_sink.py",)),
    Mutant("a moved progress is not noticed", _SINK, "            if moved.rowcount != 1:\n", "            if moved.rowcount > 1:\n", ("tests/integration/joiner/test_sink.py",)),
    Mutant("commit before COPY", _SINK, "            self._move_progress(windows, outside)\n            kept, refusals", "            self._move_progress(windows, outside)\n        with self._connection.transaction():\n            kept, refusals"),
    Mutant("progress of the first window only", _SINK, "own[-1].seal.end_offset", "own[0].seal.end_offset"),
    Mutant("a refused row is dropped", _SINK, '                    refusals.append(assembled.refused(start, "refused", one_line(error)))', "                    pass"),
    Mutant("refused rows are counted as pairs", _LEDGER, '"dead_lettered") for at, refusal in refusals]', '"scored") for at, refusal in refusals]'),
    Mutant("a revoked partition is still written", _BOTH, "        self.forget(partitions)\n        self._finish_write()", "        self._finish_write()"),
    Mutant("an unreachable database ends the joiner", "joiner/loop.py", "        except UNREACHABLE as error:\n            self._begin_outage(error)", "        except KeyError as error:\n            self._begin_outage(error)"),
    Mutant("messages read before an outage are joined after it", "joiner/loop.py", "        self._sink.close()\n        self.logs.reopen(list(self.logs.owned))", "        self._sink.close()"),
)  # fmt: skip
