"""The pixel size and the objects that a model was made for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bmz.base.lengths import um_per
from bmz.spec.facts import Fact, Facts, facts_of
from bmz.spec.model import ModelSpec


@dataclass(frozen=True)
class PixelSize:
    """The pixel size of the images that a model was made for.

    Parameters
    ----------
    um : size in um along z, y, x, as far as it is known
    source : source of a curated fact; empty if the description declares the size, or it is unknown
    """

    um: Mapping[str, float] = field(default_factory=dict)
    source: str = ""


def model_pixel_um(model: ModelSpec) -> dict[str, float]:
    """Return the pixel size in um that the inputs of a model declare, by axis.

    Without a unit, a scale is a ratio between tensors, and not a length.
    """
    sizes = {}
    for tensor in model.inputs:
        for axis in tensor.axes:
            length = um_per(axis.unit) if axis.unit else None
            if axis.kind == "space" and length is not None:
                sizes[axis.letter] = axis.scale * length
    return sizes


def known_pixel_size(model: ModelSpec) -> PixelSize:
    """Return the pixel size that the description declares, else the curated one."""
    declared = model_pixel_um(model)
    if declared:
        return PixelSize(declared)
    known = _facts(model).pixel_um
    return PixelSize() if known is None else PixelSize(known.value, known.source)


def known_diameter_px(model: ModelSpec) -> Fact[float] | None:
    """Return the diameter of objects in px that the configuration states, else the curated one.

    ``config.bmz.object_diameter_px`` is an addition of bmz to a description.
    """
    stated = model.ours.get("object_diameter_px")
    if isinstance(stated, int | float) and stated > 0:
        return Fact(stated, "")
    return _facts(model).object_diameter_px


def _facts(model: ModelSpec) -> Facts:
    facts = facts_of(model.alias) if model.alias else None
    return facts or Facts()
