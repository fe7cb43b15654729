"""The definition of a kind of output, and the interface through which writers read a result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bmz.base.errors import WrongUsage
from bmz.base.values import dataclass

if TYPE_CHECKING:
    from bmz.base.arrays import AnyArray
    from bmz.image.pixels import Pixels
    from bmz.image.region import ImageSource


IN_IMAGE = "into-image"
"""The kind that is written into the image: labels in an OME-Zarr, as ``--into-image`` asks."""


NUMBERS = "numbers"
"""Value of ``--overlay`` for pictures with the labels written on the objects."""


class LazyArray(Protocol):
    """An array with named axes that is read part by part."""

    @property
    def axes(self) -> str:
        """One letter of ``tczyx`` per axis."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, px."""

    def __getitem__(self, box: tuple[slice, ...], /) -> AnyArray:
        """Return the part given by one slice per axis."""


class LabelMask(LazyArray, Protocol):
    """Labels that are read part by part, with axes of ``tzyx``."""

    @property
    def count(self) -> int:
        """The highest label."""


@dataclass(frozen=True)
class Region:
    """A part of a label mask that contains only complete objects.

    Parameters
    ----------
    labels : ((z,) y, x) integers, 0 background
    y, x : first row and column of the part in the image, px
    """

    labels: AnyArray
    y: int
    x: int


@dataclass(frozen=True)
class Overview:
    """One plane of an image with its labels, reduced to the size of a picture.

    Parameters
    ----------
    image : (c,) y, x, with the pixel size if it is known
    labels : y, x integers, 0 background, on the same grid
    kinds : (highest label + 1,) class number of label k at k; None if there are no classes
    at : for axes t and z with several positions, the position, from 0, or ``max`` for a maximum
        projection, and the number of positions
    """

    image: Pixels
    labels: Pixels
    kinds: AnyArray | None = None
    at: Mapping[str, tuple[int | str, int]] = field(default_factory=dict)


class Result(Protocol):
    """The result of a run for one image, in memory or on disk, as writers read it."""

    @property
    def labels(self) -> LabelMask | None:
        """The label mask; None without a recipe."""

    @property
    def image(self) -> ImageSource:
        """The image, which is read region by region."""

    @property
    def raw(self) -> LazyArray | None:
        """The raw output of the network; None if it is not kept."""

    @property
    def pixel_um(self) -> Mapping[str, float]:
        """The pixel size of the image in um along z, y and x, where known."""

    @property
    def raw_um(self) -> Mapping[str, float]:
        """The pixel size of the raw output in um along z, y and x, where known."""

    @property
    def record(self) -> Mapping[str, Any]:
        """The record of the run without its files; the options are under ``request``."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The model, image and program that produced the labels, as plain values."""

    def overview(self) -> Overview:
        """Return the plane with the most objects; its longer side has at most 2048 px."""

    def overviews(self, longest_px: int, only: Mapping[str, int]) -> Iterable[Overview]:
        """Return all planes at the given positions, with the last axis varying fastest.

        Parameters
        ----------
        longest_px : maximum of the longer side of a plane, to which it is reduced
        only : axis -> position; axes without an entry are taken whole
        """

    def rows(self, kind: str) -> Iterable[Mapping[str, AnyArray]]:
        """Return the parts of a table of this kind, to be concatenated by rows."""

    def polygons(self) -> Iterable[tuple[Mapping[str, int], AnyArray, AnyArray]]:
        """Return the polygons by which the recipe found the objects, plane by plane.

        For each plane, these are its position along t and z, the labels, and the corners:
        (n, corners, 2) y and x in px, where the centre of the first pixel is 0.

        Raises
        ------
        PolygonsLacking
            The recipe does not produce polygons.
        """

    def regions(self) -> Iterable[tuple[Mapping[str, int], Iterable[Region]]]:
        """Return the regions of the objects of each part of the kind ``table``.

        For each part, these are the position along t and z that its objects share, and the regions
        of the mask, with the remaining axes.
        """


class PolygonsLacking(WrongUsage):
    """The objects have no polygons."""

    def __init__(self) -> None:
        super().__init__(
            "--save rois:subpixel needs objects that were found as polygons, such as those of "
            "the recipe stardist in 2-D",
            hint="--save rois writes outlines along pixel edges for every recipe",
            code="rois.no-polygons",
        )


def doubted_labels(record: Mapping[str, Any]) -> frozenset[int]:
    """Return the labels that the record of a run lists as doubtful."""
    return frozenset(entry["label"] for entry in record.get("doubted", ()))


@dataclass(frozen=True)
class OutputKind:
    """One kind of output.

    Parameters
    ----------
    ending : suffix of its file, after the stem of the image
    write : takes the result and the path; it need not be atomic, because the engine moves all
        files of an image to their final names once they are complete. It must not hold more than
        parts of a large image in memory
    needs_labels : whether it exists only with a label recipe
    by_default : whether it is written if ``--save`` is not given
    with_kind : kind together with which it is written; it cannot then be named itself
    joined_over : axis along which labels must be joined for it to exist
    is_image : whether it is an image that could be mistaken for a label mask
    in_image : whether it is written into the image itself, to a place that the call names
    needs_polygons : whether it exists only if the objects of the recipe have polygons
    zarr_ending : suffix of its folder as OME-Zarr; empty if it is never written as such
    package : package that must be installed; empty if bmz already depends on it
    measures : whether it contains measurements of objects, as tables do
    table_format : name of its format in `bmz.write.outputs` if it is a table of objects, which is
        written if ``--table`` names it, and joined for several images; otherwise empty
    """

    ending: str
    write: Callable[[Result, Path], None]
    needs_labels: bool = True
    by_default: bool = True
    with_kind: str = ""
    joined_over: str = ""
    is_image: bool = False
    in_image: bool = False
    needs_polygons: bool = False
    zarr_ending: str = ""
    table_format: str = ""
    package: str = ""
    measures: bool = False
