"""Images among several processes or machines: the one module that imports Dask."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

from bmz.app.run.cluster_tiles import OnWorkers
from bmz.app.run.cluster_worker import run_in_worker, told_by_workers
from bmz.base.errors import BmzError, CouldNotTell
from bmz.base.progress import Listener, Note, Progress
from bmz.engine.in_parts import in_parts
from bmz.engine.request import RunRequest
from bmz.engine.run_image import claimed_output, image_result, run_in_blocks
from bmz.engine.setup import PlannedImage, RunSetup
from bmz.image.plates import PlateField
from bmz.plan.plan import Plan
from bmz.results.run import ImageDone, ImageFailed

Outcome = ImageDone | ImageFailed

ONE_THREAD: Mapping[str, str] = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # Dask lets malloc give memory back after every tile, which makes PyTorch 3 to 4 times slower
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
}
"""Of a worker: several on one machine share its processors."""

FILE_WITHIN_S = 60
"""A scheduler that is starting writes its file within this time."""

TIMES_ELSEWHERE = 1
"""How often an image that could not be run is tried again."""


class DaskMissing(CouldNotTell):
    """Dask is not installed."""

    def __init__(self, why: Exception) -> None:
        super().__init__(
            f"several workers need Dask, which does not import ({why})",
            hint="pip install 'bmz[dask]', or leave out --workers and --scheduler",
            code="cluster.no-dask",
        )


class SchedulerAbsent(CouldNotTell):
    """Nobody answers at the address of the scheduler."""

    def __init__(self, address: str, why: Exception) -> None:
        super().__init__(
            f"no Dask scheduler answers at '{address}' ({_first_line(why)})",
            hint="start one with 'dask scheduler', and its workers with 'dask worker'; for tls:// "
            "see 'Who may reach the scheduler' in docs/how-to/cluster.md",
            code="cluster.no-scheduler",
        )


class WorkerLost(CouldNotTell):
    """The workers that ran an image died, one after the other."""

    def __init__(self, image: Path, why: Exception) -> None:
        super().__init__(
            f"the worker that ran '{image.name}' died, and so did those that tried again ({why})",
            hint="most often its memory ran out: fewer --workers, or a smaller --tile",
            code="cluster.worker-lost",
        )


class SchedulerLost(CouldNotTell):
    """The scheduler ended, or the connection to it, before an image was done."""

    def __init__(self, image: Path, why: BaseException) -> None:
        super().__init__(
            f"the Dask scheduler was lost before '{image.name}' was done ({_first_line(why)})",
            hint="start it again, and go on with --resume",
            code="cluster.scheduler-lost",
        )


class WorkersDoNotStart(CouldNotTell):
    """Dask could not start processes on this machine."""

    def __init__(self, workers: int, why: Exception) -> None:
        super().__init__(
            f"Dask could not start {workers} processes on this computer ({_first_line(why)})",
            hint="most often memory or processes are limited: give fewer --workers",
            code="cluster.no-workers",
        )


def _first_line(why: BaseException) -> str:
    return str(why).strip().partition("\n")[0] or type(why).__name__


def run_on_workers(
    setup: RunSetup,
    planned: Sequence[PlannedImage | ImageDone | ImageFailed],
    files: Mapping[Path, Mapping[str, Path]],
    listener: Listener,
) -> Iterator[Outcome]:
    """Deal images out among workers; each loads the model once and writes its own results.

    An image that could not be run is tried once more by whoever is free; one whose worker died is
    given to another. Of an image that is run in parts the tiles are dealt out, and the labels are
    made here. The results come in the order of the call.

    Parameters
    ----------
    setup : with `workers` processes on this machine, or the address of a `scheduler`
    planned : what is to be run, and what is done or failed already
    files : for each image, kind -> path of each output; workers must see the same paths
    listener : hears of every image, and of what workers tell, in another thread

    Raises
    ------
    DaskMissing, SchedulerAbsent, WorkersDoNotStart
        There is no Dask, or no scheduler, or no process can be started.
    """
    request = setup.request
    done = {one.image: one for one in planned if not isinstance(one, PlannedImage)}
    waiting = [one for one in planned if isinstance(one, PlannedImage)]
    large = {one.image: one for one in waiting if in_parts(one, setup)}
    small = {one.image: one.field for one in waiting if one.image not in large}
    tiles = sum(_tiles(one.plan) for one in waiting if one.image in small)
    alone = replace(request, images=(), workers=1, scheduler=None, resume=True, overwrite=True)
    if request.scheduler is None:
        alone = replace(alone, threads=1)
    with ExitStack() as stack:
        client = _client(request, stack)
        found = chain(
            _dealt(client, alone, small, files),
            _in_tiles(client, alone, setup, list(large.values()), files, listener),
        )
        stack.enter_context(told_by_workers(client, tiles, listener))
        for image, outcome in found:
            done[image] = outcome
            listener(Progress("files", len(done), len(planned), image.name))
            if isinstance(outcome, ImageFailed):
                listener(Note(f"{image.name}: {outcome.error}", "error"))
    return iter([done[one.image] for one in planned])


def _tiles(plan: Plan) -> int:
    return plan.tiling.count * max(prod(plan.loop.values()), 1)


def _in_tiles(
    client: Any,  # noqa: ANN401  (Dask has no types)
    alone: RunRequest,
    setup: RunSetup,
    large: Sequence[PlannedImage],
    files: Mapping[Path, Mapping[str, Path]],
    listener: Listener,
) -> Iterator[tuple[Path, Outcome]]:
    from distributed import KilledWorker

    for planned in large:
        try:
            network = OnWorkers(client, alone, _worker_count(client, planned.image))
            paths = files[planned.image]
            with claimed_output(setup, planned.image, paths) as done:
                if done is not None:
                    yield planned.image, done
                    continue
                with run_in_blocks(setup, planned, network, listener) as opened:
                    result = image_result(setup, planned, opened, listener)
                    outcome = result.written(paths, setup.request.folder)
            yield planned.image, outcome
        except KilledWorker as why:
            yield planned.image, ImageFailed(planned.image, WorkerLost(planned.image, why))
        except (CancelledError, OSError) as why:  # a disk that refuses has a name of its own
            yield planned.image, ImageFailed(planned.image, SchedulerLost(planned.image, why))
        except BmzError as error:
            yield planned.image, ImageFailed(planned.image, error)


def _worker_count(client: Any, image: Path) -> int:  # noqa: ANN401  (Dask has no types)
    try:
        return max(len(client.nthreads()), 1)
    except (RuntimeError, OSError) as why:  # the former: the client has hung up
        raise SchedulerLost(image, why) from why


def _dealt(
    client: Any,  # noqa: ANN401  (Dask has no types)
    alone: RunRequest,
    images: Mapping[Path, PlateField | None],
    files: Mapping[Path, Mapping[str, Path]],
) -> Iterator[tuple[Path, Outcome]]:
    from distributed import KilledWorker, as_completed
    from distributed.core import CommClosedError

    def submit(image: Path) -> Any:  # noqa: ANN401  (as above)
        return client.submit(
            run_in_worker, alone, image, dict(files[image]), images[image], pure=False
        )

    image_of = {submit(image): image for image in images}
    tried = dict.fromkeys(images, 0)
    results = as_completed(list(image_of))
    for future in results:
        image = image_of.pop(future)
        try:
            outcome = future.result()
        except KilledWorker as why:
            outcome = ImageFailed(image, WorkerLost(image, why))
        except (CancelledError, CommClosedError, TimeoutError) as why:
            yield image, ImageFailed(image, SchedulerLost(image, why))
            continue
        if isinstance(outcome, ImageFailed) and isinstance(outcome.error, CouldNotTell):
            tried[image] += 1
            if tried[image] <= TIMES_ELSEWHERE:
                again = submit(image)
                image_of[again] = image
                results.add(again)
                continue
        yield image, outcome


def _client(request: RunRequest, stack: ExitStack) -> Any:  # noqa: ANN401  (Dask has no types)
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError as why:
        raise DaskMissing(why) from why
    if request.scheduler is not None:
        try:
            address = _address(request.scheduler)
            return stack.enter_context(Client(address, timeout="10s"))
        except (OSError, TimeoutError, ValueError, KeyError, TypeError, RecursionError) as why:
            # among them: a file that names none, and TLS without certificates in Dask's settings
            raise SchedulerAbsent(request.scheduler, why) from why
    stack.enter_context(dask.config.set({"distributed.nanny.pre-spawn-environ": dict(ONE_THREAD)}))
    try:
        cluster = stack.enter_context(
            LocalCluster(
                n_workers=request.workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=0,
                dashboard_address=None,
            )
        )
    except (RuntimeError, OSError, TimeoutError) as why:
        raise WorkersDoNotStart(request.workers, why) from why
    return stack.enter_context(Client(cluster))


def _address(word: str) -> str:
    """Give the address of a scheduler, which it may have written, or be about to, into a file."""
    if not word.endswith(".json"):
        return word
    file, until = Path(word), time.monotonic() + FILE_WITHIN_S
    while not file.exists() and time.monotonic() < until:
        time.sleep(0.1)
    return str(json.loads(file.read_text(encoding="utf-8"))["address"])
