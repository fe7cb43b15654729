"""Folders of StarDist with a ResNet or with classes, against the same layers computed by Keras."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bmz.base.arrays import AnyArray
from bmz.predict.checkpoints import CheckpointUnknown, keras_layers, read_checkpoint

torch = pytest.importorskip("torch")
h5py = pytest.importorskip("h5py")

RAYS, CLASSES, BASE = 8, 2, 4
RNG_SEED = 3


def convolution(before: int, after: int, side: int = 3, *, bias: bool = True) -> list[AnyArray]:
    rng = np.random.default_rng(before * 1000 + after * 10 + side)
    kernel = rng.normal(0, (side**3 * before) ** -0.5, (side,) * 3 + (before, after))
    return [a.astype(np.float32) for a in (kernel, *([rng.normal(0, 0.1, after)] * bias))]


def resnet_folder(folder: Path, *, normed: bool, classes: int, **more: object) -> Path:
    """Write a folder of stacks with three blocks on a grid of (1, 2, 2), as StarDist does."""
    config = {
        "n_dim": 3, "axes": "ZYXC", "n_channel_in": 1, "n_rays": RAYS, "grid": [1, 2, 2],
        "backbone": "resnet", "resnet_n_blocks": 3, "resnet_kernel_size": [3, 3, 3],
        "resnet_n_filter_base": BASE, "resnet_n_conv_per_block": 3, "resnet_activation": "relu",
        "resnet_batch_norm": normed, "net_conv_after_resnet": 6, "n_classes": classes or None,
    } | more  # fmt: skip
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    plain = [convolution(1, BASE, 7), convolution(BASE, BASE)]
    norms: list[list[AnyArray]] = []
    rng = np.random.default_rng(RNG_SEED)
    for before, after in ((BASE, 2 * BASE), (2 * BASE, 2 * BASE), (2 * BASE, 2 * BASE)):
        widths = (before, after, after, after)
        for first, second in pairwise(widths):
            plain.append(convolution(first, second, bias=not normed))
            if normed:
                norms.append([rng.uniform(0.5, 1.5, after).astype(np.float32) for _ in range(4)])
        if before != after:
            plain.append(convolution(before, after, 1, bias=not normed))
    # Keras counts layers without a name, and goes on from one network of a process to the next
    layers = {f"conv3d_{number + 5}": arrays for number, arrays in enumerate(plain)}
    layers |= {f"batch_normalization_{number + 8}": arrays for number, arrays in enumerate(norms)}
    width = 2 * BASE
    layers |= {"features": convolution(width, 6), "prob": convolution(6, 1, 1)}
    layers |= {"dist": convolution(6, RAYS, 1)}
    if classes:
        layers |= {"features_class": convolution(width, 6)}
        layers |= {"prob_class": convolution(6, classes + 1, 1)}
    with h5py.File(folder / "weights_best.h5", "w") as file:
        file.attrs["layer_names"] = sorted(layers)
        for name, arrays in layers.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{n}" for n in range(len(arrays))]
            for number, array in enumerate(arrays):
                group.create_dataset(f"{name}/{number}", data=array)
    return folder


def by_keras(folder: Path, x: AnyArray) -> AnyArray:
    """Compute (b, z, y, x, c) as stardist 0.9.2 and csbdeep 0.8.2 build it."""
    ops: Any = pytest.importorskip("keras").ops
    layers = keras_layers(folder / "weights_best.h5")
    counted = (layers[f"conv3d_{number}"] for number in range(5, 99))
    norms = (layers.get(f"batch_normalization_{number}") for number in range(8, 99))
    normed = "batch_normalization_8" in layers

    def convolved(at: Any, arrays: list[AnyArray], step: Any = 1) -> Any:
        at = ops.conv(at, arrays[0], strides=step, padding="same")
        return at + arrays[1] if len(arrays) > 1 else at

    def normalised(at: Any) -> Any:
        arrays = next(norms) if normed else None
        if arrays is None:
            return at
        gamma, beta, mean, var = arrays
        return (at - mean) / (var + 1e-3) ** 0.5 * gamma + beta

    at: Any = convolved(convolved(x, next(counted)), next(counted))
    for block in range(3):
        step = (1, 2, 2) if block == 0 else 1
        inner = ops.relu(normalised(convolved(at, next(counted), step)))
        inner = ops.relu(normalised(convolved(inner, next(counted))))
        inner = normalised(convolved(inner, next(counted)))
        across = convolved(at, next(counted), step) if block == 0 else at
        at = ops.relu(inner + across)
    own = ops.relu(convolved(at, layers["features"]))
    maps = [ops.sigmoid(convolved(own, layers["prob"])), convolved(own, layers["dist"])]
    if "prob_class" in layers:
        own = ops.relu(convolved(at, layers["features_class"]))
        maps.append(ops.softmax(convolved(own, layers["prob_class"]), axis=-1))
    return np.concatenate([np.asarray(ops.convert_to_numpy(one)) for one in maps], axis=-1)


@pytest.mark.parametrize(("normed", "classes"), [(False, 0), (True, CLASSES)])
def test_a_stack_network_of_stardist_with_a_resnet_gives_what_keras_computes(
    normed: bool, classes: int, tmp_path: Path
) -> None:
    folder = resnet_folder(tmp_path / "stars", normed=normed, classes=classes)
    x = np.random.default_rng(1).random((1, 6, 8, 12, 1), np.float32)

    checkpoint = read_checkpoint(folder)

    assert not isinstance(checkpoint.network, Path)
    maps = checkpoint.network(torch.tensor(np.moveaxis(x, -1, 1))).numpy()
    np.testing.assert_allclose(np.moveaxis(maps, 1, -1), by_keras(folder, x), rtol=1e-4, atol=1e-4)
    assert (checkpoint.step, checkpoint.grid, checkpoint.space) == (2, (1, 2, 2), "zyx")
    assert checkpoint.maps == 1 + RAYS + (classes + 1 if classes else 0)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"backbone": "transformer"}, "its backbone is 'transformer', but only unet and resnet"),
        ({"resnet_n_blocks": 0}, "is not supported"),
        ({"grid": [2, 2]}, "is not supported"),
        ({"resnet_batch_norm": True}, "they lack the batch normalisation of 'block_0_no_0'"),
        ({"resnet_n_blocks": 4}, "they lack the layer 'block_3_no_0'"),
    ],
)
def test_a_resnet_whose_weights_are_others_is_refused(
    more: dict[str, object], words: str, tmp_path: Path
) -> None:
    folder = resnet_folder(tmp_path / "stars", normed=False, classes=0, **more)

    with pytest.raises(CheckpointUnknown, match=words):
        read_checkpoint(folder)
