"""``bmz run``: images through a model to label masks, one bad image never stopping the others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from bmz.engine.watching import Watch
    from bmz.image.arrival import WatchedFolder


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


@contextmanager
def watched(
    request: RunRequest, folder: WatchedFolder, settle_s: float, listener: Listener = nobody
) -> Iterator[Watch]:
    """Prepare a model for the images that appear in a folder; each round runs those that are new.

    Parameters
    ----------
    request : the options of the call; its images are not looked at
    folder : in which images appear
    settle_s : so long nothing of an image may change before it is run, s
    listener : is called as files and tiles are finished

    Raises
    ------
    BmzError
        What concerns all images: the model, the options, the folder of the results. What concerns
        one image is an outcome of a round.
    """
    from bmz.engine.watching import Watch  # here: few runs watch a folder

    setup = prepare(replace(request, images=(), roots=(folder.root,)), listener)
    watch = Watch(setup, folder.images, time.monotonic, settle_s, listener)
    watch.begin()
    with closing(watch):
        yield watch


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
