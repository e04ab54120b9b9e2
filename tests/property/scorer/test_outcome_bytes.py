"""The bound on an outcome's bytes that saves the worker from encoding every batch twice."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from gnomon_consumer.scorer.captures import Row, Rows
from gnomon_consumer.scorer.worker.encoding import encode_batch, most_bytes
from gnomon_consumer.scorer.worker.models.base import Answers
from gnomon_schemas.framing import MAX_MESSAGE_BYTES
from gnomon_schemas.records import Failure, FailureKind, FeatureState

TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
SMALL = st.integers(0, 2**31 - 1)
STATES = st.none() | st.builds(FeatureState, TEXTS, SMALL, SMALL)
MODELS = st.fixed_dictionaries({"name": TEXTS, "version": TEXTS, "sha256": TEXTS})


@given(st.data(), st.integers(1, 5), MODELS, st.none() | TEXTS, STATES)
def test_no_outcome_has_more_bytes_than_the_bound(
    data: st.DataObject, count: int, model: dict[str, str], stratum: str | None, state: FeatureState | None
) -> None:
    ids = data.draw(st.lists(TEXTS, min_size=count, max_size=count))
    scores = data.draw(st.none() | st.lists(st.lists(NUMBERS, max_size=20), min_size=count, max_size=count))
    answers = Answers(
        count,
        value=np.array(data.draw(st.lists(NUMBERS, min_size=count, max_size=count))),
        label=data.draw(st.none() | st.lists(TEXTS, min_size=count, max_size=count)),
        scores=scores,
    )
    if scores is not None and data.draw(st.booleans()):
        answers.row_items = [[data.draw(TEXTS) for _ in row] for row in scores]
    if data.draw(st.booleans()):
        answers.failures = {0: Failure(FailureKind.MODEL_ERROR, data.draw(TEXTS) * data.draw(st.integers(1, 30)))}
    far = data.draw(st.integers(0, 2**62))
    rows = Rows.of([Row(2**31 - 1, far, key.encode(), b"", stratum, far, 1e-9, 0.5) for key in ids])
    request_ids = pa.array(ids, pa.string())
    outcomes = encode_batch(
        rows, "w" * 36, model, answers, request_ids=request_ids, scored_at=2**52, latency_us=[2**52] * count,
        batch_size=2**31 - 1, queued_us=2**52, feature_state=state,
    )  # fmt: skip
    assert outcomes.columns is not None
    longest = max(len(outcomes[at].message) for at in range(count))
    assert longest <= most_bytes(outcomes.columns, rows, model, request_ids)


def test_the_bound_on_ordinary_outcomes_is_far_below_the_limit() -> None:
    rows = Rows.of([Row(0, at, b"request-%d" % at, b"", "JFK", at, 0.25) for at in range(1000)])
    request_ids = pa.array([f"request-{at}" for at in range(1000)])
    answers = Answers(1000, value=np.zeros(1000), label=["yes"] * 1000, scores=np.zeros((1000, 100)))
    outcomes = encode_batch(
        rows, "w" * 36, {"name": "m", "version": "1", "sha256": "a" * 64}, answers, request_ids=request_ids,
        scored_at=0, latency_us=[1] * 1000, batch_size=1000, queued_us=0, feature_state=None,
    )  # fmt: skip
    assert outcomes.columns is not None
    bound = most_bytes(outcomes.columns, rows, {"name": "m"}, request_ids)
    assert bound < MAX_MESSAGE_BYTES / 100
