"""All images of a call, one after the other: the next ones are read and checked meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from bmz.base.errors import BmzError
from bmz.base.progress import Listener, Progress
from bmz.engine.cluster import run_on_workers
from bmz.engine.run_image import in_one_piece, run_image
from bmz.engine.setup import PlannedImage, RunSetup, look, opened
from bmz.image.formats import name_of
from bmz.plan.plan import wide_side
from bmz.predict.onnx import available_cpus
from bmz.results.run import ImageDone, ImageFailed

ImageState = PlannedImage | ImageDone | ImageFailed
"""An image that is to be run, or that is finished or failed already."""

MOST_AHEAD = 4
"""Images; on a GPU the check takes several times as long as the network."""


def run_images(
    setup: RunSetup,
    states: Sequence[ImageState],
    files: Mapping[Path, Mapping[str, Path]],
    listener: Listener,
) -> Iterator[ImageDone | ImageFailed]:
    """Run all images of a call: here, on several processes, or on the workers of a scheduler.

    Parameters
    ----------
    states : every image of the call; those that are finished or failed are passed on
    files : for each image, kind -> path of each output
    listener : is called for each image and tile

    Yields
    ------
    ImageDone or ImageFailed
        in the order of `states`
    """
    request = setup.request
    outcomes = [state for state in states if not isinstance(state, PlannedImage)]
    if len(outcomes) == len(states):
        return iter(outcomes)
    if request.workers > 1 or request.scheduler is not None:
        return run_on_workers(setup, states, files, listener)
    return _run_here(setup, states, files, listener)


def _run_here(
    setup: RunSetup,
    states: Sequence[ImageState],
    files: Mapping[Path, Mapping[str, Path]],
    listener: Listener,
) -> Iterator[ImageDone | ImageFailed]:
    whole = partial(in_one_piece, setup)
    with read_ahead(setup, states, whole) as images, closing(opened(setup)) as backend:
        for number, state in enumerate(images, start=1):
            if not isinstance(state, PlannedImage):
                yield state
            else:
                try:
                    yield run_image(setup, state, backend, files[state.image], listener)
                except BmzError as error:
                    yield ImageFailed(state.image, error)
            listener(Progress("files", number, len(states), name_of(state.image)))


@contextmanager
def read_ahead(
    setup: RunSetup, states: Sequence[ImageState], whole: Callable[[PlannedImage], bool]
) -> Iterator[Iterator[ImageState]]:
    """Give the images in their order, and read the first ones at once, in other threads.

    Where the tiles depend on the memory that a trial takes, which reading would disturb, each image
    is read when its turn comes.

    Parameters
    ----------
    whole : says whether an image is run in one piece; others are read in parts
    """
    tried = wide_side(setup.model, setup.decided.way) is not None and not setup.request.tile

    def begin(state: ImageState) -> ImageState:
        if tried or not isinstance(state, PlannedImage) or not whole(state):
            return state
        return replace(state, looked=pool.submit(look, setup, state).result)

    def in_turn(begun: deque[ImageState]) -> Iterator[ImageState]:
        for state in states[ahead:]:
            begun.append(begin(state))
            yield begun.popleft()
        while begun:  # taken out one by one, so that none is held when it is done
            yield begun.popleft()

    ahead = max(1, min(MOST_AHEAD, available_cpus() - 1))
    with ThreadPoolExecutor(max_workers=ahead) as pool:
        try:
            yield in_turn(deque(map(begin, states[:ahead])))
        finally:
            pool.shutdown(cancel_futures=True)
