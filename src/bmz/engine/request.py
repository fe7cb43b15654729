"""The options of ``bmz run``, and those of a run that is repeated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bmz.base.errors import AnswerIsNo, CouldNotTell
from bmz.base.files import is_there
from bmz.engine.load import load_model
from bmz.image.content import content_sha256
from bmz.plan.plan import Blocks
from bmz.results.run import SCHEMA
from bmz.write.outputs import default_kinds

if TYPE_CHECKING:
    from bmz.results.documents import RequestRecord


SCALES = (1e-3, 1e3)
"""Least and largest factor of a resize: beyond, nothing would be left or fit."""

CLIPS = (50, 100)
"""Least and largest percentile above which intensities are cut."""

PrecisionWord = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class RunRequest:
    """The words of one call of ``bmz run``.

    Parameters
    ----------
    model : see ``bmz.engine.load.load_model``
    images : files
    folder : for the outputs; made when it is not there
    device : ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``
    weights : a weights format; None to choose
    axes : the user's word for the axes of the files
    channels : image channel for each model channel; -1 for zeros
    pixel_um : the user's word for the pixel size, um
    scale : resize factor, ``auto`` or None for no resizing
    clip : percentile above which intensities are cut; None for no cut
    recipe : name of a label recipe, ``none`` for no labels; None to choose by evidence
    settings : ``--set`` words
    link : axis (``z``, ``t``) -> least IoU of labels of neighbouring planes or frames that are
        joined; empty for none
    link_gap : planes or frames that a joined object may be missing in, 0 or 1
    tile, batch : wanted tile side (px) and tiles at once; None for those that suit the device
    precision : ``auto``, ``float32``, ``bfloat16`` or ``float16``
    save : kinds of output, see `bmz.write.outputs`; the run record is always written
    labels_format : ``tiff`` for OME-TIFF or ``zarr`` for OME-Zarr
    overwrite : existing outputs may be replaced
    resume : images whose outputs are there, made by the same words, are left out
    memory_gb : an image that would need more is run in parts; None for half of what is free
    blocks : sizes of the blocks of such an image
    workers : processes on this machine among which the images are dealt out; 1 for this one
    scheduler : address of a Dask scheduler whose workers run the images, or the JSON file that
        it writes; None for none
    threads : of a network on a CPU; None for as many as there are processors
    force : run despite findings of severity error
    engine : ``core`` lets bioimageio.core predict, the declared steps included
    trust : whether the model's own code may run in this call, shut in or with all rights
    """

    model: str
    images: tuple[Path, ...]
    folder: Path
    device: str = "auto"
    weights: str | None = None
    axes: str | None = None
    channels: tuple[int, ...] | None = None
    pixel_um: Mapping[str, float] = field(default_factory=dict)
    scale: float | Literal["auto"] | None = None
    clip: float | None = None
    recipe: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    link: Mapping[str, float] = field(default_factory=dict)
    link_gap: int = 0
    tile: int | None = None
    batch: int | None = None
    precision: PrecisionWord = "auto"
    save: frozenset[str] = frozenset(default_kinds())
    labels_format: Literal["tiff", "zarr"] = "tiff"
    overwrite: bool = False
    resume: bool = False
    memory_gb: float | None = None
    blocks: Blocks = field(default_factory=Blocks)
    workers: int = 1
    scheduler: str | None = None
    threads: int | None = None
    force: bool = False
    engine: Literal["bmz", "core"] = "bmz"
    trust: Literal["no", "confined", "unconfined"] = "no"


class RecordUnreadable(CouldNotTell):
    """A file is no record of a run."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"'{path}' is no record that can be repeated: {why}",
            hint="give the NAME.run.json that 'bmz run' of this version or a later one wrote",
            code="replay.unreadable",
        )


class ReplayDiffers(AnswerIsNo):
    """The model or the image is another one than that of the record."""

    def __init__(self, what: str, name: str, wanted: str, found: str) -> None:
        super().__init__(
            f"the {what} '{name}' is not the one of the record: wanted sha256 {wanted}, "
            f"found {found}",
            hint=f"get the {what} of the record back, or run the new one without --from",
            code="replay.differs",
        )


def words_of(request: RunRequest) -> RequestRecord:
    """Give the words of a call that decide its result, for the record."""
    return {
        "model": request.model,
        "axes": request.axes,
        "channels": request.channels,
        "pixel_um": dict(request.pixel_um),
        "scale": request.scale,
        "clip": request.clip,
        "recipe": request.recipe,
        "settings": dict(request.settings),
        "link": dict(request.link),
        "link_gap": request.link_gap,
        "tile": request.tile,
        "save": sorted(request.save),
        "labels_format": request.labels_format,
        "engine": request.engine,
        "force": request.force,
    }


def replayed(path: Path, request: RunRequest) -> RunRequest:
    """Read what was run, and put it into a request, which keeps its folder and its trust.

    That code of the model may run is never taken from a file: it must be allowed here.

    Parameters
    ----------
    path : the record
    request : of this call; its model and images, where it has any, stand in for the recorded ones
        (as when files were moved), and must be the same by their sha256

    Raises
    ------
    RecordUnreadable, ReplayDiffers
    """
    record = _read(path)
    try:
        words = dict(record["request"])
        model = request.model or str(words.pop("model"))
        image = request.images[0] if request.images else Path(record["image"])
        wanted = {"model": record["model_sha256"], "image": record["image_sha256"]}
        told = _told(record, words)
    except KeyError as why:
        raise RecordUnreadable(path, f"it lacks {why}") from why
    except (TypeError, ValueError, AttributeError, OverflowError) as why:
        raise RecordUnreadable(path, f"a value of it is of another kind ({why})") from why
    if not is_there(image):
        raise CouldNotTell(
            f"the image of the record, '{image}', is not there",
            hint="name where it is now: bmz run MODEL IMAGE --from RUN.json",
            code="image.not-found",
        )
    found = {"model": load_model(model).sha256, "image": content_sha256(image)}
    for what, name in (("model", model), ("image", str(image))):
        if found[what] != wanted[what]:
            raise ReplayDiffers(what, name, wanted[what], found[what])
    return replace(request, model=model, images=(image,), **told)


def _told(record: Mapping[str, Any], words: Mapping[str, Any]) -> dict[str, Any]:
    channels = words["channels"]
    return {
        "axes": words["axes"],
        "channels": None if channels is None else tuple(int(n) for n in channels),
        "pixel_um": {axis: float(um) for axis, um in words["pixel_um"].items()},
        "scale": words["scale"],
        "clip": words["clip"],
        "recipe": words["recipe"],
        "settings": {key: str(value) for key, value in words["settings"].items()},
        # records of before there was a --link lack it
        "link": {axis: float(iou) for axis, iou in words.get("link", {}).items()},
        "link_gap": int(words.get("link_gap", 0)),
        "tile": words["tile"],
        "save": frozenset(words["save"]),
        "labels_format": words.get("labels_format", "tiff"),
        "force": bool(words["force"]),
        "engine": words["engine"],
        # what was decided then, not the word by which it was
        "weights": record["weights"]["format"],
        "device": record["device"],
        "batch": int(record["plan"]["batch"]),
        "precision": record["plan"]["precision"],
    }


def _read(path: Path) -> Mapping[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as why:
        raise RecordUnreadable(path, getattr(why, "strerror", None) or str(why)) from why
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise RecordUnreadable(path, f"it has no schema {SCHEMA}")
    if "request" not in record:
        raise RecordUnreadable(path, "it lacks the words of the call")
    return record
