"""Put together what is asked of an image and a model; loads nothing that predicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from bmz.app.request import RunRequest
from bmz.app.scale import scaled
from bmz.check.fit import check_header
from bmz.check.measured import PlaneMeasures
from bmz.check.question import Question
from bmz.image.inspect import inspect_image
from bmz.process.ops_errors import RunsCode
from bmz.report.outcome import UNFORCEABLE
from bmz.spec.model import ModelSpec, TensorSpec


def ask(
    model: ModelSpec,
    image: Path,
    request: RunRequest,
    sample: Mapping[int, PlaneMeasures],
    *,
    series: int = 0,
) -> Question:
    """Put together what is known of the image: the file, then the user's words over it.

    Parameters
    ----------
    sample : what was measured on the model's own sample
    series : which image of the file

    Raises
    ------
    BmzError
        The file cannot be read, or a word does not suit it.
    """
    info = inspect_image(image, axes=request.axes, series=series)
    if request.pixel_um:
        told = {a: um for a, um in request.pixel_um.items() if a in info.sizes}
        info = replace(info, pixel_um={**info.pixel_um, **told}, pixel_from="--pixel-size")
    asked = Question(model, info, request.channels, info.pixel_um, sample=sample)
    runnable = not any(f.code in UNFORCEABLE for f in check_header(asked).errors)
    return scaled(asked, request) if runnable else asked


def refuse_code(tensors: Iterable[TensorSpec]) -> None:
    """Refuse steps that are the model's own code, before anything is loaded.

    Raises
    ------
    RunsCode
        There is a ``custom`` step.
    """
    for step in (step for tensor in tensors for step in tensor.steps):
        if step.name == "custom":
            raise RunsCode(step)
