"""Results made by hand, for tests of what is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bmz.base.errors import CouldNotTell
from bmz.check.finding import CheckReport, Finding
from bmz.plan.channel_names import RecipeChoice
from bmz.plan.plan import Plan
from bmz.plan.tiling import AxisTiling, Tiling
from bmz.results.images import CheckSummary, ImageCheck, ImagePlan
from bmz.spec.model import AxisSpec, Fixed, ModelSpec, PackagedFile, Stepped, TensorSpec, Weights

NOTE = Finding("dtype.cast", "note", "raw", "uint8 is cast", hint="never told of a note")
WARNING = Finding("range.flat", "warning", "raw", "almost no contrast", "1", "0.01", "stain again")
ERROR = Finding("channel.count", "error", "raw.c", "3 channels, not 1", "1", "3", "--channels 0")
FORCEABLE = Finding("scale.far", "error", "raw.x", "4 um, not 1 um", "1 um", "4 um", "--scale 4")
EMPTY = CouldNotTell("'c.tif' is empty", hint="copy it again", code="image.empty")
NOT_UTF8 = "a\udcff.tif"
"""How Python holds a file name with a byte that no UTF-8 has."""


def checked(name: str, *findings: Finding, **changes: Any) -> ImageCheck:
    return replace(ImageCheck(Path(name), None, CheckReport(findings), None), **changes)


def summary(*images: ImageCheck) -> CheckSummary:
    return CheckSummary("shark", "0" * 64, images)


def tensor(name: str, axes: Sequence[AxisSpec], **changes: Any) -> TensorSpec:
    return replace(TensorSpec(name, tuple(axes), "float32"), **changes)


def model(**changes: Any) -> ModelSpec:
    batch = AxisSpec("b", "batch", Fixed(1))
    raw = AxisSpec("y", "space", Stepped(16, 8)), AxisSpec("x", "space", Fixed(64))
    found = AxisSpec("y", "space", Fixed(60), halo=2), AxisSpec("x", "space", Fixed(64))
    plain = ModelSpec(
        "shark", "A shark", Path("/cache/shark"), "ab" * 32, "0.5.4",
        (tensor("raw", (batch, *raw)),), (tensor("map", (batch, *found)),), (),
    )  # fmt: skip
    return replace(plain, **changes)


def planned(**changes: Any) -> ImagePlan:
    tiles = (AxisTiling("y", 64, 64, (0,), (0, 64)), AxisTiling("x", 96, 64, (0, 32), (0, 48, 96)))
    plan = Plan(
        Weights("onnx", PackagedFile(Path("/cache/shark/w.onnx"), "cd" * 32)), "cpu", {}, ((0,),),
        None, 1.0, {"y": 64, "x": 96}, Tiling(tiles), (), 1, RecipeChoice("flows", "tags", "map"),
    )  # fmt: skip
    return replace(ImagePlan(Path("d/a.tif"), plan, ()), **changes)
