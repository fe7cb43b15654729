"""The run record: enough to know, and to repeat, how a label mask came about."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bmz.base.notes import plain_of
from bmz.base.version import versions
from bmz.check.finding import Finding
from bmz.image.content import content_sha256
from bmz.image.info import ImageInfo
from bmz.plan.plan import Plan
from bmz.spec.model import ModelSpec

if TYPE_CHECKING:
    from bmz.results.documents import RanRecord, RecipeRecord, RunFacts, RunRecord

SCHEMA = "bmz.run/1"
"""Name and number of the record's form; a change of meaning raises the number."""


def run_record(
    model: ModelSpec,
    info: ImageInfo,
    plan: Plan,
    recipe: RecipeRecord,
    findings: Iterable[Finding],
    image_sha256: str | None = None,
) -> RunFacts:
    """Give what is known of a run before its result, as plain values.

    Parameters
    ----------
    recipe : name, why, output and parameters of the label recipe, and the declared steps
    image_sha256 : `content_sha256` of the image, where it is known already
    """
    return {
        "schema": "bmz.run/1",
        "model": model.id,
        "model_name": model.name,
        "model_sha256": model.sha256,
        "weights": {
            "format": plan.weights.format,
            "file": plan.weights.file.path.name,
            "sha256": plan.weights.file.sha256,
        },
        "image": str(info.path),
        "image_sha256": image_sha256 or content_sha256(info.path),
        "image_axes": info.axes,
        "image_shape": list(info.shape),
        "image_dtype": str(info.dtype),
        "image_series": info.series,
        "image_remarks": list(info.remarks),
        "plan": plan.as_record(),
        "recipe": recipe,
        "objects_in": dict(plan.apart),
        "joined_over": dict(plan.joined),
        "device": plan.device,
        "versions": versions(),
        "findings": plain_of(list(findings)),
    }


def with_result(
    record: RanRecord,
    files: Mapping[str, Path],
    objects: int | None,
    took_s: Mapping[str, float],
) -> RunRecord:
    """Give the record with what came out."""
    return {
        **record,
        "files": {
            kind: Path(os.path.relpath(path, files["record"].parent)).as_posix()
            for kind, path in files.items()
        },
        "objects": objects,
        "timings_s": {stage: round(seconds, 4) for stage, seconds in took_s.items()},
    }
