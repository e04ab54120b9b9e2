"""An invalid address of a model server is refused without repeating it, because it may hold a password."""

import pytest

from gnomon_consumer.scorer.worker import models
from gnomon_schemas.errors import ConfigurationError


@pytest.mark.parametrize(
    "text", ["http:mu:SECRET", "https:/mu:SECRET@host/m", "HTTP://mu:SECRET@host/m", "Https:SECRET"]
)
def test_an_address_that_is_not_whole_is_not_repeated(text: str) -> None:
    with pytest.raises(ConfigurationError, match="begins with http:// or https://") as refused:
        models.describe(text)
    assert "SECRET" not in str(refused.value)
