"""Models, images and pixels of which the tests of this room ask whether they fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bmz.image.info import ImageInfo
from bmz.image.pixels import Pixels
from bmz.spec.model import AxisSpec, Fixed, ModelSpec, Size, Stepped, TensorSpec

SIXTEENS = Stepped(16, 16)


def tensor(
    *,
    name: str = "raw",
    channels: tuple[str, ...] = ("nuclei",),
    space: str = "yx",
    size: Size = SIXTEENS,
    dtype: str = "float32",
    value_range: tuple[float | None, float | None] = (None, None),
    um: float | None = None,
    optional: bool = False,
) -> TensorSpec:
    unit = None if um is None else "micrometer"
    axes = (
        AxisSpec("b", "batch", Fixed(1)),
        AxisSpec("c", "channel", Fixed(len(channels)), names=channels),
        *(AxisSpec(a, "space", size, scale=um or 1.0, unit=unit) for a in space),
    )
    return TensorSpec(name, axes, dtype, value_range=value_range, optional=optional)


def network(*inputs: TensorSpec, **more: Any) -> ModelSpec:
    return ModelSpec("m", "M", Path(), "0" * 64, "0.5.4", inputs, (), (), **more)


def model(*, tags: tuple[str, ...] = (), **words: Any) -> ModelSpec:
    return network(tensor(**words), tags=tags)


def image(axes: str = "yx", shape: tuple[int, ...] = (64, 64), **more: Any) -> ImageInfo:
    return ImageInfo(Path("a.tif"), axes, shape, np.dtype(more.pop("dtype", "float32")), **more)


def pixels(info: ImageInfo, values: Any = None) -> Pixels:
    if values is None:
        values = np.random.default_rng(0).random(info.shape) * 200
    array = np.broadcast_to(np.asarray(values), info.shape).astype(info.dtype)
    return Pixels(array, tuple(info.axes))
