"""Compare ways of padding an image by the outputs near its border.

The centre of a large image is cropped. The network runs on the crop as it is, and with a margin of
its halo on every side: mirrored, zeros after the declared preprocessing, or the lowest value of the
image. The output is compared with that of the large image, which has real pixels beyond the border.
The mean difference of the first output within half a halo of the border is printed. Repeat:
``python benchmarks/borders.py ../shared``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from bmz.engine.load import load_model
from bmz.engine.network_choice import open_network
from bmz.predict.backend import Backend
from bmz.process.ops import apply_steps
from bmz.spec.model import ModelSpec

NUCLEI = "neubias/xy_16bit_calibrated__nuclei_various_shapes.tif"

MODELS = {
    "cremi-membrane/onnx": ("isbi2012/images/00.png", "isbi2012/images/15.png"),
    "unmicst-nuclei/tensorflow_saved_model_bundle": ("stardist/img2d.tif", NUCLEI),
    "multi-tensor/onnx": ("isbi2012/images/00.png", "isbi2012/images/15.png"),
}
"""Networks that accept many sizes, with images whose centre also has an allowed size."""

STEP_PX = 32
"""All of these networks accept multiples of it."""

PADDINGS = ("as it is", "reflect", "constant", "lowest")


def prepared(model: ModelSpec, image: np.ndarray) -> list[np.ndarray]:
    """Return the inputs (channels last) that result from preprocessing an image (y, x)."""
    arrays = []
    for tensor in model.inputs:
        start = image[None, ..., None].repeat(tensor.channels or 1, axis=-1)
        array, axes = apply_steps(tensor.steps, start.astype(np.float32), "byxc")
        arrays.append(np.moveaxis(array, [axes.index(a) for a in "byxc"], range(4)))
    return arrays


def output(model: ModelSpec, backend: Backend, arrays: list[np.ndarray]) -> np.ndarray:
    """Return the first output (y, x, c) after the declared postprocessing."""
    inputs = [
        np.ascontiguousarray(np.moveaxis(array, range(4), [t.letters.index(a) for a in "byxc"]))
        for array, t in zip(arrays, model.inputs, strict=True)
    ]
    found = backend.run(inputs)[0]
    letters = model.outputs[0].letters
    return np.moveaxis(found, [letters.index(a) for a in "byxc"], range(4))[0]


def padded(array: np.ndarray, margin: int, padding: str) -> np.ndarray:
    """Add a margin along y and x."""
    width = ((0, 0), (margin, margin), (margin, margin), (0, 0))
    if padding == "reflect":
        return np.pad(array, width, mode="reflect")
    return np.pad(array, width, constant_values=array.min() if padding == "lowest" else 0)


def differences(model: ModelSpec, backend: Backend, image: np.ndarray, halo: int) -> list[float]:
    """Return the mean difference within half a halo of the border of the crop for each padding."""
    size = min(image.shape) // STEP_PX * STEP_PX
    edge = -(-halo // STEP_PX) * STEP_PX
    whole = prepared(model, image[:size, :size])
    inside = slice(edge, size - edge)
    truth = output(model, backend, whole)[inside, inside]
    strip = np.ones(truth.shape[:2], bool)
    strip[halo // 2 : -(halo // 2), halo // 2 : -(halo // 2)] = False
    found = []
    for padding in PADDINGS:
        crop = [array[:, inside, inside] for array in whole]
        margin = 0 if padding == "as it is" else edge
        if margin:
            crop = [padded(array, margin, padding) for array in crop]
        ours = output(model, backend, crop)
        ours = ours[margin : ours.shape[0] - margin, margin : ours.shape[1] - margin]
        found.append(float(np.abs(ours - truth)[strip].mean()))
    return found


def main(shared: Path) -> None:
    """Print one row for each network and image."""
    from bmz.image.inspect import inspect_image
    from bmz.image.region import read_image

    print(f"{'network':<16}{'image':<24}{'halo':>5}", *(f"{name:>10}" for name in PADDINGS))
    for name, images in MODELS.items():
        folder, weights_format = name.split("/")
        model = load_model(str(shared / "models" / folder))
        weights = next(w for w in model.weights if w.format == weights_format)
        backend = open_network(model, weights)
        halo = max(axis.halo or 0 for tensor in model.outputs for axis in tensor.axes) or 48
        for path in images:
            image = np.squeeze(read_image(inspect_image(shared / "data" / path)).array)
            found = differences(model, backend, image, halo)
            print(f"{folder:<16}{path:<24}{halo:>5}", *(f"{value:>10.4f}" for value in found))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared"))
