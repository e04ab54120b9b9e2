"""A plain loop with the hook: payments in as JSON lines, answers out, and a label if the line has the truth.

python examples/loop/score.py < payments.jsonl
"""

import json
import math
import sys

from gnomon_producer import Tap

FEATURES = {"amount": "double", "country": ["null", "string"]}


def score(features: dict[str, float | str | None]) -> float:
    """Score with the live model."""
    return 1 / (1 + math.exp(3 - float(features["amount"] or 0) / 40))


def main() -> None:
    """Answer line by line. Captures in flight are drained automatically when the program ends."""
    tap = Tap.from_env(features=FEATURES)
    for line in sys.stdin:
        payment = json.loads(line)
        features = {"amount": payment["amount"], "country": payment.get("country")}
        with tap.capture(payment["id"], features) as shot:
            probability = score(features)
            shot.predicted(value=probability, label="review" if probability > 0.5 else "accept")
        print(json.dumps({"id": payment["id"], "probability": round(probability, 4)}), flush=True)
        if "fraud" in payment:
            fraud = bool(payment["fraud"])
            tap.label(payment["id"], value=float(fraud), label="review" if fraud else "accept")


if __name__ == "__main__":
    main()
