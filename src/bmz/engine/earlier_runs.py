"""Files of earlier runs: the record to repeat a run, its results and its intermediate files."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bmz.base.axes import checked_channels
from bmz.base.computer import version
from bmz.base.errors import AnswerIsNo, CouldNotTell
from bmz.base.files import (
    claimed,
    disk_faults_told,
    given_text,
    is_left_by_dead,
    is_there,
    move,
    unfinished,
    whole_file,
)
from bmz.base.values import dataclass
from bmz.engine.image_header import hashes_beside, on_disk
from bmz.engine.load import load_model
from bmz.engine.request import RunRequest
from bmz.engine.setup import PlannedImage, RunSetup
from bmz.image.formats import split_series
from bmz.image.given_names import given_name
from bmz.image.series import content_sha256
from bmz.plan.plan import Plan
from bmz.predict.frameworks import NATIVE
from bmz.process.blocks import Found
from bmz.results.images import NOT_REPEATED, SCHEMA, ImageRun
from bmz.spec.made_for import stated_kind
from bmz.spec.model import ModelSpec
from bmz.write.names import OutputClaimed, refuse_existing
from bmz.write.outputs import CSV, OUTPUT_KINDS, RECORD, ending_of
from bmz.write.tables import as_json
from bmz.zoo.errors import Refused, Unreachable

if TYPE_CHECKING:
    from bmz.results.image_documents import RequestRecord


class RecordUnreadable(CouldNotTell):
    """A file is not a record of a run."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"'{path}' is not a record that can be repeated: {why}",
            hint="give a NAME.run.json that this version of 'bmz run' or a later one wrote",
            code="replay.unreadable",
        )


class ReplayDiffers(AnswerIsNo):
    """The model, the image or a file used with it is not the one in the record."""

    def __init__(self, what: str, name: str, expected: str, actual: str) -> None:
        super().__init__(
            f"the {what} '{name}' is not the one in the record: wanted sha256 {expected}, found "
            f"{actual}",
            hint=f"restore the {what} of the record, or run the new one without --from",
            code="replay.differs",
        )


def options_of(request: RunRequest) -> RequestRecord:
    """Return the options of a call that determine its result, for the record."""
    return {
        "model": request.model,
        "axes": request.axes,
        "channels": request.channels,
        "inputs": dict(request.inputs),
        "relations": dict(request.relations),
        "prompts": request.prompts,
        "pixel_um": dict(request.pixel_um),
        "scale": request.scale,
        "kind": None if request.kind is None else str(request.kind),
        "clip": request.clip,
        "invert": request.invert,
        "recipe": request.recipe,
        "settings": dict(request.settings),
        "link": dict(request.link),
        "link_gap": request.link_gap,
        "neighbours": request.neighbours,
        "tile": request.tile,
        "save": sorted(request.save),
        "tables": sorted(request.tables),
        "overlay": request.overlay,
        "labels_format": request.labels_format,
        "into_image": request.into_image,
        "engine": request.engine,
        "force": request.force,
    }


def replayed(path: Path, request: RunRequest) -> RunRequest:
    """Return a request with the options of a record; it keeps its own folder and trust.

    Permission to run code of the model is never taken from a file: it must be given in this call.

    Parameters
    ----------
    path : path of the record
    request : request of this call; its model and images, if given, replace the recorded ones (for
        instance after files were moved) and must have the same sha256

    Raises
    ------
    RecordUnreadable, ReplayDiffers
    """
    record = _read_record(path)
    if "request" not in record:
        raise RecordUnreadable(path, "it lacks the options of the call")
    try:
        stored_options = dict(record["request"])
        model = request.model or str(stored_options.pop("model"))
        image = request.images[0] if request.images else on_disk(str(record["image"]))
        recorded = {"model": record["model_sha256"], "image": record["image_sha256"]}
        options = _options(record, stored_options)
    except KeyError as why:
        raise RecordUnreadable(path, f"it lacks {why}") from why
    except (TypeError, ValueError, AttributeError, OverflowError) as why:
        raise RecordUnreadable(path, f"one of its values has the wrong type ({why})") from why
    if not is_there(split_series(image)[0]):
        raise CouldNotTell(
            f"the image in the record, '{image}', does not exist",
            hint="give its new location: bmz run MODEL IMAGE --from RUN.json",
            code="image.not-found",
        )
    spec = load_model(model)
    actual = {"model": spec.sha256, "image": content_sha256(image)}
    for what, name in (("model", model), ("image", given_name(image))):
        if actual[what] != recorded[what]:
            raise ReplayDiffers(what, name, recorded[what], actual[what])
    # the present locations of the files used with the image
    options |= {kind: getattr(request, kind) for kind in KINDS_BESIDE if getattr(request, kind)}
    _refuse_others_beside(spec, image, replace(request, **options), record)
    return replace(request, model=model, images=(image,), **options)


