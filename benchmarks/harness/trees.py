"""Trains the hundred trees of the benchmarks, as ONNX: `python -m benchmarks.harness.trees FOLDER FEATURES`."""

import sys
from pathlib import Path

import numpy as np
from skl2onnx import to_onnx
from sklearn.ensemble import GradientBoostingRegressor

TREES, DEPTH = 100, 5


def main() -> None:
    folder, width = Path(sys.argv[1]), int(sys.argv[2])
    random = np.random.default_rng(1)
    rows = random.normal(size=(2000, width)).astype(np.float32)
    target = rows @ random.normal(size=width) + np.sin(3 * rows[:, 0])
    model = GradientBoostingRegressor(n_estimators=TREES, max_depth=DEPTH, max_features="sqrt", random_state=1)
    model.fit(rows, target)
    (folder / "trees.onnx").write_bytes(to_onnx(model, rows[:1]).SerializeToString())
    names = ", ".join(f"number_{at}" for at in range(width))
    (folder / "trees.yaml").write_text(f"features: [{names}]\noutputs: {{variable: value}}\ntask: regression\n")


if __name__ == "__main__":
    main()
