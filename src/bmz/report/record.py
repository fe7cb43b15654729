"""The run record: enough to know, and to repeat, how a label mask came about."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import bmz
from bmz.check.finding import Finding
from bmz.image.info import ImageInfo
from bmz.plan.plan import Plan
from bmz.spec.model import ModelSpec

SCHEMA = "bmz.run/1"
"""Name and number of the record's form; a change of meaning raises the number."""

NOTED_LIBRARIES = (
    "bioimageio.spec",
    "numpy",
    "scipy",
    "scikit-image",
    "tifffile",
    "onnxruntime",
    "onnxruntime-gpu",
    "torch",
)


def versions() -> dict[str, str]:
    """Give the versions of bmz, Python and the libraries that shape a result."""
    found = {"bmz": bmz.__version__, "python": platform.python_version()}
    for name in NOTED_LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def run_record(
    model: ModelSpec,
    info: ImageInfo,
    plan: Plan,
    recipe: Mapping[str, Any],
    findings: Iterable[Finding],
) -> dict[str, Any]:
    """Give what is known of a run before its result, as plain values.

    Parameters
    ----------
    recipe : name, why, output and parameters of the label recipe, and the declared steps
    """
    with info.path.open("rb") as stream:
        image_sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return {
        "schema": SCHEMA,
        "model": model.id,
        "model_name": model.name,
        "model_sha256": model.sha256,
        "weights": {
            "format": plan.weights.format,
            "file": plan.weights.file.path.name,
            "sha256": plan.weights.file.sha256,
        },
        "image": str(info.path),
        "image_sha256": image_sha256,
        "image_axes": info.axes,
        "image_shape": list(info.shape),
        "image_dtype": str(info.dtype),
        "plan": plan.as_record(),
        "recipe": dict(recipe),
        "device": plan.device,
        "versions": versions(),
        "findings": [asdict(finding) for finding in findings],
    }


def with_result(
    record: Mapping[str, Any],
    files: Mapping[str, Path],
    objects: int | None,
    took_s: Mapping[str, float],
) -> dict[str, Any]:
    """Give the record with what came out."""
    return {
        **record,
        "files": {kind: path.name for kind, path in files.items()},
        "objects": objects,
        "timings_s": {stage: round(seconds, 4) for stage, seconds in took_s.items()},
    }
