"""``bmz run --from RUN.json``: repeat a run by its record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmz.base.channels import checked_channels
from bmz.base.errors import AnswerIsNo, CouldNotTell
from bmz.base.files import is_there
from bmz.engine.image_header import on_disk
from bmz.engine.load import load_model
from bmz.engine.request import RunRequest
from bmz.image.formats import split_series
from bmz.image.given_names import given_name
from bmz.image.series import content_sha256
from bmz.results.run import SCHEMA
from bmz.spec.made_for import stated_kind
from bmz.write.table_formats import CSV

if TYPE_CHECKING:
    from bmz.results.documents import RequestRecord


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

    def __init__(self, what: str, name: str, expected: str, actual: str) -> None:
        super().__init__(
            f"the {what} '{name}' is not the one of the record: wanted sha256 {expected}, "
            f"found {actual}",
            hint=f"get the {what} of the record back, or run the new one without --from",
            code="replay.differs",
        )


def options_of(request: RunRequest) -> RequestRecord:
    """Give the options of a call that decide its result, for the record."""
    return {
        "model": request.model,
        "axes": request.axes,
        "channels": request.channels,
        "pixel_um": dict(request.pixel_um),
        "scale": request.scale,
        "kind": None if request.kind is None else str(request.kind),
        "clip": request.clip,
        "recipe": request.recipe,
        "settings": dict(request.settings),
        "link": dict(request.link),
        "link_gap": request.link_gap,
        "tile": request.tile,
        "save": sorted(request.save),
        "tables": sorted(request.tables),
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
        image = request.images[0] if request.images else on_disk(str(record["image"]))
        recorded = {"model": record["model_sha256"], "image": record["image_sha256"]}
        options = _options(record, words)
    except KeyError as why:
        raise RecordUnreadable(path, f"it lacks {why}") from why
    except (TypeError, ValueError, AttributeError, OverflowError) as why:
        raise RecordUnreadable(path, f"a value of it is of another kind ({why})") from why
    if not is_there(split_series(image)[0]):
        raise CouldNotTell(
            f"the image of the record, '{image}', is not there",
            hint="name where it is now: bmz run MODEL IMAGE --from RUN.json",
            code="image.not-found",
        )
    actual = {"model": load_model(model).sha256, "image": content_sha256(image)}
    for what, name in (("model", model), ("image", given_name(image))):
        if actual[what] != recorded[what]:
            raise ReplayDiffers(what, name, recorded[what], actual[what])
    return replace(request, model=model, images=(image,), **options)


def _options(record: Mapping[str, Any], words: Mapping[str, Any]) -> dict[str, Any]:
    channels = words["channels"]
    kind = words.get("kind")  # records of before there was a --kind lack it
    return {
        "series": str(int(record.get("image_series", 0))),
        "axes": words["axes"],
        "channels": None if channels is None else checked_channels(channels),
        "pixel_um": {axis: float(um) for axis, um in words["pixel_um"].items()},
        "scale": words["scale"],
        "kind": None if kind is None else stated_kind(kind),
        "clip": words["clip"],
        "recipe": words["recipe"],
        "settings": {key: str(value) for key, value in words["settings"].items()},
        # records of before there was a --link lack it
        "link": {axis: float(iou) for axis, iou in words.get("link", {}).items()},
        "link_gap": int(words.get("link_gap", 0)),
        "tile": words["tile"],
        "save": frozenset(words["save"]),
        "labels_format": words.get("labels_format", "tiff"),
        "tables": frozenset(map(str, words.get("tables", [CSV]))),  # records of before lack it
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
        raise RecordUnreadable(path, "it lacks the options of the call")
    return record
