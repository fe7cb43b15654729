"""Run images or tiles in a worker, and report to the caller."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bmz.base.errors import BmzError
from bmz.base.progress import Event, Note, Progress, nobody
from bmz.base.values import dataclass
from bmz.engine.earlier_runs import options_of
from bmz.engine.memory import output_number
from bmz.engine.planes_in_blocks import tiles_of
from bmz.engine.prepared_image import PreparedImage
from bmz.engine.request import RunRequest
from bmz.engine.run_image import run_image
from bmz.engine.setup import RunSetup, follow_names, opened, planned_or_failed, prepare
from bmz.engine.tile_gate import expect_image, gated_precision
from bmz.image.formats import name_of
from bmz.image.given_names import forget_name
from bmz.image.info import ImageInfo
from bmz.image.region import FileSource, open_image
from bmz.image.series import PlateField
from bmz.plan.plan import Plan
from bmz.predict.backend import Backend
from bmz.predict.formats import runnable
from bmz.predict.mosaic import TileStore
from bmz.predict.tiles import fill
from bmz.results.images import ImageFailure, ImageRun
from bmz.zoo.settings import settings_from_environment

EVENTS = "bmz"
"""Topic under which workers send events through Dask's scheduler."""


class ToCaller:
    """A listener in a worker that forwards events to the caller."""

    def __init__(self, image: str) -> None:
        self._image, self._before = image, 0

    def __call__(self, event: Event, /) -> None:
        """Send the number of tiles finished since the last event, or the text of a note."""
        from distributed import get_worker

        if isinstance(event, Note):
            named = event.image or event.text.startswith(self._image)
            note = event if named else replace(event, image=self._image)
            message: dict[str, object] = {"note": asdict(note)}
        elif isinstance(event, Progress) and event.stage == "tiles":
            # the count restarts with every plane
            more = event.done - self._before if event.done > self._before else event.done
            self._before = event.done
            message = {"tiles": more}
        else:
            return
        get_worker().log_event(EVENTS, message)


_LOADED: dict[str, tuple[RunSetup, Backend]] = {}
"""The only model that this worker has loaded, by the options that selected it."""


@dataclass(frozen=True)
class ImageJob:
    """An image for a worker.

    Parameters
    ----------
    files : kind -> path of each output
    field : field of a plate, if it is one
    """

    image: Path
    files: Mapping[str, Path]
    field: PlateField | None = None


def run_in_worker(request: RunRequest, jobs: Sequence[ImageJob]) -> list[ImageRun | ImageFailure]:
    """Run images in a worker, which loads the model for the first of them.

    Parameters
    ----------
    request : options, without images
    jobs : images, in the order of the outcomes
    """
    return [_run_job(request, job) for job in jobs]


def _run_job(request: RunRequest, job: ImageJob) -> ImageRun | ImageFailure:
    forget_name(job.image)  # an earlier call may have given it another name
    try:
        setup, backend = loaded(request)
        planned = planned_or_failed(setup, job.image, job.field)
        if isinstance(planned, ImageFailure):
            return planned
        return run_image(setup, planned, backend, job.files, ToCaller(name_of(job.image)))
    except BmzError as error:
        return ImageFailure(job.image, error)


@dataclass(frozen=True)
class Share:
    """Some tiles of a plane or stack, for one worker.

    Parameters
    ----------
    info : metadata of the image, whose file has the same path for the worker
    prepare : for each input, a function that prepares the open image for cutting tiles
    plan : plan of all tiles
    folder : folder for the tiles, which has the same path for the worker
    tiles : numbers of the tiles
    """

    info: ImageInfo
    prepare: Sequence[Callable[[FileSource], PreparedImage]]
    plan: Plan
    folder: Path
    tiles: Sequence[int]


def run_share(request: RunRequest, share: Share) -> Mapping[str, Any]:
    """Run tiles in a worker, and write each to its own file.

    Returns
    -------
    dict
        ``backend``: name of the backend; ``precision``: the precision, if first tiles are
        compared with float32, else None; ``batch``: number of tiles at once
    """
    setup, backend = loaded(request)
    expect_image(backend, setup.network, share.info, share.plan, nobody)
    with open_image(share.info) as image:
        prepared = [prepare(image) for prepare in share.prepare]
        tiles = tiles_of(backend, share.plan, prepared, nobody)
        only = frozenset(share.tiles)
        store = TileStore(share.folder, tiles.places(), output_number(setup), only)
        batch = fill(store, tiles)
    return {"backend": backend.name, "precision": gated_precision(backend), "batch": batch}


def loaded(request: RunRequest) -> tuple[RunSetup, Backend]:
    """Return the model that this worker runs, loaded once for the same options.

    Each worker of a machine uses its own GPU.
    """
    follow_names(request, settings_from_environment())  # the loaded model may be of an earlier call
    options = ("trust", "device", "weights", "precision", "backend", "batch", "threads")
    key = json.dumps(
        {**options_of(request), **{option: getattr(request, option) for option in options}}
    )
    if key not in _LOADED:
        for _, backend in _LOADED.values():
            backend.close()
        _LOADED.clear()
        setup = prepare(request)
        device = own_gpu(request.device, _gpu_count(setup), _worker_name())
        if device != request.device:
            setup = prepare(replace(request, device=device))
        _LOADED[key] = (setup, opened(setup))
    return _LOADED[key]


def own_gpu(device: str, gpus: int, worker: object) -> str:
    """Choose the device of one of several workers on this machine.

    Parameters
    ----------
    device : option of the call, such as ``auto``; if it names a device, that is used
    gpus : GPUs that the framework can see
    worker : number of the worker; workers of a cluster have names, and its manager assigns the GPUs
    """
    choice = device in ("auto", "cuda") and gpus > 1  # a single GPU serves all workers
    return f"cuda:{worker % gpus}" if choice and isinstance(worker, int) else device


def _gpu_count(setup: RunSetup) -> int:
    if setup.device.kind != "cuda":
        return 0
    devices = runnable(setup.decided.weights.format).devices()
    return sum(device.kind == "cuda" for device in devices)


def _worker_name() -> object:
    from distributed import get_worker

    return get_worker().name
