"""The options of ``bmz run`` and of ``bmz check --try``."""

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
"""Minimum and maximum resize factor; beyond, nothing would be left or fit into memory."""

CLIPS = (50, 100)
"""Minimum and maximum percentile at which intensities are clipped."""

PrecisionOption = Literal["auto", "float32", "bfloat16", "float16"]


def kinds_by_default(recipe: str | None) -> frozenset[str]:
    """Return the default kinds of output; without labels, all that remain possible.

    Parameters
    ----------
    recipe : the label recipe; ``none`` for no labels
    """
    return frozenset({*saved_kinds()} - {CRATE} if recipe == "none" else default_kinds())


GRID, NONE = "grid", "none"
"""Values of ``--prompts`` that name no file: points of a grid, or only the image."""

LATER = "later"
"""Placeholder for prompts in a plan: the objects of a mask that a chain step has yet to make."""

WHOLE_IMAGES = {"bmz": False, "core": True}
"""Value of ``--engine`` -> whether the engine only accepts images in one piece."""

WHOLE_PX = 2**30
"""Side of a tile that contains any image, px."""


@dataclass(frozen=True)
class RunRequest:
    """The options of one call of ``bmz run``.

    Parameters
    ----------
    model : the model, in any form that ``bmz.engine.load.load_model`` accepts
    images : files to run
    folder : output folder, created if it does not exist
    roots : folders in which images were found; outputs keep their structure
    absent : entries of `images` that lead to no image, and the reason
    names : user's name for an image that is read from another path, such as its address
    device : ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``
    weights : a weights format; None to choose
    series : which images of a file with several to run, as in `bmz.image.series.series_paths`
    axes : axes of the files; None if the user does not state them
    channels : image channel for each model channel, by number or by its name in the file; -1 for
        zeros
    inputs : input of the model -> the file that fills it, see `bmz.engine.further_images`
    relations : relation of a label mask to the labels, see `bmz.engine.relations` -> its file, or
        the chain step that made it, ``from:NAME``
    prompts : objects to prompt the network for: ``grid``, ``none`` for only the image, or a file
        as in `relations`; None for a grid if it accepts points, else for only the image
    before : earlier step of a chain -> image -> its label mask
    pixel_um : the pixel size, if the user states it, um
    scale : resize factor, ``auto`` or None for no resizing
    kind : kind of the images, if the user states it; overrides what their pixels suggest
    clip : percentile at which intensities are clipped; None for no clipping
    invert : whether to invert intensities, so that bright becomes dark
    recipe : name of a label recipe, ``none`` for no labels; None to choose by evidence
    settings : values of ``--set``
    link : axis (``z``, ``t``) -> minimum IoU to join labels of neighbouring planes or frames;
        empty for no joining
    link_gap : number of planes or frames in which a joined object may be missing, 0 or 1
    neighbours : what counts as a neighbour of an object, see `bmz.base.axes.Neighbourhood`; None
        for no columns of neighbours
    tile, batch : tile side (px) and tiles per batch; None for those that suit the device
    precision : ``auto``, ``float32``, ``bfloat16`` or ``float16``
    backend : framework that runs the weights, as in ``bmz.predict.formats.backends``
    save : kinds of output, see `bmz.write.outputs`; the run record is always written
    tables : formats of the tables, see `bmz.write.outputs`
    overlay : ``plain``, or ``numbers`` for pictures with the label on each object
    labels_format : ``tiff`` for OME-TIFF or ``zarr`` for OME-Zarr
    into_image : name under which labels are written into each image, an OME-Zarr; None for none
    overwrite : whether existing outputs may be replaced
    resume : whether to skip images whose outputs exist and were made with the same options
    memory_gb : memory above which an image is run in parts, GB; None for half of the free memory
    blocks : sizes of the blocks of such an image
    workers : number of processes on this machine that share the images; 1 for only this process
    scheduler : address of a Dask scheduler whose workers run the images, or the JSON file that
        it writes; None for none
    threads : threads of a network on a CPU; None for as many as there are CPUs
    flag_below : predicted F1 of a mask below which its image is flagged; None to flag masks that
        are likely wrong
    force : whether to run despite findings of severity error
    engine : ``core`` lets bioimageio.core predict, including the declared steps
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
        """Return the kinds of output of the call, from `bmz.write.outputs.kinds_to_write`."""
        asked = self.save if self.into_image is None else {*self.save, IN_IMAGE}
        made = Made(labels=labels, polygons=polygons)
        return kinds_to_write(asked, made, joined=self.link, tables=self.tables)

    @property
    def keeps_raw(self) -> bool:
        """Whether the maps of the network are needed after labelling."""
        return "raw" in self.save

    @property
    def tile_px(self) -> int | None:
        """Side of the tiles that the engine uses, px; None for tiles that suit the device."""
        return WHOLE_PX if WHOLE_IMAGES[self.engine] else self.tile


@dataclass(frozen=True)
class TrialOptions:
    """Options of ``bmz check --try``.

    Parameters
    ----------
    pictures : folder for a picture of the worst crop of each image; None for none
    cure_s : time after which no further cure is tried, per image, s
    """

    pictures: Path | None = None
    cure_s: float = 60.0


def is_chain(model: str | None) -> bool:
    """Return whether a model is a file that describes a chain of models."""
    return model is not None and model.lower().endswith(".toml")
