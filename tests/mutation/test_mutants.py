"""A few planted bugs are found.

`make mutation` plants all of them; `tests/unit/project/test_planted_bugs.py` applies each.
"""

import pytest

from tests.mutation.__main__ import found_by
from tests.mutation.mutants import MUTANTS, Mutant

# One of the scorer's and one of the joiner's, each found within ten seeds.
SOON_FOUND = ("resume one offset too late", "a revoked partition is still written")


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.name in SOON_FOUND], ids=lambda mutant: mutant.name)
@pytest.mark.timeout(900)
def test_a_planted_bug_is_found_by_the_simulation(mutant: Mutant) -> None:
    assert found_by(mutant, seeds=20).startswith("simulation, seed")
