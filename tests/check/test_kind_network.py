"""The network that the classifier of kinds looks through, run by NumPy alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from bmz.base.arrays import FloatArray
from bmz.check import kind_network
from bmz.check.kind_network import Block, layers_of, layers_run_by, network_features

if TYPE_CHECKING:
    from torch import Tensor

torch = pytest.importorskip("torch")
nn = pytest.importorskip("torch.nn.functional")


def _same(image: Tensor, weights: Tensor, stride: int, groups: int) -> Tensor:
    """Convolve with the zeros of TensorFlow's "SAME": an odd one goes to the end."""
    kernel = weights.shape[-1]
    pads = [max(0, (-(-n // stride) - 1) * stride + kernel - n) for n in reversed(image.shape[2:])]
    padded = nn.pad(image, [part for n in pads for part in (n // 2, n - n // 2)])
    found: Tensor = nn.conv2d(padded, weights, stride=stride, groups=groups)
    return found


def _by_torch(block: Block, image: FloatArray) -> FloatArray:
    assert block.expand is not None
    values = torch.tensor(image).permute(2, 0, 1)[None]
    wide = torch.tensor(block.expand[0].T)[:, :, None, None]
    values = (nn.conv2d(values, wide) + torch.tensor(block.expand[1])[:, None, None]).clip(0, 6)
    deep = torch.tensor(block.depthwise[0]).permute(2, 0, 1)[:, None]
    values = _same(values, deep, block.stride, len(deep))
    values = (values + torch.tensor(block.depthwise[1])[:, None, None]).clip(0, 6)
    narrow = torch.tensor(block.project[0].T)[:, :, None, None]
    out = nn.conv2d(values, narrow) + torch.tensor(block.project[1])[:, None, None]
    given: FloatArray = out[0].permute(1, 2, 0).numpy()
    return given


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
@pytest.mark.parametrize("sides", [(16, 32), (13, 10)])
def test_a_block_gives_what_torch_gives(kernel: int, stride: int, sides: tuple[int, int]) -> None:
    chance = np.random.default_rng(kernel + stride)

    def normal(*shape: int) -> FloatArray:
        return chance.normal(0, 0.5, shape).astype(np.float32)

    block = Block(
        (normal(4, 9), normal(9)),
        (normal(kernel, kernel, 9), normal(9)),
        (normal(9, 6), normal(6)),
        stride,
        is_told=True,
    )
    image = normal(*sides, 4)

    assert np.allclose(block.output(image), _by_torch(block, image), atol=1e-4)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 2)])
def test_a_block_gives_the_same_row_by_row(
    kernel: int, stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, blocks = kind_network._stem_and_blocks()
    block = next(b for b in blocks if (len(b.depthwise[0]), b.stride) == (kernel, stride))
    channels = len(block.expand[0]) if block.expand else block.depthwise[0].shape[-1]
    image = np.random.default_rng(0).normal(size=(11, 14, channels)).astype(np.float32)
    whole = block.output(image)
    monkeypatch.setattr(kind_network, "CACHED", 1)

    assert np.allclose(block.output(image), whole, atol=1e-5)


def test_a_block_that_keeps_the_shape_adds_to_its_input() -> None:
    silent = (np.zeros((4, 4), np.float32), np.zeros(4, np.float32))
    block = Block(None, (np.ones((3, 3, 4), np.float32), silent[1]), silent, 1, is_told=False)
    image = np.random.default_rng(0).normal(size=(8, 8, 4)).astype(np.float32)

    assert np.array_equal(block.output(image), image)


def test_a_grey_image_is_seen_as_one_of_equal_colours() -> None:
    grey = np.random.default_rng(1).random((70, 90)).astype(np.float32)
    colours = np.repeat(grey[..., None], 3, axis=-1)

    assert np.allclose(network_features(grey), network_features(colours), atol=1e-5)


@pytest.mark.parametrize("sides", [(12, 12), (12, 900), (1024, 1024), (333, 250)])
def test_an_image_of_any_sides_gives_as_many_finite_numbers(sides: tuple[int, int]) -> None:
    image = np.random.default_rng(2).random(sides).astype(np.float32)

    row = network_features(image)

    assert row.shape == (464,)
    assert np.isfinite(row).all()


def test_an_enlarged_image_looks_nearly_the_same() -> None:
    y, x = np.mgrid[:96, :96]
    image = (0.5 + 0.5 * np.sin(x / 7) * np.cos(y / 5)).astype(np.float32)
    large = np.kron(image, np.ones((4, 4), np.float32))
    noise = np.random.default_rng(3).random((96, 96)).astype(np.float32)

    row = network_features(image)

    far = np.linalg.norm(row - network_features(large))
    assert far < 0.5 * np.linalg.norm(row - network_features(noise))


@pytest.mark.parametrize("shape", [(256, 256), (70, 300, 3), (12, 900), (333, 250, 3)])
def test_onnxruntime_sees_in_an_image_what_numpy_sees(shape: tuple[int, ...]) -> None:
    pytest.importorskip("onnxruntime")
    from bmz.predict.onnx import LayersInOnnxruntime

    image = np.random.default_rng(4).random(shape).astype(np.float32)
    by_numpy = network_features(image)

    with layers_run_by(LayersInOnnxruntime()):
        row = network_features(image)

    assert not np.array_equal(row, by_numpy)  # it was another one
    assert np.allclose(row, by_numpy, atol=1e-5)


def test_another_runner_sees_images_only_while_its_block_runs() -> None:
    image = np.random.default_rng(5).random((40, 40)).astype(np.float32)
    by_numpy = network_features(image)

    with layers_run_by(lambda values: [0 * told for told in layers_of(1).run(values)]):
        blind = network_features(image)

    assert not blind.any()
    assert np.array_equal(network_features(image), by_numpy)
