"""``bmz run``: images through a model to label masks, one bad image never stopping the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bmz.base.progress import Listener, nobody
from bmz.engine.memory import plan_images
from bmz.engine.request import RunRequest
from bmz.engine.run_images import (
    claim_files,
    files_of_states,
    finish_folder,
    image_states,
    run_images,
)
from bmz.engine.setup import prepare
from bmz.image.series import with_fields
from bmz.results.images import DeviceUse, ImageFailure, ImagePlan, RunSummary
from bmz.zoo.locate import starter_folder


def plan_run(
    request: RunRequest, listener: Listener = nobody
) -> Iterator[ImagePlan | ImageFailure]:
    """Say for each image how it would be run, after a trial of two tiles, and write nothing.

    Raises
    ------
    BmzError
        What concerns all images: the model or the options. What concerns one image is yielded.
    """
    setup = prepare(request, listener, measure=False)
    yield from plan_images(setup, with_fields(request.images, request.series))


def run(request: RunRequest, listener: Listener = nobody) -> RunSummary:
    """Run a model on images and write what was asked for.

    Parameters
    ----------
    request : the options of the call
    listener : is called as files and tiles are finished

    Raises
    ------
    BmzError
        What concerns all images: the model, the options, the folder, outputs that exist. What
        concerns one image is in the summary.
    """
    setup = prepare(request, listener)
    images = with_fields(request.images, request.series)
    paths = claim_files(setup, images)
    states = image_states(setup, images, paths)
    files = files_of_states(states, paths)
    uses: list[DeviceUse] = []
    outcomes = tuple(run_images(setup, states, files, listener, used=uses.append))
    summary = RunSummary(outcomes, *uses)
    finish_folder(setup, images, summary.done)
    return summary


MODEL = "starter/nuclei"


def demo_image() -> Path:
    """Give the bundled image: nuclei of DSB 2018 stage 1, CC0."""
    return starter_folder() / "demo" / "nuclei.tif"


def run_demo(folder: Path, listener: Listener = nobody) -> RunSummary:
    """Run the bundled model on the bundled image; earlier results are replaced.

    Parameters
    ----------
    folder : for the outputs
    """
    request = RunRequest(model=MODEL, images=(demo_image(),), folder=folder, overwrite=True)
    return run(request, listener)
