"""Measure the effect of tile, batch, threads and layout on the CPU time per megapixel.

``python benchmarks/ways.py [--write FILE]``; needs what ``benchmarks/throughput.py`` needs.

Each network runs in each framework and precision on tiles of noise: of three sizes, several at
once, on one thread, and for PyTorch in its own layout instead of channels-last. All run
alternately, and the shortest of three passes counts. ``--write`` writes the table between its marks
in FILE.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from pages import write_between
from throughput import write_package

from bmz.base.arrays import AnyArray
from bmz.engine.load import load_model
from bmz.predict.backend import CPU, LoadRequest, Precision
from bmz.predict.formats import backends, open_backend
from bmz.spec.model import ModelSpec

MARKS = ("<!-- benchmarks/ways.py -->\n", "<!-- end of ways -->\n")
ROUNDS = 3
SIDE = 512
"""Side in px of the tile that everything else is compared with."""


@dataclass(frozen=True)
class Pass:
    """One way to run tiles.

    Parameters
    ----------
    what : heading of the column
    shape : height and width of a tile in px
    batch : number of tiles at once
    threads : number of threads; None for all
    plain : whether PyTorch's own layout is used
    """

    what: str
    shape: tuple[int, int] = (SIDE, SIDE)
    batch: int = 1
    threads: int | None = None
    plain: bool = False


PASSES = (
    Pass("512 px"),
    Pass("768 px", (768, 768)),
    Pass("1088 px", (1088, 1088)),
    Pass("1536 x 768 px", (1536, 768)),
    Pass("4 of 512 px", batch=4),
    Pass("512 px, one thread", threads=1),
    Pass("512 px, not channels-last", plain=True),
)


def opened(request: LoadRequest, form: str, *, plain: bool) -> Callable[[AnyArray], object]:
    """Load a network; `plain` for a script without bmz, in PyTorch's own layout."""
    if not plain:
        backend = open_backend(form, request)
        return lambda tile: backend.run([tile])
    script = torch.jit.load(str(request.path)).eval()

    def run(tile: AnyArray) -> object:
        with torch.inference_mode():
            return script(torch.from_numpy(tile.copy()))

    return run


def took_s(model: ModelSpec, request: LoadRequest, form: str, ways: list[Pass]) -> dict[str, float]:
    """Return the CPU time per megapixel in s for each way."""
    channels = model.inputs[0].channels or 1
    best = {way.what: np.inf for way in ways}
    for way in ways:
        run = opened(replace(request, threads=way.threads), form, plain=way.plain)
        tile = np.random.default_rng(0).random((way.batch, channels, *way.shape), np.float32)
        run(tile)
        for _ in range(ROUNDS):
            start = time.process_time()
            run(tile)
            took = (time.process_time() - start) / (tile.size / channels) * 1e6
            best[way.what] = min(best[way.what], took)
    return best


def rows(name: str, model: ModelSpec) -> Iterator[str]:
    """Yield the rows of a model, one for each framework and precision."""
    ids = tuple(tensor.id for tensor in model.inputs), tuple(t.id for t in model.outputs)
    for weights in model.weights:
        if weights.format not in ("onnx", "torchscript"):
            continue
        for backend, entry in backends(weights.format, "auto").items():
            precisions: list[Precision] = list(entry.weighed(CPU))
            for precision in precisions:
                request = LoadRequest(weights.file.path, *ids, precision=precision, backend=backend)
                ways = [way for way in PASSES if not way.plain or weights.format == "torchscript"]
                took = took_s(model, request, weights.format, ways)
                first = took[PASSES[0].what]
                cells = [
                    f"{took[w.what] / first:.2f}" if w.what in took else "" for w in PASSES[1:]
                ]
                what = f"{precision} by {backend or entry.module}"
                yield f"| {name} | {what} | {first:.2f} s | {' | '.join(cells)} |"


def main() -> None:
    """Measure, print, and write the table if requested."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--write", type=Path, help="page whose table is replaced")
    words = parser.parse_args()
    lines = [
        f"| network | framework | {' | '.join(way.what for way in PASSES)} |",
        "|---" * (len(PASSES) + 2) + "|",
    ]
    print(*lines, sep="\n")
    with tempfile.TemporaryDirectory() as folder:
        write_package(Path(folder) / "model")
        models = {
            "U-Net of 1.9 M parameters": str(Path(folder) / "model"),
            "starter/nuclei": "starter/nuclei",
        }
        for name, place in models.items():
            for line in rows(name, load_model(place)):
                print(line, flush=True)
                lines.append(line)
    if words.write:
        write_between(words.write, MARKS, "\n".join(lines))


if __name__ == "__main__":
    main()
