"""A Celery worker with the hook: the Tap is created before the worker forks, each child creates its own Kafka client.

celery --workdir examples/celery --app tasks worker
"""

import math
import os
from typing import Any

from celery import Celery, Task
from celery.signals import worker_process_shutdown

from gnomon_producer import Tap

FEATURES = {"amount": "double", "country": ["null", "string"]}

tap = Tap.from_env(features=FEATURES)
app = Celery("tasks")
# A child of the pool ends without exit handlers.
worker_process_shutdown.connect(lambda **_: tap.close(), weak=False)


@app.task(bind=True)  # type: ignore[untyped-decorator]  # Celery has no types
@tap.observe(
    request_id=lambda task, features: task.request.id,
    features=lambda task, features: features,
    predicted=lambda answer: answer["probability"],
)
def predict(_task: Task, features: dict[str, Any]) -> dict[str, Any]:
    """Answer with the live model; the hook captures the call. The task's id is the request's."""
    return {"probability": 1 / (1 + math.exp(3 - features["amount"] / 40)), "worker": os.getpid()}
