"""Measure the cost of the confined process compared to this process, for a run and the start.

The weights are opened twice, in a confined process and in this one, and run alternately on one
image, tile by tile as in ``bmz run``, with one thread, which is less noisy. Repeat:
``python benchmarks/confined.py ../shared/models/nuclei-broad torchscript 1024``.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bmz.engine.load import load_model
from bmz.plan.geometry import axis_rules, output_rules
from bmz.plan.tiling import plan_tiles
from bmz.predict.backend import LoadRequest
from bmz.predict.confined import open_confined
from bmz.predict.cutting import Tensor
from bmz.predict.formats import open_backend
from bmz.predict.frameworks import FRAMEWORKS
from bmz.predict.tiles import predict_tiled

ROUNDS = 15


def main(word: str, weights_format: str = "torchscript", side: str = "1024") -> None:
    """Time both ways alternately and print the ratios."""
    model = load_model(word)
    entry = next(w for w in model.weights if w.format == weights_format)
    ids = (tuple(t.id for t in model.inputs), tuple(t.id for t in model.outputs))
    weights = LoadRequest(entry.file.path, *ids, threads=1, architecture=entry.architecture)
    files = [entry.file.path, *(file.path for file in entry.beside)]
    here, _ = timed(partial(open_backend, weights_format, weights))
    confined, start_s = timed(partial(open_confined, weights_format, weights, files))
    framework = FRAMEWORKS[weights_format].module
    import_s = min(timed(partial(import_in_a_new_python, framework))[1] for _ in range(3))
    size = {"y": int(side), "x": int(side)}
    rules = output_rules(model)
    tiling = plan_tiles(size, axis_rules(model))
    image = Tensor(np.random.default_rng(0).random((1, 1, *size.values()), np.float32), "bcyx")
    runs = [partial(predict_tiled, one, [image], tiling, rules) for one in (here, confined)]

    pairs = [[timed(run) for run in runs] for _ in range(ROUNDS)]
    confined.close()

    equal = all(np.array_equal(a[0][0], b[0][0]) for a, b in pairs)
    least = [min(pair[i][1] for pair in pairs) for i in range(2)]
    middle = statistics.median(b[1] / a[1] for a, b in pairs)
    print(f"{word}, {weights_format}, {side} x {side} px, {tiling.count} tiles, {ROUNDS} pairs")
    print(f"least: here {least[0]:.3f} s, confined {least[1]:.3f} s, {least[1] / least[0]:.3f} x")
    print(f"median of the ratios of pairs: {middle:.3f}")
    print(f"same numbers: {equal}")
    print(f"start confined {start_s:.2f} s; a new Python imports {framework} in {import_s:.2f} s")


def timed(deed: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result and the seconds it took."""
    start = time.perf_counter()
    result = deed()
    return result, time.perf_counter() - start


def import_in_a_new_python(framework: str) -> None:
    """Start Python, import NumPy and a framework."""
    subprocess.run([sys.executable, "-c", f"import numpy, {framework}"], check=True)  # noqa: S603


if __name__ == "__main__":
    main(*sys.argv[1:])
