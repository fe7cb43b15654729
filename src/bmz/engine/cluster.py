"""Distribute images among processes or machines; the only module that imports Dask."""

from __future__ import annotations

import json
import sys
import time
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import field, replace
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any, Protocol, TypeVar

from bmz.base.errors import BmzError, CouldNotTell
from bmz.base.progress import Listener, Note, Progress
from bmz.base.values import dataclass
from bmz.engine.cluster_worker import EVENTS, ImageJob, Share, run_in_worker, run_share
from bmz.engine.earlier_runs import PlaneFolder, claimed_output
from bmz.engine.labelling import Decoding
from bmz.engine.memory import dealt_by_tiles, output_number
from bmz.engine.prepared_image import PreparedImage
from bmz.engine.request import RunRequest
from bmz.engine.run_image import image_result, run_in_blocks
from bmz.engine.setup import PlannedImage, RunSetup
from bmz.image.formats import name_of
from bmz.image.given_names import names_for
from bmz.plan.plan import Plan
from bmz.plan.weights_choice import PrecisionChoice
from bmz.predict.frameworks import framework_of
from bmz.predict.mosaic import Places, TileStore
from bmz.predict.tiles import Attempts
from bmz.results.images import ImageFailure, ImageRun

Outcome = ImageRun | ImageFailure

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

ONE_THREAD: Mapping[str, str] = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # by default, Dask makes malloc free memory after every tile: PyTorch is 3 to 4 times slower
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
}
"""Environment of a worker; several workers on one machine share its processors."""

START_METHOD, FORK_SERVER = "distributed.worker.multiprocessing-method", "forkserver"
"""Setting of Dask: workers are forked from a process that has imported what they all need."""

FILE_WITHIN_S = 60
"""Time within which a starting scheduler writes its file, s."""

TIMES_ELSEWHERE = 1
"""Number of times that an image that could not be run is tried again."""

SHARES = 8
"""Tasks per worker: enough that a slow worker delays no other, few enough to be reported."""

SINGLE_TASKS = 1024
"""Maximum number of images for which each image is its own task."""

MOST_IN_TASK = 8
"""Maximum images per task: of 10,000 images, 100 workers still get a dozen tasks each."""


class Future(Protocol[T_co]):
    """The outcome of a call on a worker: the part of Dask's class used here; it has no types."""

    def result(self) -> T_co:
        """Wait for the outcome and return it, or raise the error of the call."""


class Client(Protocol):
    """A connection to a scheduler: the part of Dask's class used here; it has no types."""

    def submit(
        self, function: Callable[..., T], *arguments: object, pure: bool, retries: int = 0
    ) -> Future[T]:
        """Call a function on a worker."""

    def cancel(self, futures: list[Future[Any]]) -> None:
        """Cancel calls that have not begun."""

    def nthreads(self) -> Mapping[str, int]:
        """Return the number of threads of each worker."""

    def subscribe_topic(self, topic: str, handler: Callable[..., None]) -> None:
        """Call a function in another thread for each event that workers send."""

    def unsubscribe_topic(self, topic: str) -> None:
        """Stop calling the function for these events."""


class DaskMissing(CouldNotTell):
    """Dask is not installed."""

    def __init__(self, why: Exception) -> None:
        super().__init__(
            f"several workers need Dask, which cannot be imported ({why})",
            hint="pip install 'bmz[dask]', or leave out --workers and --scheduler",
            code="cluster.no-dask",
        )


class SchedulerAbsent(CouldNotTell):
    """The scheduler does not answer at its address."""

    def __init__(self, address: str, why: Exception) -> None:
        super().__init__(
            f"no Dask scheduler answers at '{address}' ({_first_line(why)})",
            hint="start one with 'dask scheduler', and its workers with 'dask worker'; for tls:// "
            "see 'Who may reach the scheduler' in docs/how-to/cluster.md",
            code="cluster.no-scheduler",
        )


class WorkerLost(CouldNotTell):
    """The workers that ran an image died, one after another."""

    def __init__(self, image: Path, why: Exception) -> None:
        super().__init__(
            f"the worker that ran '{name_of(image)}' died, and so did the workers that tried "
            f"again ({why})",
            hint="most often memory ran out: use fewer --workers, or a smaller --tile",
            code="cluster.worker-lost",
        )


