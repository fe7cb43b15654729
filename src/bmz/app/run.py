"""``bmz run``: turn images into label masks; a bad image does not stop the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bmz.base.progress import Listener, nobody
from bmz.engine.memory import plan_images
from bmz.engine.request import RunRequest
from bmz.engine.run_images import RunOfAll, new_images
from bmz.engine.setup import prepare
from bmz.results.images import ImageFailure, ImagePlan, RunSummary
from bmz.zoo.locate import starter_folder


def plan_run(
    request: RunRequest, listener: Listener = nobody
) -> Iterator[ImagePlan | ImageFailure]:
    """Yield how each image would be run, after a trial of two tiles; write nothing.

    Raises
    ------
    BmzError
        Something is wrong for all images: the model or the options. Errors of single images are
        yielded.
    """
    setup = prepare(request, listener, measure=False)
    yield from plan_images(setup)


def run(request: RunRequest, listener: Listener = nobody) -> RunSummary:
    """Run a model on images and write the requested outputs.

    Parameters
    ----------
    request : the options of the call
    listener : is called as files and tiles are finished

    Raises
    ------
    BmzError
        Something is wrong for all images: the model, the options, the folder, existing outputs.
        Errors of single images are in the summary.
    """
    listed = new_images(request)  # to list them takes as long as to plan them
    images = RunOfAll(prepare(request, listener), listed)
    return images.summary(tuple(images.outcomes(listener)))


MODEL = "starter/nuclei"


def demo_image() -> Path:
    """Return the bundled image: nuclei of DSB 2018 stage 1, CC0."""
    return starter_folder() / "demo" / "nuclei.tif"


def run_demo(folder: Path, listener: Listener = nobody) -> RunSummary:
    """Run the bundled model on the bundled image; earlier results are replaced.

    Parameters
    ----------
    folder : folder of the outputs
    """
    request = RunRequest(model=MODEL, images=(demo_image(),), folder=folder, overwrite=True)
    return run(request, listener)
