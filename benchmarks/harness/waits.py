"""A model that waits without using the processor, like one on another machine: 8,000 rows/s a worker."""

import time
from collections.abc import Callable, Mapping
from typing import Any

SECONDS_A_ROW = 125e-6


def model() -> Callable[[Mapping[str, Any]], Any]:
    """Return the model of `--model benchmarks.harness.waits:model`."""

    def predict(columns: Mapping[str, Any]) -> Any:
        answer = next(iter(columns.values()))
        time.sleep(SECONDS_A_ROW * len(answer))  # the work is done on another machine
        return answer

    predict.features = ("number_0",)  # type: ignore[attr-defined]  # what a callable model says that it needs
    return predict
