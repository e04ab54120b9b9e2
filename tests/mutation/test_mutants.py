"""Each planted bug applies to the current product; a few are planted and found. `make mutation` does all of them."""

import pytest

from tests.mutation.__main__ import found_by
from tests.mutation.mutants import MUTANTS, ROOT, Mutant


def test_every_bug_applies() -> None:
    assert len(MUTANTS) >= 40
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    for mutant in MUTANTS:
        text = (ROOT / mutant.path).read_text()
        assert mutant.applied(text) != text


# One of the scorer's and one of the joiner's, each found within ten seeds.
SOON_FOUND = ("resume one too far", "a revoked partition is still written")


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.name in SOON_FOUND], ids=lambda mutant: mutant.name)
@pytest.mark.timeout(900)
def test_a_planted_bug_is_found_by_the_simulation(mutant: Mutant) -> None:
    assert found_by(mutant, seeds=20).startswith("simulation, seed")