def _refuse_others_beside(
    model: ModelSpec, image: Path, request: RunRequest, record: Mapping[str, Any]
) -> None:
    """Check that the further images and the masks are those of the record.

    Raises
    ------
    ReplayDiffers
        One differs or is missing.
    """
    actual = hashes_beside(model, image, request) or {}
    for (kind, name), sha256 in _recorded_hashes(record).items():
        if actual.get((kind, name)) != sha256:
            raise ReplayDiffers(
                KINDS_BESIDE[kind], name, sha256, actual.get((kind, name), "no such file")
            )


KINDS_BESIDE: Mapping[str, str] = {"inputs": "input", "relations": "mask", "prompts": "prompts"}
"""Entry of a record -> kind of the files that it lists in addition to the image."""


def _recorded_hashes(record: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """Return the hash of each file used with the image; older records list no such files."""
    return {
        (kind, name): str(entry["sha256"])
        for kind in KINDS_BESIDE
        for name, entry in record.get(kind, {}).items()
    }


def _mask_files(record: Mapping[str, Any], kind: str) -> dict[str, str]:
    """Return the masks of a record as files, including those that a step of a chain made."""
    return {name: str(entry["image"]) for name, entry in record.get(kind, {}).items()}


def _options(record: Mapping[str, Any], words: Mapping[str, Any]) -> dict[str, Any]:
    # records written before an option existed lack it
    channels, kind = words["channels"], words.get("kind")
    return {
        "series": str(int(record.get("image_series", 0))),
        "axes": words["axes"],
        "channels": None if channels is None else checked_channels(channels),
        "inputs": {name: str(word) for name, word in words.get("inputs", {}).items()},
        "relations": _mask_files(record, "relations"),
        "prompts": _mask_files(record, "prompts").get("file", words.get("prompts")),
        "pixel_um": {axis: float(um) for axis, um in words["pixel_um"].items()},
        "scale": words["scale"],
        "kind": None if kind is None else stated_kind(kind),
        "clip": words["clip"],
        "invert": bool(words.get("invert", False)),
        "recipe": words["recipe"],
        "settings": {key: str(value) for key, value in words["settings"].items()},
        "link": {axis: float(iou) for axis, iou in words.get("link", {}).items()},
        "link_gap": int(words.get("link_gap", 0)),
        "neighbours": words.get("neighbours"),
        "tile": words["tile"],
        "save": frozenset(words["save"]),
        "overlay": words.get("overlay", "plain"),
        "labels_format": words.get("labels_format", "tiff"),
        "into_image": words.get("into_image"),
        "tables": frozenset(map(str, words.get("tables", [CSV]))),
        "force": bool(words["force"]),
        "engine": words["engine"],
        # the choice that was made then, not the option that led to it
        "weights": record["weights"]["format"],
        "device": record["device"],
        "batch": int(record["plan"]["batch"]),
        "precision": record["plan"]["precision"],
        "backend": record["plan"].get("backend", NATIVE),
    }


def _read_record(path: Path) -> Mapping[str, Any]:
    try:
        record = json.loads(given_text(path))
    except (OSError, ValueError, RecursionError) as why:
        raise RecordUnreadable(path, getattr(why, "strerror", None) or str(why)) from why
    schema = record.get("schema") if isinstance(record, dict) else None
    if schema != SCHEMA:
        raise RecordUnreadable(path, NOT_REPEATED.get(str(schema), f"it has no schema {SCHEMA}"))
    return dict(record)


def scratch_key(setup: RunSetup, planned: PlannedImage, image_sha256: str) -> str:
    """Return a hash of all that determines the result, so that only the same run is resumed."""
    plan = planned.plan
    facts = {
        "bmz": version(),
        "model": setup.model.sha256,
        "image": image_sha256,
        "inputs": {key: content_sha256(i.place) for key, i in planned.case.image.further.items()},
        "masks": {name: mask.record()["sha256"] for name, mask in planned.masks.items()},
        "prompts": None if planned.prompts is None else planned.prompts.record(),
        "words": options_of(setup.request),
        "network": [plan.weights.format, plan.device, plan.precision.name, plan.precision.backend],
    }
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def scratch_folder(folder: Path, key: str, *, resume: bool) -> Iterator[Path]:
    """Yield a folder for intermediate files; it is removed when the block ends.

    It is kept for ``--resume`` if the program is killed or interrupted, or if a server fails.

    Parameters
    ----------
    folder : parent folder
    key : key of the run, as `scratch_key` returns it
    resume : reuse a folder with this key that was left by a process that has ended
    """
    place = folder / f"{unfinished('scratch')}{key}"
    if resume:
        for old in sorted(folder.glob(f".scratch-*-{key}")):
            if is_left_by_dead(old):
                move(old, place)
                break
    place.mkdir(exist_ok=True)
    try:
        yield place
    except (KeyboardInterrupt, Unreachable, Refused):
        raise
    except BaseException:
        shutil.rmtree(place)
        raise
    shutil.rmtree(place)


_COLUMN = "column_"
"""Prefix of the array names of the columns of the objects."""


@dataclass(frozen=True)
class PlaneFolder:
    """The part of a scratch folder that belongs to one plane or stack of an image.

    Parameters
    ----------
    path : path of this part
    """

    path: Path

    def maps(self, plan: Plan) -> Path:
        """Return the folder for the tiles of a plan; each tile size has its own folder."""
        sizes = "x".join(map(str, plan.tiling.tile.values()))
        folder = self.path / f"map-{sizes}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def labels(self) -> Path:
        """The path of the label array."""
        return self.path / "labels"

    @property
    def resized(self) -> Path:
        """The path of the labels resampled to the image, if the network ran on another grid."""
        return self.path / "resized"

    @property
    def raw(self) -> Path:
        """The path of the network's output, which is kept on request."""
        return self.path / "raw.npy"

    def objects(self) -> Found:
        """Read the objects of the finished blocks."""
        objects = Found()
        while (file := self._block(len(objects.first))).exists():
            with np.load(file, allow_pickle=False) as arrays:
                objects.first.append(arrays["first"])
                own = [name for name in arrays if name.startswith(_COLUMN)]
                objects.columns.append({name.removeprefix(_COLUMN): arrays[name] for name in own})
                objects.widest_overlap = int(arrays["widest_overlap"])
        return objects

    def keep(self, objects: Found) -> None:
        """Save the objects of the last block, whose labels have been written."""
        arrays = {"first": objects.first[-1], "widest_overlap": np.int64(objects.widest_overlap)}
        arrays |= {f"{_COLUMN}{name}": column for name, column in objects.columns[-1].items()}
        file = self._block(len(objects.first) - 1)
        file.parent.mkdir(exist_ok=True)
        with whole_file(file) as temporary:
            np.savez(temporary, **arrays)  # type: ignore[arg-type]  # its stubs mix up the keywords

    def layout(self) -> dict[str, list[int]] | None:
        """Return the sizes of a plane, or None if it is not finished."""
        try:
            layout: dict[str, list[int]] = json.loads(self._done.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return layout

    def finish(self, layout: dict[str, list[int]]) -> None:
        """Mark the plane as finished, and remove its maps, which are no longer needed."""
        with whole_file(self._done) as temporary:
            temporary.write_text(json.dumps(layout), encoding="utf-8")
        for maps in self.path.glob("map-*"):
            shutil.rmtree(maps)

    @property
    def evidence(self) -> Path:
        """The path of the measurements that tell how reliable the objects are, if there are any."""
        return self.path / "evidence.npz"

    @property
    def _done(self) -> Path:
        return self.path / "done.json"

    def _block(self, number: int) -> Path:
        return self.path / "blocks" / f"{number:06d}.npz"


def finished(setup: RunSetup, image: Path, files: Mapping[str, Path]) -> ImageRun | None:
    """Return the results of an earlier identical run on an image; None if there are none.

    Parameters
    ----------
    setup : setup of this call; the model, image and options must be those of the record
    files : kind -> path of each output; all must exist
    """
    record = _earlier_record(files["record"])
    if record is None:
        return None
    # tables of joined objects exist only if there were planes or frames to join
    written = {
        kind: path
        for kind, path in files.items()
        if kind == RECORD or not OUTPUT_KINDS[kind].joined_over or kind in record.get("files", ())
    }
    if not all(path.exists() for path in written.values()):
        return None
    same = (
        record.get("model_sha256") == setup.model.sha256
        and record.get("request") == as_json(options_of(setup.request))
        and record.get("image_sha256") == content_sha256(image)
        and _recorded_hashes(record) == hashes_beside(setup.model, image, setup.request)
    )
    return ImageRun(image, written, record.get("objects"), (), record) if same else None


def file_of_results(record: Path) -> str | None:
    """Return the name of the image file of a run; None if there is no record of a run.

    Parameters
    ----------
    record : path of the record
    """
    known = _earlier_record(record)
    image = None if known is None or known.get("schema") != SCHEMA else known.get("image")
    return split_series(Path(image))[0].name if isinstance(image, str) else None


@contextmanager
def claimed_output(
    setup: RunSetup, image: Path, files: Mapping[str, Path]
) -> Iterator[ImageRun | None]:
    """Hold the exclusive right to write the files of an image while the block runs.

    If the block succeeds, outdated files about the mask of an earlier run are removed.

    Yields
    ------
    ImageRun or None
        with ``--resume``, the results if another run has finished them in the meantime

    Raises
    ------
    OutputClaimed, OutputExists, FolderNotWritable
        See `bmz.engine.run_image.run_image`.
    """
    request = setup.request
    number = hashlib.sha256(str(files["record"].absolute()).encode()).hexdigest()[:16]
    with disk_faults_told(request.folder), claimed(request.folder / number) as ours:
        if not ours:
            raise OutputClaimed(files["record"])
        replaces = request.overwrite
        done = finished(setup, image, files) if request.resume and not replaces else None
        if not (replaces or request.resume):
            refuse_existing(list(files.values()))
        before = files_of_mask(files["record"])
        yield done
        if done is None:
            remove_replaced(before, files["record"])


def remove_leftovers(folder: Path, kind: str) -> None:
    """Remove unfinished files in `folder` whose processes have ended.

    Parameters
    ----------
    kind : ``writing`` for outputs; ``scratch`` for the intermediate files of runs in parts, which
        could still be resumed
    """
    if kind == "writing":
        for lock in folder.glob(".*.lock"):  # a lock that is held stays
            with claimed(folder / lock.name[1 : -len(".lock")]):
                pass
    for path in folder.glob(f".{kind}-*"):
        if not is_left_by_dead(path):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def files_of_mask(record: Path) -> frozenset[Path]:
    """Return the files about a label mask in a run record that have the names that bmz gives.

    They are replaced together.

    Parameters
    ----------
    record : path of the record; if it is not a record of bmz or is missing, there are no files
    """
    known = _earlier_record(record)
    files = known.get("files") if known is not None else None
    if not isinstance(files, dict):
        return frozenset()
    stem = record.name.removesuffix(ending_of(RECORD))
    kinds = [name for name, kind in OUTPUT_KINDS.items() if kind.needs_labels]
    ours = {f"{stem}{ending_of(kind, zarr=zarr)}" for kind in kinds for zarr in (False, True)}
    return frozenset(record.with_name(name) for name in ours & {*map(str, files.values())})


def remove_replaced(before: frozenset[Path], record: Path) -> None:
    """Remove files about the mask of an earlier run that the run replacing it did not write.

    A table of tracks left next to a mask made without ``--link`` would belong to another mask.

    Parameters
    ----------
    before : `files_of_mask` of the earlier run
    record : record of the new run; if it lists no files about a mask, nothing is removed
    """
    now = files_of_mask(record) if before else before
    for path in before - now if now else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _earlier_record(path: Path) -> Mapping[str, Any] | None:
    try:
        return _read_record(path)
    except RecordUnreadable:
        return None  # missing or truncated: the image is run again
