"""Every stored input, found by fuzzing or by a person, is read or refused with one of the product's own errors."""

import pytest

from tests.fuzz.targets import CORPUS, TARGETS

INPUTS = sorted((path.parent.name, path.name) for path in CORPUS.glob("*/*"))


@pytest.mark.parametrize(("target", "name"), INPUTS)
def test_an_input_of_the_corpus(target: str, name: str) -> None:
    TARGETS[target]((CORPUS / target / name).read_bytes())


def test_every_target_has_a_corpus() -> None:
    assert {target for target, _ in INPUTS} == TARGETS.keys()
