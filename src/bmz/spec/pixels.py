"""The pixel size and the objects that a model was made for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bmz.base.lengths import um_per
from bmz.spec.facts import Fact, Facts, facts_of
from bmz.spec.model import ModelSpec


@dataclass(frozen=True)
class PixelSize:
    """How long a pixel of the images is that a model was made for.

    Parameters
    ----------
    um : along z, y, x, as far as it is known
    source : of a curated fact; empty when the description declares the size, or nobody knows it
    """

    um: Mapping[str, float] = field(default_factory=dict)
    source: str = ""


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


def known_pixel_size(model: ModelSpec) -> PixelSize:
    """Give the pixel size that the description declares, else the curated one."""
    declared = model_pixel_um(model)
    if declared:
        return PixelSize(declared)
    known = _facts(model).pixel_um
    return PixelSize() if known is None else PixelSize(known.value, known.source)


def known_diameter_px(model: ModelSpec) -> Fact[float] | None:
    """Give the diameter of the objects in px that the configuration states, else the curated one.

    ``config.bmz.object_diameter_px`` is our own addition to a description.
    """
    stated = model.ours.get("object_diameter_px")
    if isinstance(stated, int | float) and stated > 0:
        return Fact(stated, "")
    return _facts(model).object_diameter_px


def _facts(model: ModelSpec) -> Facts:
    found = facts_of(model.alias) if model.alias else None
    return found or Facts()
