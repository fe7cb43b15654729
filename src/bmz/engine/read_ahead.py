"""The next images are read and checked while the network runs on the one before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

from bmz.engine.setup import PlannedImage, RunSetup, look
from bmz.plan.plan import wide_side
from bmz.predict.onnx import available_cpus
from bmz.results.run import ImageDone, ImageFailed

Waiting = PlannedImage | ImageDone | ImageFailed

MOST_AHEAD = 4
"""Images; on a GPU the check takes several times as long as the network."""


@contextmanager
def read_ahead(
    setup: RunSetup, images: Sequence[Waiting], whole: Callable[[PlannedImage], bool]
) -> Iterator[Iterator[Waiting]]:
    """Give the images in their order; of the first ones the reading begins at once.

    Where the tiles hang on the memory that a trial takes, which reading would disturb, each image
    is read when its turn comes.

    Parameters
    ----------
    whole : says whether an image is run in one piece; others are read in parts
    """
    tried = wide_side(setup.model, setup.decided.way) is not None and not setup.request.tile

    def begun(one: Waiting) -> Waiting:
        if tried or not isinstance(one, PlannedImage) or not whole(one):
            return one
        return replace(one, looked=pool.submit(look, setup, one).result)

    def in_turn(under_way: deque[Waiting]) -> Iterator[Waiting]:
        for one in images[ahead:]:
            under_way.append(begun(one))
            yield under_way.popleft()
        while under_way:  # taken out one by one, so that none is held when it is done
            yield under_way.popleft()

    ahead = max(1, min(MOST_AHEAD, available_cpus() - 1))
    with ThreadPoolExecutor(max_workers=ahead) as pool:
        try:
            yield in_turn(deque(map(begun, images[:ahead])))
        finally:
            pool.shutdown(cancel_futures=True)
