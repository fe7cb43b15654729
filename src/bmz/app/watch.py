"""``bmz run --watch``: images through a model as they appear in a folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

from bmz.base.progress import Listener, nobody
from bmz.engine.request import RunRequest
from bmz.engine.setup import prepare
from bmz.engine.watching import Watch
from bmz.image.arrival import WatchedFolder


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
    setup = prepare(replace(request, images=(), roots=(folder.root,)), listener)
    watch = Watch(setup, folder.images, time.monotonic, settle_s, listener)
    watch.begin()
    with closing(watch):
        yield watch
