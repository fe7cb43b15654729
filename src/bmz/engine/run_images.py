"""Run all images of a call: claim their files, run them, and write the outputs shared by all."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from math import prod
from pathlib import Path
from typing import Any, Generic, TypeVar

from bmz.base.computer import available_cpus
from bmz.base.errors import BmzError
from bmz.base.files import writable_folder
from bmz.base.progress import Listener, Progress, Stage
from bmz.engine.cluster import run_on_workers
from bmz.engine.earlier_runs import files_of_mask, finished, remove_leftovers, remove_replaced
from bmz.engine.image_header import GivenImage, given_image, given_masks
from bmz.engine.image_result import ImageResult, finish_plates, joint_tables, write_joint_tables
from bmz.engine.memory import bytes_in_one_piece, in_parts
from bmz.engine.prompting import given_prompts
from bmz.engine.request import RunRequest
from bmz.engine.run_image import ImageRunner, labelled_image, looked_at, run_given_image
from bmz.engine.setup import PlannedImage, RunSetup, look, opened, planned_or_failed
from bmz.engine.stages import NotesInTurn, Threads, failed, looking_through, settled
from bmz.image.formats import name_of
from bmz.image.series import PlateField, with_fields
from bmz.plan.plan import wide_side
from bmz.predict.backend import Backend, Device
from bmz.results.images import DeviceUse, ImageFailure, ImageRun, RunSummary
from bmz.write.crate import refuse_crate_of_others, write_crate
from bmz.write.image_labels import with_places_in_images
from bmz.write.names import files_of, output_paths, plate_folders, refuse_existing
from bmz.write.outputs import CRATE
from bmz.write.result import IN_IMAGE


def output_kinds(setup: RunSetup) -> tuple[str, ...]:
    """Return the kinds of output of a job; `files_of` removes unused tables of joined objects.

    Raises `PolygonsLacking` if one needs polygons and the recipe computes none.
    """
    recipe = setup.labelling.recipe
    return setup.request.kinds(labels=recipe is not None, polygons=not recipe or recipe.polygons)


class RunOfAll:
    """Run and write all images of a request; raises the errors of `claim_files`."""

    def __init__(self, setup: RunSetup, images: Mapping[Path, PlateField | None]) -> None:
        self._setup, self._images = setup, images
        paths = claim_files(setup, self._images)
        self._states = image_states(setup, self._images, paths)
        self._files = files_of_states(self._states, paths)
        self._uses: list[DeviceUse] = []

    def outcomes(self, listener: Listener) -> Iterator[ImageRun | ImageFailure]:
        """Run the images with `run_images`."""
        return run_images(self._setup, self._states, self._files, listener, used=self._uses.append)

    def summary(self, outcomes: Iterable[ImageRun | ImageFailure]) -> RunSummary:
        """Write the outputs shared by all images, and return a summary of the outcomes."""
        summary = RunSummary(tuple(outcomes), *self._uses)
        finish_folder(self._setup, self._images, summary.done)
        return summary


def claim_files(
    setup: RunSetup, images: Mapping[Path, PlateField | None]
) -> dict[Path, dict[str, Path]]:
    """Return the path of every output of every image, in a writable folder.

    Returns
    -------
    dict of dict
        paths by image, then by kind

    Raises
    ------
    OutputExists, OutputIsInput, FolderNotWritable
    """
    files = _paths_of_outputs(request := setup.request, images, output_kinds(setup))
    writable_folder(request.folder)
    if request.resume:
        remove_leftovers(request.folder, "writing")
    return files


def _paths_of_outputs(
    request: RunRequest, images: Mapping[Path, PlateField | None], kinds: Sequence[str]
) -> dict[Path, dict[str, Path]]:
    there = {image: field for image, field in images.items() if image not in request.absent}
    beside, zarr = [k for k in kinds if k != IN_IMAGE], request.labels_format == "zarr"
    files = output_paths(
        list(there), request.folder, beside, zarr=zarr, fields=there, roots=request.roots
    )
    if request.into_image is not None and IN_IMAGE in kinds:
        files = with_places_in_images(files, request.into_image)
    if CRATE in request.save:
        refuse_crate_of_others(request.folder)
    if not (request.overwrite or request.resume):
        joint = joint_tables(request.folder) if len(images) > 1 else {}
        of_all = [path for kind, path in joint.items() if kind in kinds]
        refuse_existing([*(path for paths in files.values() for path in paths.values()), *of_all])
    return files


def new_images(request: RunRequest) -> dict[Path, PlateField | None]:
    """List the images of a call before looking for the model, which may have to be downloaded.

    Raises
    ------
    OutputExists
    """
    kinds, images = request.kinds(), with_fields(request.images, request.series)
    _paths_of_outputs(request, images, kinds)
    return images


def image_states(
    setup: RunSetup,
    images: Mapping[Path, PlateField | None],
    files: Mapping[Path, Mapping[str, Path]],
) -> list[PlannedImage | ImageRun | ImageFailure]:
    """Plan the run of every image, or return its result from the earlier call that is resumed."""
    resume = setup.request.resume
    return [
        (finished(setup, image, files[image]) if resume and image in files else None)
        or planned_or_failed(setup, image, field)
        for image, field in images.items()
    ]


def files_of_states(
    states: Iterable[PlannedImage | ImageRun | ImageFailure],
    files: Mapping[Path, Mapping[str, Path]],
) -> dict[Path, Mapping[str, Path]]:
    """Return the outputs of each image that is run, without those that its plan does not create."""
    return {
        state.image: files_of(state.plan, files[state.image])
        for state in states
        if isinstance(state, PlannedImage)
    }


def finish_folder(
    setup: RunSetup, images: Mapping[Path, PlateField | None], done: Iterable[ImageRun]
) -> None:
    """Write the outputs shared by all images or a plate, and remove data kept for resuming.

    Parameters
    ----------
    images : images with their plate fields, from `bmz.image.series.with_fields`
    done : results of the images that have one
    """
    request, done = setup.request, tuple(done)
    write_joint_tables(request.folder, done)
    if CRATE in request.save:
        write_crate(request.folder)
    folders = plate_folders(list(images), images, request.folder, request.roots)
    finish_plates(folders, images, done, zarr=request.labels_format == "zarr")
    if request.resume:
        remove_leftovers(request.folder, "scratch")  # of other options, or of images that failed


def save_result(
    result: ImageResult, kinds: Sequence[str], folder: Path, *, overwrite: bool
) -> dict[str, Path]:
    """Write the result of an image that was run in memory.

    Parameters
    ----------
    kinds : kinds of output, from `output_kinds`
    folder : output folder, created if it does not exist
    overwrite : whether existing files may be replaced

    Raises
    ------
    OutputExists, FolderNotWritable
    """
    (paths,) = output_paths([result.image.info.place], folder, kinds).values()
    files = files_of(result.plan, paths)
    if not overwrite:
        refuse_existing(list(files.values()))
    writable_folder(folder)
    earlier = files_of_mask(files["record"])
    result.write(files, folder)
    remove_replaced(earlier, files["record"])
    return files


ImageState = PlannedImage | ImageRun | ImageFailure
"""An image that is to be run, or that has already finished or failed."""

Coming = TypeVar("Coming", bound=Future[Any])

MOST_AHEAD = 4
"""Number of images read ahead; on a GPU, the check takes several times as long as the network."""

MOST_BEHIND = 4
"""Number of threads that label, and that write; more would block each other in Python code."""


def run_images(
    setup: RunSetup,
    states: Sequence[ImageState],
    files: Mapping[Path, Mapping[str, Path]],
    listener: Listener,
    network: Callable[[], AbstractContextManager[Backend]] | None = None,
    used: Callable[[DeviceUse], None] = lambda _: None,
) -> Iterator[ImageRun | ImageFailure]:
    """Run all images of a call: here, in several processes, or on the workers of a scheduler.

    Parameters
    ----------
    states : every image of the call; those that have finished or failed are passed on
    files : for each image, kind -> path of each output
    listener : is called for each image and tile
    network : opens the network for images that are run here; None to load it, and release it at
        the end
    used : is called with the use of the device if all images are run here

    Yields
    ------
    ImageRun or ImageFailure
        in the order of `states`
    """
    request = setup.request
    outcomes = [state for state in states if not isinstance(state, PlannedImage)]
    if len(outcomes) == len(states):
        return iter(outcomes)
    if request.workers > 1 or request.scheduler is not None:
        return run_on_workers(setup, states, files, listener)

    def loaded() -> AbstractContextManager[Backend]:
        listener(Stage("loading"))
        return closing(opened(setup))

    network = network or loaded
    return _run_here(setup, states, files, listener, network, used)


def _run_here(
    setup: RunSetup,
    states: Sequence[ImageState],
    files: Mapping[Path, Mapping[str, Path]],
    listener: Listener,
    network: Callable[[], AbstractContextManager[Backend]],
    used: Callable[[DeviceUse], None],
) -> Iterator[ImageRun | ImageFailure]:
    room, notes, number = Room(setup), NotesInTurn(listener), count(1)

    def ended(turn: Iterable[tuple[Path, Future[Any]]]) -> Iterator[ImageRun | ImageFailure]:
        for image, coming in turn:
            try:
                yield coming.result()
            except BmzError as error:
                yield ImageFailure(image, error)
            room.leave(image)
            listener(Progress("files", next(number), len(states), name_of(image)))
            notes.end()

    with (
        looking_through(setup.network.weights.format, len(states)),
        read_ahead(setup, states, room.holds) as images,
        network() as backend,
        stages(setup, states, backend) as (runner, behind),
    ):
        turns = Turns[Any](room, behind)
        for state in images:
            yield from ended(turns.before(state))
            told = notes.begin()
            try:
                coming: Future[Any] = (
                    runner.begin(state, files[state.image], told)
                    if isinstance(state, PlannedImage)
                    else settled(state)
                )
            except BmzError as why:
                coming = failed(why)
            yield from ended(turns.behind(state.image, coming))
        yield from ended(turns.rest())
        used(runner.clock.use(backend.device))


class Turns(Generic[Coming]):
    """Queue of images in progress, which end in the order in which they were begun.

    Parameters
    ----------
    room : the memory in which they are held
    most : maximum number of images in progress besides the one that is begun
    """

    def __init__(self, room: Room, most: int) -> None:
        self._room, self._most = room, most
        self._begun: deque[tuple[Path, Coming]] = deque()

    def before(self, state: ImageState) -> Iterator[tuple[Path, Coming]]:
        """Yield the images that must end before this one can begin, then hold this one."""
        if isinstance(state, PlannedImage):
            while self._begun and not self._room.fits(state):
                yield self._begun.popleft()
            self._room.take(state)

    def behind(self, image: Path, coming: Coming) -> Iterator[tuple[Path, Coming]]:
        """Append an image to the queue; yield those that are done or exceed the maximum."""
        self._begun.append((image, coming))
        while self._begun and (len(self._begun) > self._most or self._begun[0][1].done()):
            yield self._begun.popleft()

    def rest(self) -> Iterator[tuple[Path, Coming]]:
        """Yield the remaining images."""
        while self._begun:
            yield self._begun.popleft()


class Room:
    """Memory of the images held at the same time, limited to what a run may use for one image.

    An image that needs more than the limit is held alone.
    """

    def __init__(self, setup: RunSetup) -> None:
        self._setup = setup
        self._held: dict[Path, int] = {}
        self._first_outside: Path | None = None

    def fits(self, planned: PlannedImage) -> bool:
        """Return whether an image may be held in addition to the present ones."""
        limit = planned.plan.blocks.memory_bytes
        if limit is None or not self._held or planned.image in self._held:
            return True
        return sum(self._held.values()) + bytes_in_one_piece(planned, self._setup) <= limit

    def holds(self, planned: PlannedImage) -> bool:
        """Return whether an image can be read before its turn; if so, hold it.

        If it cannot, no later image takes the memory that it waits for.
        """
        if in_parts(planned, self._setup):
            return False
        if self._first_outside is not None or not self.fits(planned):
            self._first_outside = self._first_outside or planned.image
            return False
        self.take(planned)
        return True

    def take(self, planned: PlannedImage) -> None:
        """Hold an image whose turn has come."""
        self._held[planned.image] = bytes_in_one_piece(planned, self._setup)
        if planned.image == self._first_outside:
            self._first_outside = None

    def leave(self, image: Path) -> None:
        """Release an image that is done."""
        self._held.pop(image, None)


@contextmanager
def stages(
    setup: RunSetup, states: Sequence[ImageState], backend: Backend
) -> Iterator[tuple[ImageRunner, int]]:
    """Yield the image runner, and how many images may be labelled and written during inference."""
    count = threads_behind(setup, states, backend.device)
    if not count:
        yield ImageRunner(setup, backend), 0
        return
    with Threads(count, whole=True) as ends, Threads(count) as labels:
        yield ImageRunner(setup, backend, labels=labels, ends=ends), count + 1


def threads_behind(setup: RunSetup, states: Sequence[ImageState], device: Device) -> int:
    """Return the number of threads that label images, and that write them; 0 for none.

    With a single plane or a single CPU there is nothing to run in parallel; a trial of memory
    would be disturbed by other threads.
    """
    plans = [state.plan for state in states if isinstance(state, PlannedImage)]
    planes = sum(max(prod(plan.loop.values()), 1) for plan in plans)
    if planes <= 1 or is_tried(setup) or available_cpus() == 1:
        return 0
    return 1 if device.kind == "cpu" else max(1, min(MOST_BEHIND, available_cpus() // 4))


def is_tried(setup: RunSetup) -> bool:
    """Return whether the tile size depends on a trial of memory use."""
    return wide_side(setup.model, setup.decided.way) is not None and not setup.request.tile


def run_in_memory(
    setup: RunSetup, images: Sequence[Path], network: Callable[[], Backend], listener: Listener
) -> Iterator[ImageResult]:
    """Run images in one piece, lazily; labels and maps stay in memory.

    While the network runs one image, the next is read and checked, and the previous is labelled.

    Parameters
    ----------
    network : returns the network after an image has passed the check; used only in this thread

    Raises
    ------
    BmzError
        As in `bmz.engine.run_image.run_given_image`, when it is the turn of the image.
    """
    if len(images) <= 1 or available_cpus() == 1 or is_tried(setup):
        for image in images:
            given = _given(setup, image)
            yield run_given_image(setup, given, network, listener)
        return
    room, notes = Room(setup), NotesInTurn(listener)

    def begin(state: PlannedImage | ImageFailure) -> Future[ImageResult]:
        told = notes.begin()
        try:
            if isinstance(state, ImageFailure):
                raise state.error
            predicted = ImageRunner(setup, network(), labels=ends).predicted(state, told)
        except BmzError as why:
            return failed(why)
        return ends(partial(labelled_image, setup, predicted, told))

    def ended(turn: Iterable[tuple[Path, Future[ImageResult]]]) -> Iterator[ImageResult]:
        for image, coming in turn:
            yield coming.result()
            room.leave(image)
            notes.end()

    with Threads(1) as ends, Threads(1) as ahead:
        turns = Turns[Future[ImageResult]](room, 1)
        for state in _looked_ahead(setup, images, ahead):
            yield from ended(turns.before(state))
            yield from ended(turns.behind(state.image, begin(state)))
        yield from ended(turns.rest())


def _given(setup: RunSetup, image: Path) -> GivenImage:
    given = given_image(image, setup.request.axes, setup.request.inputs)
    masks = given_masks(setup.request.relations, given.info.images[0])
    request = setup.request
    prompts = given_prompts(request.prompts, given.info.images[0], request.pixel_um)
    return replace(given, masks=masks, prompts=prompts)


def _looked_ahead(
    setup: RunSetup, images: Sequence[Path], ahead: Threads
) -> Iterator[PlannedImage | ImageFailure]:
    def look_at_image(image: Path) -> PlannedImage | ImageFailure:
        try:
            return looked_at(setup, _given(setup, image))
        except BmzError as why:
            return ImageFailure(image, why)

    following = ahead(partial(look_at_image, images[0]))
    for image in images[1:]:
        state = following.result()
        following = ahead(partial(look_at_image, image))
        yield state
    yield following.result()


@contextmanager
def read_ahead(
    setup: RunSetup, states: Sequence[ImageState], whole: Callable[[PlannedImage], bool]
) -> Iterator[Iterator[ImageState]]:
    """Yield the images in order, and read the first ones immediately, in other threads.

    If the tile size depends on a trial of memory use, which reading would disturb, each image is
    read when its turn comes.

    Parameters
    ----------
    whole : returns whether an image can be read as a whole before its turn
    """
    tried = is_tried(setup)

    def begin(state: ImageState) -> ImageState:
        if tried or not isinstance(state, PlannedImage) or not whole(state):
            return state
        return replace(state, looked=pool.submit(look, setup, state).result)

    def in_turn(begun: deque[ImageState]) -> Iterator[ImageState]:
        for state in states[ahead:]:
            begun.append(begin(state))
            yield begun.popleft()
        while begun:  # removed one by one, so that no image is held after it is done
            yield begun.popleft()

    ahead = max(1, min(MOST_AHEAD, available_cpus() - 1))
    with ThreadPoolExecutor(max_workers=ahead) as pool:
        try:
            yield in_turn(deque(map(begin, states[:ahead])))
        finally:
            pool.shutdown(cancel_futures=True)