class SchedulerLost(CouldNotTell):
    """The scheduler or the connection to it ended before an image was finished."""

    def __init__(self, image: Path, why: BaseException) -> None:
        super().__init__(
            f"the Dask scheduler was lost before '{name_of(image)}' was done ({_first_line(why)})",
            hint="start the scheduler again, and continue with --resume",
            code="cluster.scheduler-lost",
        )


class WorkersDoNotStart(CouldNotTell):
    """Dask could not start processes on this machine."""

    def __init__(self, workers: int, why: Exception) -> None:
        super().__init__(
            f"Dask could not start {workers} processes on this computer ({_first_line(why)})",
            hint="use fewer --workers if memory or processes are limited; a script of your own "
            "must start bmz below 'if __name__ == \"__main__\":', because each worker "
            "imports the script",
            code="cluster.no-workers",
        )


def _first_line(why: BaseException) -> str:
    return str(why).strip().partition("\n")[0] or type(why).__name__


def run_on_workers(
    setup: RunSetup,
    states: Sequence[PlannedImage | ImageRun | ImageFailure],
    files: Mapping[Path, Mapping[str, Path]],
    listener: Listener,
) -> Iterator[Outcome]:
    """Distribute images among workers; each loads the model once and writes its own results.

    An image that could not be run is tried once more on any free worker; an image whose worker
    died is given to another one. Large numbers of images are distributed in groups. If an image is
    run in parts, its tiles are distributed, and labels are made here. Results are in call order.

    Parameters
    ----------
    setup : setup with `workers` processes on this machine, or the address of a `scheduler`
    states : all images of the call: to be run, finished or failed
    files : image -> kind -> path of each output; paths must be the same for the workers
    listener : is notified of every image and, in another thread, of reports of the workers

    Raises
    ------
    DaskMissing, SchedulerAbsent, WorkersDoNotStart
        Dask is absent, the scheduler does not answer, or no process can be started.
    """
    request = setup.request
    outcomes = {state.image: state for state in states if not isinstance(state, PlannedImage)}
    waiting = [state for state in states if isinstance(state, PlannedImage)]
    large = {planned.image: planned for planned in waiting if dealt_by_tiles(planned, setup)}
    small = [planned for planned in waiting if planned.image not in large]
    tiles = sum(_tile_count(planned.plan) for planned in small)
    jobs = [ImageJob(one.image, dict(files[one.image]), one.field) for one in small]
    worker_request = _for_one_worker(request)
    with ExitStack() as stack:
        client = _client(setup, stack)
        new_outcomes = chain(
            outcomes_of_images(client, worker_request, jobs),
            _outcomes_by_tiles(
                client, worker_request, setup, list(large.values()), files, listener
            ),
        )
        stack.enter_context(events_of_workers(client, tiles, listener))
        for image, outcome in new_outcomes:
            outcomes[image] = outcome
            listener(Progress("files", len(outcomes), len(states), name_of(image)))
            if isinstance(outcome, ImageFailure):
                listener(Note(f"{name_of(image)}: {outcome.error}", "error"))
    return iter([outcomes[state.image] for state in states])


def _for_one_worker(request: RunRequest) -> RunRequest:
    return replace(
        request,
        images=(),
        absent={},
        workers=1,
        scheduler=None,
        threads=1 if request.scheduler is None else request.threads,
        resume=True,
        overwrite=True,
    )


def _tile_count(plan: Plan) -> int:
    return plan.tiling.count * max(prod(plan.loop.values()), 1)


def _outcomes_by_tiles(
    client: Client,
    worker_request: RunRequest,
    setup: RunSetup,
    large: Sequence[PlannedImage],
    files: Mapping[Path, Mapping[str, Path]],
    listener: Listener,
) -> Iterator[tuple[Path, Outcome]]:
    from distributed import KilledWorker

    for planned in large:
        try:
            network = OnWorkers(client, worker_request, _worker_count(client, planned.image))
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
            yield planned.image, ImageFailure(planned.image, WorkerLost(planned.image, why))
        except (CancelledError, OSError) as why:  # disk faults raise a `BmzError`
            yield planned.image, ImageFailure(planned.image, SchedulerLost(planned.image, why))
        except BmzError as error:
            yield planned.image, ImageFailure(planned.image, error)


