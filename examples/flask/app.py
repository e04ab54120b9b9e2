"""A Flask service with the hook; the Tap is created before gunicorn forks, each worker creates its own Kafka client.

gunicorn --preload --workers 2 --chdir examples/flask app:app
"""

import math
import os

from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue

from gnomon_producer import Tap
from gnomon_producer.middleware import GnomonWSGIMiddleware

FEATURES = {"amount": "double", "country": ["null", "string"]}

tap = Tap.from_env(features=FEATURES)
app = Flask(__name__)
app.wsgi_app = GnomonWSGIMiddleware(app.wsgi_app)  # type: ignore[method-assign]  # Flask's own way to wrap


def score(features: dict[str, float | str | None]) -> float:
    """Score with the live model."""
    return 1 / (1 + math.exp(3 - float(features["amount"] or 0) / 40))


@app.post("/predict")
def predict() -> ResponseReturnValue:
    """Answer with the live model; the hook captures the call."""
    body = request.get_json()
    features = {"amount": body["amount"], "country": body.get("country")}
    with tap.capture(None, features, cluster=body.get("customer")) as shot:
        probability = score(features)
        shot.predicted(value=probability)
    return jsonify(probability=round(probability, 4), worker=os.getpid())
