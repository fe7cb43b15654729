"""Real networks reproduce their own test output, whole and in tiles, in each format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bmz.base.arrays import AnyArray, FloatArray
from bmz.plan.tiling import AxisRule, OutputRule, plan_tiles
from bmz.predict.backend import Backend, LoadRequest
from bmz.predict.cutting import Tensor
from bmz.predict.formats import open_backend
from bmz.predict.tiles import predict_tiled
from bmz.testing.backend import BackendContract

ONNX, TORCH = ("onnx", "weights.onnx"), ("torchscript", "weights.pt")
FRAMEWORKS = {"onnx": "onnxruntime", "torchscript": "torch"}


def normalised(image: AnyArray) -> FloatArray:
    """Give zero mean and unit variance, as all three models declare it."""
    image = image.astype(np.float64)
    scaled: FloatArray = ((image - image.mean()) / (image.std() + 1e-6)).astype(np.float32)
    return scaled


def opened(folder: Path, weights: tuple[str, str], inputs: int = 1, outputs: int = 1) -> Backend:
    pytest.importorskip(FRAMEWORKS[weights[0]])
    input_ids = tuple(f"input{i}" for i in range(inputs))
    output_ids = tuple(f"output{i}" for i in range(outputs))
    return open_backend(weights[0], LoadRequest(folder / weights[1], input_ids, output_ids))


@pytest.mark.parametrize("weights", [ONNX, TORCH], ids=FRAMEWORKS)
def test_nuclei_broad_reproduces_its_test_output(shared: Path, weights: tuple[str, str]) -> None:
    folder = shared / "models" / "nuclei-broad"
    image = normalised(np.load(folder / "test_input.npy"))

    (logits,) = opened(folder, weights).run([image])

    foreground = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(foreground, np.load(folder / "test_output.npy"), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "weights", [ONNX, ("torchscript", "weights_torchscript_traced.pt")], ids=FRAMEWORKS
)
def test_multi_tensor_reproduces_both_outputs(shared: Path, weights: tuple[str, str]) -> None:
    folder = shared / "models" / "multi-tensor"
    inputs = [normalised(np.load(folder / f"test_input_{i}.npy")) for i in (0, 1)]

    found = opened(folder, weights, 2, 2).run(inputs)

    for i, array in enumerate(found):
        wanted = np.load(folder / f"test_output_{i}.npy")
        np.testing.assert_allclose(array, wanted, rtol=0, atol=1e-5)


def test_multi_tensor_in_tiles_equals_the_whole(shared: Path) -> None:
    folder = shared / "models" / "multi-tensor"
    inputs = [Tensor(normalised(np.load(folder / f"test_input_{i}.npy")), "bcyx") for i in (0, 1)]
    backend = opened(folder, ONNX, 2, 2)
    rules = [AxisRule(axis, 32, 16, 56) for axis in "yx"]
    tiling = plan_tiles({"y": 256, "x": 256}, rules, side=192)

    found = predict_tiled(backend, inputs, tiling, [OutputRule("bcyx")] * 2, batch=2)

    assert tiling.count == 4
    for tiled, whole in zip(found, backend.run([t.array for t in inputs]), strict=True):
        np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-5)


def test_cremi_membrane_in_tiles_with_its_halo_equals_the_whole(shared: Path) -> None:
    folder = shared / "models" / "cremi-membrane"
    image = normalised(np.load(folder / "test_input.npy"))
    backend = opened(folder, ONNX)
    rules = [AxisRule(axis, 160, 32, 72) for axis in "yx"]
    tiling = plan_tiles({"y": 320, "x": 320}, rules, side=256)

    (tiled,) = predict_tiled(
        backend, [Tensor(image, "bcyx")], tiling, [OutputRule("bcyx")], batch=2
    )

    (whole,) = backend.run([image])
    assert tiling.count == 4
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-5)
    np.testing.assert_allclose(tiled, np.load(folder / "test_output.npy"), rtol=0, atol=1e-4)


class TestCremiMembrane(BackendContract):
    @pytest.fixture(autouse=True)
    def _folder(self, shared: Path) -> None:
        self.folder = shared / "models" / "cremi-membrane"

    def backend(self) -> Backend:
        return opened(self.folder, ONNX)

    def inputs(self) -> list[AnyArray]:
        return [np.random.default_rng(0).random((2, 1, 160, 160), np.float32)]
