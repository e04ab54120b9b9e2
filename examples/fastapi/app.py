"""A FastAPI service with the hook.

uvicorn --app-dir examples/fastapi app:app
"""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from pydantic import BaseModel

from gnomon_producer import Tap
from gnomon_producer.middleware import GnomonASGIMiddleware


class Payment(BaseModel):
    """The input of the model, from which the feature record is derived."""

    amount: float
    country: str | None = None


tap = Tap.from_env(features=Payment)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Drain when the server stops: uvicorn ends by re-raising the signal, without running exit handlers."""
    yield
    tap.close()


app = FastAPI(lifespan=lifespan)
app.add_middleware(GnomonASGIMiddleware)


@app.post("/predict")
async def predict(payment: Payment) -> dict[str, float | str]:
    """Answer with the live model; the hook captures the call."""
    with tap.capture(None, payment, segments={"channel": "web"}) as shot:
        probability = 1 / (1 + math.exp(3 - payment.amount / 40))
        label = "review" if probability > 0.5 else "accept"
        shot.predicted(value=probability, label=label)
    return {"probability": round(probability, 4), "label": label}
