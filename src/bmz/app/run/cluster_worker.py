"""What a worker does with an image, and what it tells of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bmz.base.errors import BmzError
from bmz.base.progress import Event, Listener, Note, Progress
from bmz.engine.replay import words_of
from bmz.engine.request import RunRequest
from bmz.engine.run_image import planned_or_failed, run_image
from bmz.engine.setup import RunSetup, opened, prepare
from bmz.image.plates import PlateField
from bmz.predict.backend import Backend
from bmz.predict.formats import runnable
from bmz.results.run import ImageDone, ImageFailed

TOPIC = "bmz"
"""Under which workers send events through Dask's scheduler."""


class ToCaller:
    """A listener in a worker that sends on what it hears."""

    def __init__(self, image: str) -> None:
        self._image, self._before = image, 0

    def __call__(self, event: Event, /) -> None:
        """Send how many tiles were done since the last time, or the words of a note."""
        from distributed import get_worker

        if isinstance(event, Note):
            named = event.kind == "hint" or event.text.startswith(self._image)
            text = event.text if named else f"{self._image}: {event.text}"
            told: dict[str, object] = {"note": text, "kind": event.kind}
        elif event.stage == "tiles":
            # every plane begins anew
            more = event.done - self._before if event.done > self._before else event.done
            self._before = event.done
            told = {"tiles": more}
        else:
            return
        get_worker().log_event(TOPIC, told)


@contextmanager
def told_by_workers(client: Any, tiles: int, listener: Listener) -> Iterator[None]:  # noqa: ANN401  (Dask has no types)
    """Pass on what workers send while the block runs.

    Parameters
    ----------
    client : of Dask
    tiles : of all images that are dealt out
    listener : is called in another thread, one event after the other
    """
    done = 0

    def heard(event: tuple[float, dict[str, Any]]) -> None:
        nonlocal done
        _, told = event
        if "note" in told:
            listener(Note(told["note"], told["kind"]))
        else:
            # those of an image that is tried again count twice
            done = min(done + told["tiles"], tiles)
            listener(Progress("tiles", done, tiles))

    client.subscribe_topic(TOPIC, heard)
    try:
        yield
    finally:
        client.unsubscribe_topic(TOPIC)


_LOADED: dict[str, tuple[RunSetup, Backend]] = {}
"""What this worker has loaded: one model, by the words that chose it."""


def run_in_worker(
    request: RunRequest, image: Path, files: Mapping[str, Path], field: PlateField | None = None
) -> ImageDone | ImageFailed:
    """Run one image in a worker, which loads the model with its first one.

    Parameters
    ----------
    request : without images
    image : to run
    files : kind -> path of each output
    field : of a plate, if it is one
    """
    try:
        setup, backend = loaded(request)
        planned = planned_or_failed(setup, image, field)
        if isinstance(planned, ImageFailed):
            return planned
        return run_image(setup, planned, backend, files, ToCaller(image.name))
    except BmzError as error:
        return ImageFailed(image, error)


def loaded(request: RunRequest) -> tuple[RunSetup, Backend]:
    """Give what this worker runs, loaded once for the same words; each has a GPU of its own."""
    key = json.dumps({**words_of(request), "trust": request.trust, "device": request.device})
    if key not in _LOADED:
        for _, backend in _LOADED.values():
            backend.close()
        _LOADED.clear()
        setup = prepare(request)
        word = own_gpu(request.device, _gpus(setup), _worker_name())
        if word != request.device:
            setup = prepare(replace(request, device=word))
        _LOADED[key] = (setup, opened(setup))
    return _LOADED[key]


def own_gpu(word: str, gpus: int, worker: object) -> str:
    """Deal GPUs out: the word for the device of one of several workers on this machine.

    Parameters
    ----------
    word : of the call, such as ``auto``; one that names a device is left as it is
    gpus : that the framework sees
    worker : its number; workers of a cluster have names, and are given their GPU by its manager
    """
    if gpus < 2 or word not in ("auto", "cuda") or not isinstance(worker, int):  # noqa: PLR2004  (one is for all)
        return word
    return f"cuda:{worker % gpus}"


def _gpus(setup: RunSetup) -> int:
    if setup.device.kind != "cuda":
        return 0
    return sum(one.kind == "cuda" for one in runnable(setup.decided.weights.format).devices())


def _worker_name() -> object:
    from distributed import get_worker

    return get_worker().name
