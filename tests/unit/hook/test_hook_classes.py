"""The two classes of a binary stream, declared in the hook: a label is sent with both its value and its class."""

from typing import Any

import pytest

from gnomon_producer import TapConfig
from gnomon_producer.predictions import label_fields, with_class
from gnomon_schemas.errors import ConfigurationError

GIVEN: dict[str, Any] = {"stream": "s", "model": ("m", "1"), "features": {"x": "double"}}


@pytest.mark.parametrize(
    ("value", "label", "sent"),
    [
        (1, None, (1.0, "late")),
        (0.0, None, (0.0, "on_time")),
        (True, None, (1.0, "late")),
        (None, "late", (1.0, "late")),
        (None, "on_time", (0.0, "on_time")),
        (None, "maybe", (None, "maybe")),
        (0.5, None, (0.5, None)),
        (0.0, "late", (0.0, "late")),
    ],
)
def test_value_and_class_complete_each_other(value: Any, label: Any, sent: tuple[Any, Any]) -> None:
    truth = with_class(label_fields(value, label, None, None), ("late", "on_time"))
    assert (truth["value"], truth["label"]) == sent


def test_without_classes_a_label_stays_as_it_is() -> None:
    assert with_class(label_fields(1, None, None, None), None)["label"] is None


def test_classes_from_the_environment() -> None:
    assert TapConfig.from_env({"GNOMON_CLASSES": "late, on_time"}, **GIVEN).classes == ("late", "on_time")


@pytest.mark.parametrize("classes", [("late",), ("late", "late"), ("a", "b", "c"), "ab", ("", "b"), (1, 0)])
def test_what_is_no_pair_of_classes_is_refused(classes: Any) -> None:
    with pytest.raises(ConfigurationError, match="positive and a negative class"):
        TapConfig(**GIVEN, classes=classes)
