"""What a kind of output is, and what its writer reads of a run: parts of arrays, rows of tables."""

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
"""The kind that lies in the image: labels in an OME-Zarr, where ``--into-image`` names them."""


NUMBERS = "numbers"
"""The word of ``--overlay`` for pictures with the labels written on the objects."""


class LazyArray(Protocol):
    """An array with named axes of which parts are read."""

    @property
    def axes(self) -> str:
        """One letter per axis, of ``tczyx``."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes, px."""

    def __getitem__(self, box: tuple[slice, ...], /) -> AnyArray:
        """Return a part: one slice per axis."""


class LabelMask(LazyArray, Protocol):
    """Labels of which parts are read; axes of ``tzyx``."""

    @property
    def count(self) -> int:
        """The highest label."""


@dataclass(frozen=True)
class Region:
    """A part of a label mask with objects that lie in it as a whole, and no others.

    Parameters
    ----------
    labels : ((z,) y, x) integers, 0 background
    y, x : its first row and column in the image, px
    """

    labels: AnyArray
    y: int
    x: int


@dataclass(frozen=True)
class Overview:
    """One plane of an image with its labels, as small as a picture.

    Parameters
    ----------
    image : (c,) y, x, with the length of its pixels where that is known
    labels : y, x integers, 0 background, on the same grid
    kinds : (most + 1,) the number of the class of label k at k; None if there are no classes
    at : where several planes or frames are, its number along t and z, from 0, or ``max`` where
        they lie on each other, and how many there are
    """

    image: Pixels
    labels: Pixels
    kinds: AnyArray | None = None
    at: Mapping[str, tuple[int | str, int]] = field(default_factory=dict)


class Result(Protocol):
    """What a run made of one image, in memory or on the disk, as writers read it."""

    @property
    def labels(self) -> LabelMask | None:
        """The label mask; None without a recipe."""

    @property
    def image(self) -> ImageSource:
        """The image, of which regions are read."""

    @property
    def raw(self) -> LazyArray | None:
        """The maps of the network; None if they are not kept."""

    @property
    def pixel_um(self) -> Mapping[str, float]:
        """The length of a pixel of the image along z, y and x, um, where it is known."""

    @property
    def raw_um(self) -> Mapping[str, float]:
        """The same for the grid of the maps."""

    @property
    def record(self) -> Mapping[str, Any]:
        """Of the run, without its files; the options of the call are under ``request``."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Which model, image and program made the labels, as plain values."""

    def overview(self) -> Overview:
        """Return the plane with most objects; its longer side has at most 2048 px."""

    def overviews(self, longest_px: int, only: Mapping[str, int]) -> Iterable[Overview]:
        """Return all planes at these positions, the last axis the fastest, as small as pictures.

        Parameters
        ----------
        longest_px : their longer side has at most so many px
        only : position by axis; axes without an entry are taken whole
        """

    def rows(self, kind: str) -> Iterable[Mapping[str, AnyArray]]:
        """Return the tables that make up a table of this kind, one below the other."""

    def polygons(self) -> Iterable[tuple[Mapping[str, int], AnyArray, AnyArray]]:
        """Return the polygons by which the recipe found the objects, plane by plane.

        The position along t and z, the label of each, and their corners, (n, corners, 2) y and x
        in px, where the middle of the first pixel is 0.

        Raises
        ------
        PolygonsLacking
            The recipe has none.
        """

    def regions(self) -> Iterable[tuple[Mapping[str, int], Iterable[Region]]]:
        """Return for each table of the kind ``table`` where its objects lie.

        The position along t and z that they have in common, and the parts of the mask, whose axes
        are those that are left.
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
    """Return the objects that the record of a run doubts."""
    return frozenset(entry["label"] for entry in record.get("doubted", ()))


@dataclass(frozen=True)
class OutputKind:
    """One kind of output.

    Parameters
    ----------
    ending : of its file, after the stem of the image
    write : takes the result and the path; it need not be atomic, for the engine moves all files
        of an image to their names when they are whole. Parts of a large image are all that it may
        hold at once
    needs_labels : there is none without a label recipe
    by_default : it is written when ``--save`` is not given
    with_kind : it is written with this kind, and cannot be named itself
    joined_over : there is one only where labels are joined over this axis
    is_image : it is an image of another kind, which could be mistaken for a label mask
    in_image : it lies in the image itself, and is written where a call names it
    needs_polygons : there is none where the objects of the recipe have no polygons
    zarr_ending : of the folder where it is written as OME-Zarr; empty if it never is
    package : that must be installed; empty if bmz brings what it needs
    measures : it tells what is measured of objects, as tables do
    table_format : of `bmz.write.outputs` for a table of objects, which is written where
        ``--table`` names it; those of several images are joined. Empty for what is not a table
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
