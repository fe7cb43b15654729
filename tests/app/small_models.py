"""Models and jobs described in place, without a package and without weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bmz.base.axes import Step
from bmz.check.finding import CheckReport
from bmz.check.fit import CheckedHeader
from bmz.check.fit_case import FitCase
from bmz.engine.labelling import decide_labelling, network_way
from bmz.engine.network_choice import NetworkChoice
from bmz.engine.request import RunRequest
from bmz.engine.setup import PlannedImage, RunSetup
from bmz.image.pixels import inspect_array
from bmz.plan.plan import RunChoices, make_plan
from bmz.predict.backend import CPU, Device
from bmz.spec.model import (
    AnySize,
    AxisKind,
    AxisSpec,
    Fixed,
    LikeAxis,
    ModelSpec,
    PackagedFile,
    Size,
    Stepped,
    TensorSpec,
    Weights,
)

KINDS: dict[str, AxisKind] = {"b": "batch", "c": "channel", "t": "time", "i": "index"}
ONNX = Weights("onnx", PackagedFile(Path("weights.onnx"), "0" * 64))


def tensor(
    letters: str = "bcyx",
    *steps: Step,
    id_: str = "image",
    size: Size = Stepped(16, 8),  # noqa: B008  (it is frozen)
    channels: int = 1,
    halo: int = 0,
    **more: Any,
) -> TensorSpec:
    """Describe a tensor, float32 where nothing else is said.

    Parameters
    ----------
    size, halo : of every axis of space
    """
    sizes: dict[str, Size] = {"b": AnySize(), "c": Fixed(channels)}
    axes = tuple(
        AxisSpec(a, KINDS.get(a, "space"), sizes.get(a, size), 0 if a in KINDS else halo)
        for a in letters
    )
    return TensorSpec(id_, axes, **{"dtype": "float32", "steps": steps, **more})


def mapped(letters: str = "bcyx", *steps: Step, id_: str = "map", **more: Any) -> TensorSpec:
    """Describe an output on the grid of the input ``image``."""
    made = tensor(letters, *steps, id_=id_, **more)
    axes = [
        AxisSpec(a.letter, a.kind, LikeAxis("image", a.letter), a.halo) if a.kind == "space" else a
        for a in made.axes
    ]
    return TensorSpec(**{**vars(made), "axes": tuple(axes)})


def model(
    inputs: Sequence[TensorSpec] = (),
    outputs: Sequence[TensorSpec] = (),
    folder: Path = Path(),
    **more: Any,
) -> ModelSpec:
    """Describe a model of one grey image and one map of it, where nothing else is said."""
    known: dict[str, Any] = {
        "id": "net", "name": "Net", "folder": folder, "sha256": "m" * 64,
        "format_version": "0.5.4", "weights": (ONNX,), "tags": ("instance-segmentation",),
    }  # fmt: skip
    takes, gives = tuple(inputs) or (tensor(),), tuple(outputs) or (mapped(value_range=(0.0, 1.0)),)
    return ModelSpec(**{**known, "inputs": takes, "outputs": gives, **more})


MAP = mapped(halo=4, value_range=(0.0, 1.0))
"""The foreground of an image."""


def job_of(
    net: ModelSpec | None = None,
    *,
    device: Device = CPU,
    recipe: str | None = None,
    settings: Mapping[str, str] | None = None,
    **words: Any,
) -> RunSetup:
    """Decide what images of a call share; `words` are those of the call."""
    net = net or model(outputs=[MAP])
    labelling = decide_labelling(net, recipe=recipe, settings=settings or {})
    request = RunRequest("net", (), Path(), **words)
    decided = RunChoices(
        ONNX, str(device), labelling.choice, tile=request.tile_px,
        batch=request.batch,
        way=network_way(net, labelling.choice),
    )  # fmt: skip
    network = NetworkChoice(net, ONNX, device, labelling, ())
    return RunSetup(request, net, labelling, device, "no", None, decided, {}, network)


def planned_image(
    setup: RunSetup, shape: tuple[int, ...], axes: str = "yx", **words: Any
) -> PlannedImage:
    """Plan the run of an image without content."""
    info = inspect_array(np.broadcast_to(np.float32(0), shape), axes=axes)
    case = FitCase(setup.model, info, None, **words)
    return PlannedImage(
        info.path, CheckedHeader(case, CheckReport(())), make_plan(case, setup.decided)
    )
