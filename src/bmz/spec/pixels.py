"""The pixel size that a description declares."""

from __future__ import annotations

from bmz.base.lengths import um_per
from bmz.spec.model import ModelSpec


def model_pixel_um(model: ModelSpec) -> dict[str, float]:
    """Give the pixel size in um that the inputs of a model declare, axis by axis.

    Without a unit a scale is a plain ratio between tensors, and no length.
    """
    sizes = {}
    for tensor in model.inputs:
        for axis in tensor.axes:
            length = um_per(axis.unit) if axis.unit else None
            if axis.kind == "space" and length is not None:
                sizes[axis.letter] = axis.scale * length
    return sizes
