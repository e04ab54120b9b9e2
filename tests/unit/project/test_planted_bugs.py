"""Each planted bug of `tests/mutation` applies to the current product."""

from tests.mutation.mutants import MUTANTS, ROOT


def test_every_bug_applies() -> None:
    assert len(MUTANTS) >= 40
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    for mutant in MUTANTS:
        text = (ROOT / mutant.path).read_text()
        assert mutant.applied(text) != text
