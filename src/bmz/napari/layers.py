"""Convert images, labels and tables to napari layers, and layers to input of the Python API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import IMAGE_AXES, SPACE, um_per
from bmz.base.errors import WrongUsage
from bmz.base.values import dataclass
from bmz.image.pixels import Pixels, to_xarray

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

LayerTuple: TypeAlias = tuple[AnyArray, dict[str, Any], str]
"""Data, keyword arguments and type of a layer, as napari readers return them."""

_PIXEL = "pixel"


class ImageLayer(Protocol):
    """The attributes of a napari image layer that are used here."""

    name: str
    data: Any
    rgb: bool
    multiscale: bool
    scale: Sequence[float]
    translate: Sequence[float]
    units: Sequence[object]
    axis_labels: Sequence[str]


class LayersDiffer(WrongUsage):
    """Layers that should be channels of one image have different shapes."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        named = ", ".join(
            f"'{name}' {' x '.join(map(str, shape))}" for name, shape in shapes.items()
        )
        super().__init__(
            f"the selected layers have different shapes: {named}",
            hint="select one layer, or layers that are the channels of one image",
            code="napari.layers-differ",
        )


@dataclass(frozen=True)
class Placement:
    """The position of the pixels of a layer in world coordinates.

    Parameters
    ----------
    axes : letters of ``tzyx``, one for each axis of the data
    scale, translate : scale and offset of each axis, in its unit
    units : unit of each axis, such as ``um``
    """

    axes: str
    scale: Mapping[str, float]
    translate: Mapping[str, float]
    units: Mapping[str, str]

    @classmethod
    def of_pixels(cls, axes: str, pixel_um: Mapping[str, float]) -> Placement:
        """Place an image by its pixel size in um; an axis without one is in pixels."""
        lengths = {axis: pixel_um.get(axis, 1.0) for axis in axes}
        units = {axis: "um" if axis in pixel_um else _PIXEL for axis in axes}
        return cls(axes, lengths, dict.fromkeys(axes, 0.0), units)

    @property
    def pixel_um(self) -> dict[str, float]:
        """The pixel size in um of the spatial axes whose unit is a length."""
        factors = {axis: um_per(self.units[axis]) for axis in self.axes if axis in SPACE}
        return {a: self.scale[a] * factor for a, factor in factors.items() if factor is not None}

    def keywords(self, axes: Sequence[str]) -> dict[str, Any]:
        """Return the keyword arguments for a layer with some of these axes."""
        return {
            "scale": tuple(self.scale[axis] for axis in axes),
            "translate": tuple(self.translate[axis] for axis in axes),
            "units": tuple(self.units[axis] for axis in axes),
            "axis_labels": tuple(axes),
        }


def image_layer(pixels: Pixels, name: str) -> LayerTuple:
    """Return an image as a layer, which napari splits by channel unless it is a photograph.

    Parameters
    ----------
    pixels : image with the axes ``tczyx``
    """
    axes = [axis for axis in pixels.axes if axis != "c"]
    keywords = Placement.of_pixels("".join(axes), pixels.pixel_um).keywords(axes)
    if "c" not in pixels.axes:
        return pixels.array, {"name": name, **keywords}, "image"
    along = pixels.axes.index("c")
    if pixels.colour:
        colours = np.moveaxis(pixels.array, along, -1)
        return colours, {"name": name, "rgb": True, **keywords}, "image"
    count = pixels.array.shape[along]
    names = pixels.channel_names or [f"channel {number}" for number in range(count)]
    called = [f"{name} {channel}" for channel in names]
    return pixels.array, {"name": called, "channel_axis": along, **keywords}, "image"


def labels_layer(
    labels: AnyArray, placement: Placement, name: str, tables: Mapping[str, pd.DataFrame]
) -> LayerTuple:
    """Return a label mask as a layer, with a row of features for each label.

    The features are those of the object. If frames are joined, they are those of the track, since
    an object has one row per frame. All tables are in the metadata.

    Parameters
    ----------
    labels : label mask with the axes of `placement`
    tables : kind (``table``, ``planes``, ``tracks``) -> its rows; the first has a column ``label``,
        the last a column ``track``, which is also the label
    """
    keywords = {"name": name, **placement.keywords(placement.axes)}
    for kind, number in (("tracks", "track"), ("table", "label")):
        if kind in tables:
            features = tables[kind].copy()
            features.insert(0, "index", features[number])  # napari finds a label's row by it
            keywords["features"] = features
            break
    return labels, {**keywords, "metadata": {"bmz": dict(tables)}}, "labels"


def placement_of(layer: ImageLayer, axes: str) -> Placement:
    """Return the placement of an image layer.

    Parameters
    ----------
    axes : letters of its axes as the user states them; empty to use the layer's own axis names
    """
    ndim = len(layer.scale)
    letters = axes or _own_axes(layer, ndim)
    if len(letters) != ndim or not set(letters) <= set(IMAGE_AXES) - {"c"}:
        letters = ""
    return Placement(
        letters,
        dict(zip(letters, map(float, layer.scale), strict=False)),
        dict(zip(letters, map(float, layer.translate), strict=False)),
        dict(zip(letters, map(str, layer.units), strict=False)),
    )


def _own_axes(layer: ImageLayer, ndim: int) -> str:
    labels = tuple(map(str, layer.axis_labels))
    if set(labels) <= set(IMAGE_AXES) and len(set(labels)) == ndim:
        return "".join(labels)
    return "yx" if ndim == len("yx") else ""


def image_of(layers: Sequence[ImageLayer], placement: Placement) -> AnyArray | xr.DataArray:
    """Return image layers as one image; several layers become its channels, in order.

    Parameters
    ----------
    layers : napari layers of the same shape
    placement : placement of the first layer

    Returns
    -------
    array
        a DataArray with named axes and lengths; a plain array if the axes are unknown, which the
        check reports

    Raises
    ------
    LayersDiffer
        The layers have different shapes.
    """
    arrays = {one.name: np.asarray(one.data[0] if one.multiscale else one.data) for one in layers}
    first, *others = arrays.values()
    if any(other.shape != first.shape for other in others):
        raise LayersDiffer({name: array.shape for name, array in arrays.items()})
    axes: tuple[str, ...] = tuple(placement.axes)
    names: tuple[str, ...] = ()
    if layers[0].rgb:
        first, axes = first[..., :3], (*axes, "c")  # a fourth channel is the opacity
    elif others:
        first, axes, names = np.stack([first, *others]), ("c", *axes), tuple(arrays)
    if not placement.axes:
        return first
    return to_xarray(Pixels(first, axes, placement.pixel_um, names, layers[0].rgb))