@dataclass
class OnWorkers:
    """Distributes the tiles of a plane or stack among workers.

    Parameters
    ----------
    client : client of Dask
    worker_request : options of the call, for one worker
    workers : number of workers
    """

    client: Client
    worker_request: RunRequest
    workers: int
    name: str = field(default="", init=False)
    """Name of the backend, once a worker has reported it."""

    precision: PrecisionChoice | None = field(default=None, init=False)
    """Precision in which the network ran, if first tiles are compared with float32."""

    def decoding(self, listener: Listener) -> Decoding:
        """Return how labels of blocks are made: here, from arrays."""
        return Decoding(listener=listener)

    def fill(
        self,
        setup: RunSetup,
        plan: Plan,
        prepared: Sequence[PreparedImage],
        folder: PlaneFolder,
        listener: Listener,
    ) -> tuple[TileStore, Plan]:
        """Run the tiles that are not in the folder yet, with smaller tiles if memory runs out.

        Raises
        ------
        KilledWorker
            The workers that ran some tiles died, one after another.
        BmzError
            The error of a worker, which another worker raised again.
        """
        attempts = Attempts(plan, setup.model, listener)
        for attempt in attempts:
            with attempt as current:
                place = folder.maps(current)
                store = TileStore(
                    place, Places(current.tiling, current.outputs, 1), output_number(setup)
                )
                info, elsewhere = prepared[0].image.info, [each.elsewhere() for each in prepared]
                share = Share(info, elsewhere, current, place, ())
                attempts.succeed(self._run_shares(store, share, listener))
        return store, attempts.plan

    def _run_shares(self, store: TileStore, share: Share, listener: Listener) -> int:
        from distributed import as_completed

        missing, total = store.missing_numbers(), share.plan.tiling.count
        batch, size = share.plan.batch, max(-(-len(missing) // (self.workers * SHARES)), 1)
        shares = [
            replace(share, tiles=tuple(missing[at : at + size]))
            for at in range(0, len(missing), size)
        ]
        # Dask runs the share of a dead worker again, without the tiles that are already stored
        waiting = {
            self.client.submit(run_share, self.worker_request, part, pure=False, retries=1): len(
                part.tiles
            )
            for part in shares
        }
        done = total - len(missing)
        try:
            for future in as_completed(list(waiting)):
                report = future.result()
                batch, self.name = min(batch, report["batch"]), report["backend"]
                self.precision = report["precision"]
                done += waiting[future]
                listener(Progress("tiles", done, total))
        except BaseException:
            with suppress(CancelledError, OSError, TimeoutError):  # the scheduler may be lost
                self.client.cancel(list(waiting))
            raise
        return batch


@contextmanager
def events_of_workers(client: Client, tiles: int, listener: Listener) -> Iterator[None]:
    """Forward what workers send while the block runs.

    Parameters
    ----------
    client : client of Dask
    tiles : number of tiles of all images that are distributed
    listener : is called in another thread, one event at a time
    """
    done = 0

    def pass_on(event: tuple[float, dict[str, Any]]) -> None:
        nonlocal done
        _, message = event
        if "note" in message:
            listener(Note(**message["note"]))
        else:
            # the tiles of an image that is tried again are reported twice
            done = min(done + message["tiles"], tiles)
            listener(Progress("tiles", done, tiles))

    client.subscribe_topic(EVENTS, pass_on)
    try:
        yield
    finally:
        client.unsubscribe_topic(EVENTS)


def _worker_count(client: Client, image: Path) -> int:
    try:
        return max(len(client.nthreads()), 1)
    except (RuntimeError, OSError) as why:  # RuntimeError: the client is closed
        raise SchedulerLost(image, why) from why


def dealt_out(jobs: Sequence[ImageJob]) -> list[Sequence[ImageJob]]:
    """Group images into tasks, because Dask takes milliseconds for each task.

    The groups do not depend on the number of workers, because more may join later.
    """
    size = min(-(-len(jobs) // SINGLE_TASKS), MOST_IN_TASK)
    return [jobs[at : at + size] for at in range(0, len(jobs), size)] if jobs else []


def outcomes_of_images(
    client: Client, worker_request: RunRequest, jobs: Sequence[ImageJob]
) -> Iterator[tuple[Path, Outcome]]:
    """Run images on workers; an image that may succeed elsewhere is tried once more, alone.

    Parameters
    ----------
    worker_request : options of the call, for one worker
    jobs : the images, each only once

    Yields
    ------
    Path, Outcome
        Each image, in the order in which they finish.
    """
    from distributed import as_completed

    def submit(part: Sequence[ImageJob]) -> Future[list[Outcome]]:
        # sending the names of all images with each task would take quadratic space
        names = [names_for(job.image, worker_request.names) for job in part]
        own = replace(worker_request, names=dict(ChainMap(*names)))
        return client.submit(run_in_worker, own, part, pure=False)

    part_of = {submit(part): part for part in dealt_out(jobs)}
    attempts = dict.fromkeys((job.image for job in jobs), 0)
    results = as_completed(list(part_of))
    for future in results:
        part = part_of.pop(future)
        for job, outcome in zip(part, _outcomes_of_part(future, part), strict=True):
            if _may_work_elsewhere(outcome) and attempts[job.image] < TIMES_ELSEWHERE:
                attempts[job.image] += 1
                second = submit([job])
                part_of[second] = [job]
                results.add(second)
            else:
                yield job.image, outcome


def _outcomes_of_part(future: Future[list[Outcome]], part: Sequence[ImageJob]) -> list[Outcome]:
    from distributed import KilledWorker
    from distributed.core import CommClosedError

    try:
        return future.result()
    except KilledWorker as why:
        return [ImageFailure(job.image, WorkerLost(job.image, why)) for job in part]
    except (CancelledError, CommClosedError, TimeoutError) as why:
        return [ImageFailure(job.image, SchedulerLost(job.image, why)) for job in part]


def _may_work_elsewhere(outcome: Outcome) -> bool:
    if not isinstance(outcome, ImageFailure) or isinstance(outcome.error, SchedulerLost):
        return False
    return isinstance(outcome.error, CouldNotTell)


def _client(setup: RunSetup, stack: ExitStack) -> Client:
    request = setup.request
    try:
        import dask
        import distributed
    except ImportError as why:
        raise DaskMissing(why) from why
    if request.scheduler is not None:
        return _connected(request.scheduler, stack)
    stack.enter_context(dask.config.set({"distributed.nanny.pre-spawn-environ": dict(ONE_THREAD)}))
    if sys.platform == "linux":  # elsewhere system libraries do not survive a fork
        stack.enter_context(dask.config.set({START_METHOD: FORK_SERVER}))
        context = distributed.utils.get_mp_context()
        context.set_forkserver_preload(["distributed", *shared_imports(setup)])
    try:
        cluster = stack.enter_context(
            distributed.LocalCluster(
                n_workers=request.workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=0,
                dashboard_address=None,
            )
        )
    except (RuntimeError, OSError, TimeoutError) as why:
        raise WorkersDoNotStart(request.workers, why) from why
    client: Client = stack.enter_context(distributed.Client(cluster))
    return client


def shared_imports(setup: RunSetup) -> list[str]:
    """List the modules that all workers of a computer need, so that they are imported once."""
    weights, precision = setup.decided.weights, setup.decided.precision
    framework = framework_of(weights.format, precision.backend)
    return [run_in_worker.__module__, *([framework.module] if framework.forks else [])]


def _connected(scheduler: str, stack: ExitStack) -> Client:
    import distributed

    try:
        address = _address(scheduler)
        client: Client = stack.enter_context(distributed.Client(address, timeout="10s"))
    except (OSError, TimeoutError, ValueError, KeyError, TypeError, RecursionError) as why:
        # including a file without an address, and TLS without certificates in Dask's settings
        raise SchedulerAbsent(scheduler, why) from why
    return client


def _address(scheduler: str) -> str:
    """Return the address of a scheduler, which may be in a file that it writes when it starts."""
    if not scheduler.endswith(".json"):
        return scheduler
    file, until = Path(scheduler), time.monotonic() + FILE_WITHIN_S
    while not file.exists() and time.monotonic() < until:
        time.sleep(0.1)
    return str(json.loads(file.read_text(encoding="utf-8"))["address"])
