"""Measure how wide a halo must be, by tiled and untiled outputs of trained networks.

Two tiles along each axis overlap by exactly twice the halo; the largest difference of the first
output is printed. Repeat: ``python benchmarks/halo.py ../shared``.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from bmz.engine.known_tensors import KnownTensors
from bmz.engine.load import load_model
from bmz.engine.network_choice import open_network
from bmz.plan.geometry import output_rules
from bmz.plan.tiling import AxisTiling, Tiling
from bmz.predict.backend import Backend
from bmz.predict.cutting import Tensor
from bmz.predict.tiles import predict_tiled
from bmz.process.ops import apply_steps
from bmz.spec.model import ModelSpec

HALOS_PX = (16, 32, 48, 64)
MODELS = ("multi-tensor/torchscript", "cremi-membrane/onnx", "nuclei-broad/torchscript")
SIDE_PX = 512


def opened(model: ModelSpec, weights_format: str) -> Backend:
    """Open the weights of one format."""
    weights = next(w for w in model.weights if w.format == weights_format)
    return open_network(model, weights)


def two_tiles(halo: int) -> Tiling:
    """Cut `SIDE_PX` into two tiles along y and x that overlap by twice the halo."""
    half = SIDE_PX // 2
    tile = half + halo
    along = AxisTiling("y", SIDE_PX, tile, (0, SIDE_PX - tile), (0, half, SIDE_PX))
    return Tiling((along, replace(along, axis="x")))


def largest_difference(model: ModelSpec, backend: Backend, image: np.ndarray, halo: int) -> float:
    """Return the largest difference between the tiled and the untiled first output."""
    taken = {tensor.id: (image[None, None], tensor.letters) for tensor in model.inputs}
    inputs = [
        Tensor(*apply_steps(tensor.steps, *taken[tensor.id], references=taken))
        for tensor in model.inputs
    ]
    whole = backend.run([tensor.array for tensor in inputs])
    tiled = predict_tiled(backend, inputs, two_tiles(halo), output_rules(model))
    first = model.outputs[0]
    ours, theirs = (
        KnownTensors.of(model, taken, out).stepped(first.id, first.steps)[0]
        for out in (tiled, whole)
    )
    return float(np.abs(ours - theirs).max())


def main(shared: Path) -> None:
    """Print one row per model."""
    from bmz.image.inspect import inspect_image
    from bmz.image.region import read_image

    path = shared / "data" / "isbi2012" / "images" / "00.png"
    image = read_image(inspect_image(path)).array.astype(np.float32)[:SIDE_PX, :SIDE_PX]
    for name in MODELS:
        folder, weights_format = name.split("/")
        model = load_model(str(shared / "models" / folder))
        backend = opened(model, weights_format)
        found = [largest_difference(model, backend, image, halo) for halo in HALOS_PX]
        print(name, *(f"{halo} px {d:.1e}" for halo, d in zip(HALOS_PX, found, strict=True)))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared"))
