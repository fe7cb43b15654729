"""What earlier runs left: what was finished is left out, what is replaced is taken away."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bmz.base.files import claimed, is_left_by_dead
from bmz.engine.job import Job
from bmz.engine.replay import words_of
from bmz.image.content import content_sha256
from bmz.results.run import SCHEMA, ImageDone
from bmz.write.outputs import OUTPUT_KINDS, RECORD, ending_of
from bmz.write.record import as_json


def finished(job: Job, image: Path, files: Mapping[str, Path]) -> ImageDone | None:
    """Give what an earlier call wrote for an image; None where it is not there, or another.

    Parameters
    ----------
    job : of this call; model, image and words must be those of the record
    files : kind -> path of each output; all must be there
    """
    record = _read(files["record"])
    if record is None or record.get("schema") != SCHEMA:
        return None
    # tables of joined objects are there only where an image has planes or frames to join
    written = {
        kind: path
        for kind, path in files.items()
        if kind == RECORD or not OUTPUT_KINDS[kind].joined_over or kind in record.get("files", ())
    }
    if not all(path.exists() for path in written.values()):
        return None
    same = (
        record.get("model_sha256") == job.model.sha256
        and record.get("request") == as_json(words_of(job.request))
        and record.get("image_sha256") == content_sha256(image)
    )
    return ImageDone(image, written, record.get("objects"), (), record) if same else None


def remove_leftovers(folder: Path, kind: str) -> None:
    """Remove what processes that are no more have left half written in `folder`.

    Parameters
    ----------
    kind : ``writing`` for outputs; ``scratch`` for what runs in parts need in between, with which
        a run may still be gone on
    """
    if kind == "writing":
        for lock in folder.glob(".*.lock"):  # one that is held stays
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
    """Give the files about a label mask that a run record lists, of names of ours beside it.

    They are replaced together.

    Parameters
    ----------
    record : its path; none of bmz, or none at all, lists nothing
    """
    known = _read(record)
    files = known.get("files") if known is not None and known.get("schema") == SCHEMA else None
    if not isinstance(files, dict):
        return frozenset()
    stem = record.name.removesuffix(ending_of(RECORD))
    kinds = [name for name, kind in OUTPUT_KINDS.items() if kind.needs_labels]
    ours = {f"{stem}{ending_of(kind, zarr=zarr)}" for kind in kinds for zarr in (False, True)}
    return frozenset(record.with_name(name) for name in ours & {*map(str, files.values())})


def remove_replaced(before: frozenset[Path], record: Path) -> None:
    """Remove the files about the mask of an earlier run that the run which replaces it lacks.

    A table of tracks beside a mask that was made without ``--link`` would be that of another mask.

    Parameters
    ----------
    before : `files_of_mask` of the earlier run
    record : of the run that replaces it; where it wrote nothing about a mask, nothing is removed
    """
    now = files_of_mask(record)
    for path in before - now if now else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _read(path: Path) -> Mapping[str, Any] | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None  # cut short: the image is run again
    return record if isinstance(record, dict) else None
