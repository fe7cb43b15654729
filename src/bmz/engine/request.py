"""What ``bmz run`` is asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Literal

from bmz.base.axes import ChannelKey
from bmz.base.errors import BmzError
from bmz.base.values import dataclass
from bmz.plan.plan import Blocks
from bmz.spec.made_for import StatedKind
from bmz.write.outputs import CRATE, CSV, Made, default_kinds, kinds_to_write, saved_kinds
from bmz.write.result import IN_IMAGE

SCALES = (1e-3, 1e3)
"""Least and largest factor of a resize: beyond, nothing would be left or fit."""

CLIPS = (50, 100)
"""Least and largest percentile above which intensities are cut."""

PrecisionOption = Literal["auto", "float32", "bfloat16", "float16"]


def kinds_by_default(recipe: str | None) -> frozenset[str]:
    """Return the kinds of output where none are named: all that there are without labels.

    Parameters
    ----------
    recipe : of the labels; ``none`` for no labels
    """
    return frozenset({*saved_kinds()} - {CRATE} if recipe == "none" else default_kinds())


GRID, NONE = "grid", "none"
"""Words of ``--prompts`` that name no file: points of a grid, or the image alone."""

LATER = "later"
"""In place of prompts in a plan: the objects of a mask that a step of a chain has yet to make."""

WHOLE_IMAGES = {"bmz": False, "core": True}
"""Whether an engine takes images in one piece alone, by the name that ``--engine`` takes."""

WHOLE_PX = 2**30
"""A tile (px) that holds every image."""


@dataclass(frozen=True)
class RunRequest:
    """The options of one call of ``bmz run``.

    Parameters
    ----------
    model : see ``bmz.engine.load.load_model``
    images : files
    folder : for the outputs; made when it does not exist
    roots : folders that images were found in; outputs keep their structure
    absent : of `images` those that stand for words which lead to none, and why
    names : what the user called an image that is read under another path, such as its address
    device : ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``
    weights : a weights format; None to choose
    series : which images of a file that holds several, see `bmz.image.series.series_paths`
    axes : axes of the files, where the user states them
    channels : image channel for each model channel, its number or the name that the file gives it;
        -1 for zeros
    inputs : input of the model -> the file that fills it, see `bmz.engine.further_images`
    relations : what a label mask is to the labels, see `bmz.engine.relations` -> its file, or the
        step of a chain that made it, ``from:NAME``
    prompts : which objects a network is asked for: ``grid``, ``none`` for the image alone, or a
        file as in `relations`; None for a grid where it takes points, else the image alone
    before : step of a chain that was run before -> image -> its label mask
    pixel_um : the pixel size where the user states it, um
    scale : resize factor, ``auto`` or None for no resizing
    kind : what the images are where the user states it, over what their pixels tell
    clip : percentile above which intensities are cut; None for no cut
    invert : intensities are turned round, so that what is bright becomes dark
    recipe : name of a label recipe, ``none`` for no labels; None to choose by evidence
    settings : values of ``--set``
    link : axis (``z``, ``t``) -> least IoU of labels of neighbouring planes or frames that are
        joined; empty for none
    neighbours : what counts as a neighbour of an object, see `bmz.base.axes.Neighbourhood`; None
        for no columns of neighbours
    link_gap : planes or frames that a joined object may be missing in, 0 or 1
    tile, batch : wanted tile side (px) and tiles at once; None for those that suit the device
    precision : ``auto``, ``float32``, ``bfloat16`` or ``float16``
    backend : which framework runs the weights, see ``bmz.predict.formats.backends``
    save : kinds of output, see `bmz.write.outputs`; the run record is always written
    tables : formats of the tables, see `bmz.write.outputs`
    overlay : ``plain``, or ``numbers`` for pictures with the label on each object
    labels_format : ``tiff`` for OME-TIFF or ``zarr`` for OME-Zarr
    into_image : name of labels that each image, an OME-Zarr, gets within itself; None for none
    overwrite : existing outputs may be replaced
    resume : images whose outputs are there, made with the same options, are left out
    memory_gb : an image that would need more is run in parts; None for half of what is free
    blocks : sizes of the blocks of such an image
    workers : processes on this machine among which the images are distributed; 1 for this one
    scheduler : address of a Dask scheduler whose workers run the images, or the JSON file that
        it writes; None for none
    threads : of a network on a CPU; None for as many as there are processors
    flag_below : images whose mask is predicted to have a lower F1 are told; None to tell
        those that are likely wrong
    force : run despite findings of severity error
    engine : ``core`` lets bioimageio.core predict, the declared steps included
    trust : whether the model's own code may run in this call, sandboxed or with all rights
    """

    model: str
    images: tuple[Path, ...]
    folder: Path
    roots: tuple[Path, ...] = ()
    absent: Mapping[Path, BmzError] = field(default_factory=dict)
    names: Mapping[Path, str] = field(default_factory=dict)
    device: str = "auto"
    weights: str | None = None
    series: str = "all"
    axes: str | None = None
    channels: tuple[ChannelKey, ...] | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    relations: Mapping[str, str] = field(default_factory=dict)
    prompts: str | None = None
    before: Mapping[str, Mapping[Path, Path]] = field(default_factory=dict)
    pixel_um: Mapping[str, float] = field(default_factory=dict)
    scale: float | Literal["auto"] | None = None
    kind: StatedKind | None = None
    clip: float | None = None
    invert: bool = False
    recipe: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    link: Mapping[str, float] = field(default_factory=dict)
    link_gap: int = 0
    neighbours: str | None = None
    tile: int | None = None
    batch: int | None = None
    precision: PrecisionOption = "auto"
    backend: str = "auto"
    save: frozenset[str] = frozenset(default_kinds())
    tables: frozenset[str] = frozenset({CSV})
    overlay: Literal["plain", "numbers"] = "plain"
    labels_format: Literal["tiff", "zarr"] = "tiff"
    into_image: str | None = None
    overwrite: bool = False
    resume: bool = False
    memory_gb: float | None = None
    blocks: Blocks = field(default_factory=Blocks)
    workers: int = 1
    scheduler: str | None = None
    threads: int | None = None
    flag_below: float | None = None
    force: bool = False
    engine: Literal["bmz", "core"] = "bmz"
    trust: Literal["no", "confined", "unconfined"] = "no"

    def kinds(self, *, labels: bool = True, polygons: bool = True) -> tuple[str, ...]:
        """Return the kinds of output of the call; see `bmz.write.outputs.kinds_to_write`."""
        asked = self.save if self.into_image is None else {*self.save, IN_IMAGE}
        made = Made(labels=labels, polygons=polygons)
        return kinds_to_write(asked, made, joined=self.link, tables=self.tables)

    @property
    def keeps_raw(self) -> bool:
        """Whether the maps of the network are needed after the labels are made."""
        return "raw" in self.save

    @property
    def tile_px(self) -> int | None:
        """Side of tiles, px, as the engine takes them; None for those that suit the device."""
        return WHOLE_PX if WHOLE_IMAGES[self.engine] else self.tile


@dataclass(frozen=True)
class TrialOptions:
    """How ``bmz check --try`` tries a model.

    Parameters
    ----------
    pictures : folder for a picture of the worst crop of each image; None for none
    cure_s : for each image, no further cure is tried after this time, seconds
    """

    pictures: Path | None = None
    cure_s: float = 60.0
