"""Run the images that appear in a folder, round by round, with a network that is loaded once."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from bmz.base.errors import BmzError, WrongUsage
from bmz.base.files import writable_folder
from bmz.base.progress import Listener, Note, nobody
from bmz.engine.earlier_runs import file_of_results, finished, remove_leftovers
from bmz.engine.image_result import (
    finish_plates,
    joint_tables,
    write_joint_tables,
)
from bmz.engine.request import RunRequest
from bmz.engine.run_images import ImageState, files_of_states, output_kinds, run_images
from bmz.engine.setup import PlannedImage, RunSetup, opened, planned_or_failed, prepare
from bmz.image.listing import Settling, Stamp, WatchedFolder, stamps_of
from bmz.image.series import FieldMissing, PlateField, with_fields
from bmz.predict.backend import Backend
from bmz.predict.confined import ChildDied
from bmz.results.images import ImageFailure, ImageRun, RunSummary
from bmz.write.names import StandingNames, paths_at, refuse_existing
from bmz.write.outputs import RECORD, RECORD_ENDING

Outcome = ImageRun | ImageFailure
Fields = Mapping[Path, PlateField | None]
"""Image -> its field of a plate; None if it does not belong to a plate."""


class ResultOutdated(WrongUsage):
    """The results of an image would replace those of another image or of other options."""

    def __init__(self, image: Path, record: Path) -> None:
        super().__init__(
            f"the results at '{record}' were not made from '{image}', or were made with another "
            "model or other options",
            hint="--overwrite replaces them; -o NAME writes to another folder",
            code="output.outdated",
        )


PAUSE_BETWEEN_JOINS = 4
"""Minimum pause between writing joint tables, in multiples of the time that writing them took.
With many images, writing them every round would take longer than running the images."""


class Watch:
    """Run the images of a folder as they appear.

    Parameters
    ----------
    setup : setup of a request without images, whose only root is the watched folder
    listed : returns the images that exist now
    clock : returns a monotonic time, s
    settle_s : time for which an image must be unchanged before it is run, s
    listener : is called for each image and tile
    """

    def __init__(
        self,
        setup: RunSetup,
        listed: Callable[[], Sequence[Path]],
        clock: Callable[[], float],
        settle_s: float,
        listener: Listener = nobody,
    ) -> None:
        # finished results of an earlier call are kept, and unfinished ones are resumed
        self._setup = replace(setup, request=replace(setup.request, resume=True))
        self._listed, self._clock, self._listener = listed, clock, listener
        self._settling = Settling(settle_s)
        self._root = setup.request.roots[0]
        self._names = StandingNames(
            setup.request.folder,
            self._root,
            lambda base: file_of_results(base.with_name(f"{base.name}{RECORD_ENDING}")),
        )
        self._taken: dict[Path, Stamp] = {}
        self._moving: tuple[Path, ...] = ()
        self._parts: dict[Path, Fields] = {}
        self._outcomes: dict[Path, Outcome] = {}
        self._results: dict[Path, ImageRun] = {}
        self._unjoined: list[Path] = []
        self._join_from_s = 0.0
        self._backend: Backend | None = None

    @property
    def summary(self) -> RunSummary:
        """Return the last outcome of every image that was taken."""
        return RunSummary(tuple(self._outcomes.values()))

    @property
    def waiting(self) -> tuple[Path, ...]:
        """Return the images that changed too recently to be run, or whose turn has not come."""
        taken = (image for parts in self._parts.values() for image in parts)
        return (*self._moving, *(image for image in taken if image not in self._outcomes))

    def begin(self) -> None:
        """Raise if results cannot be written, or if tables of other runs would be replaced.

        Raises
        ------
        FolderNotWritable, OutputExists
        """
        request = self._setup.request
        kinds = output_kinds(self._setup)
        joint = [path for kind, path in joint_tables(request.folder).items() if kind in kinds]
        ours = any(path.exists() for path in joint) and any(
            request.folder.rglob(f"*{RECORD_ENDING}")
        )
        if not (request.overwrite or ours):
            refuse_existing(joint)
        writable_folder(request.folder)
        remove_leftovers(request.folder, "writing")

    def round(self) -> Generator[Outcome]:
        """Run the images that are new or changed since the last round, and no longer changing.

        Yields
        ------
        ImageRun or ImageFailure
            outcome of each image that was run or failed; the listener is told the number of
            images that an earlier call has finished

        Raises
        ------
        BmzError
            The network cannot be loaded.
        """
        stamps = stamps_of(self._listed())
        self._forget_failures_without(stamps)
        settled = self._settling.settled(stamps, self._clock())
        self._moving = tuple(image for image in stamps if image not in settled)
        new = [image for image in settled if self._taken.get(image) != stamps[image]]
        self._taken |= {image: stamps[image] for image in new}
        fields, states = self._states(new)
        known = [state for state in states if isinstance(state, ImageRun)]
        self._keep(known)
        if known:
            count = f"{len(known)} image{'s' * (len(known) > 1)}"
            self._listener(Note(f"{count} already done: the results exist"))
        yield from self._run([state for state in states if not isinstance(state, ImageRun)], fields)
        if self._clock() >= self._join_from_s:
            self.join()

    def join(self) -> None:
        """Write the tables of all images and the files of plates, if there are new results."""
        if not self._unjoined:
            return
        began = self._clock()
        folder = self._setup.request.folder
        write_joint_tables(folder, tuple(self._results.values()), self._root)
        fields = {i: f for parts in self._parts.values() for i, f in parts.items()}
        plates = {f.plate for i in self._unjoined if (f := fields.get(i)) is not None}
        finish_plates(
            {plate: self._names.base(plate) for plate in plates},
            fields,
            self._results.values(),
            zarr=self._setup.request.labels_format == "zarr",
        )
        self._unjoined.clear()
        ended = self._clock()
        self._join_from_s = ended + PAUSE_BETWEEN_JOINS * (ended - began)

    def close(self) -> None:
        """Release the network."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def _run(self, states: Sequence[ImageState], fields: Fields) -> Iterator[Outcome]:
        paths = {
            state.image: self._paths(state.image, fields)
            for state in states
            if isinstance(state, PlannedImage)
        }
        files = files_of_states(states, paths)
        network_ended = False
        for outcome in run_images(self._setup, states, files, self._listener, self._network):
            if network_ended and _is_end_of_network(outcome):
                self._take_again(outcome.image)
                continue
            network_ended = network_ended or _is_end_of_network(outcome)
            self._keep([outcome])
            yield outcome
        if network_ended:
            self.close()  # the next image loads it again

    def _take_again(self, image: Path) -> None:
        """Mark an image to be run in the next round, as the network ended during another image."""
        for source, parts in self._parts.items():
            if image in parts:
                self._taken.pop(source, None)

    def _keep(self, outcomes: Sequence[Outcome]) -> None:
        self._outcomes |= {outcome.image: outcome for outcome in outcomes}
        done = {outcome.image: outcome for outcome in outcomes if isinstance(outcome, ImageRun)}
        self._results |= done
        self._unjoined += done

    def _forget_failures_without(self, stamps: Mapping[Path, Stamp]) -> None:
        """Drop failures of images that no longer exist, such as of a renamed file."""
        for gone in [source for source in self._taken if source not in stamps]:
            parts = dict.fromkeys([gone, *self._parts.get(gone, ())])
            failed = [i for i in parts if isinstance(self._outcomes.get(i), ImageFailure)]
            for image in failed:
                del self._outcomes[image]
            if failed:
                del self._taken[gone]

    def _states(self, sources: Sequence[Path]) -> tuple[Fields, list[ImageState]]:
        fields: dict[Path, PlateField | None] = {}
        states: list[ImageState] = []
        for source in sources:
            # it may contain other images now, to which an earlier failure does not apply
            for image in [source, *self._parts.pop(source, ())]:
                self._outcomes.pop(image, None)
            parts = self._images_of(source)
            if isinstance(parts, ImageFailure):
                states.append(parts)
                continue
            self._parts[source] = parts
            fields |= parts
            states += [self._state(image, field) for image, field in parts.items()]
        return fields, states

    def _images_of(self, source: Path) -> Fields | ImageFailure:
        """Return the images of a file or plate, or the failure of an incomplete plate."""
        try:
            parts = with_fields([source], self._setup.request.series)
        except BmzError as why:
            return ImageFailure(source, why)
        lacking = (f for f in parts.values() if f is not None and not f.path.is_dir())
        field = next(lacking, None)
        return parts if field is None else ImageFailure(source, FieldMissing(field))

    def _state(self, image: Path, field: PlateField | None) -> ImageState:
        files = self._paths(image, {image: field})
        done = finished(self._setup, image, files)
        if done is not None:
            return done
        if not self._setup.request.overwrite and any(path.exists() for path in files.values()):
            return ImageFailure(image, ResultOutdated(image, files[RECORD]))
        return planned_or_failed(self._setup, image, field)

    def _paths(self, image: Path, fields: Fields) -> dict[str, Path]:
        field, kinds = fields[image], output_kinds(self._setup)
        base = self._names.base(image if field is None else field.plate)
        return paths_at(base, kinds, field, zarr=self._setup.request.labels_format == "zarr")

    def _network(self) -> AbstractContextManager[Backend]:
        if self._backend is None:
            self._backend = opened(self._setup)
        return nullcontext(self._backend)


def _is_end_of_network(outcome: Outcome) -> bool:
    return isinstance(outcome, ImageFailure) and isinstance(outcome.error, ChildDied)


@contextmanager
def watched(
    request: RunRequest, folder: WatchedFolder, settle_s: float, listener: Listener = nobody
) -> Iterator[Watch]:
    """Prepare a model for the images that appear in a folder; each round runs the new ones.

    Parameters
    ----------
    request : the options of the call; its images are ignored
    folder : folder in which images appear
    settle_s : time for which an image must be unchanged before it is run, s
    listener : is called as files and tiles are finished

    Raises
    ------
    BmzError
        An error concerns all images: the model, the options or the output folder. An error of one
        image is an outcome of a round.
    """
    setup = prepare(replace(request, images=(), roots=(folder.root,)), listener)
    watch = Watch(setup, folder.images, time.monotonic, settle_s, listener)
    watch.begin()
    with closing(watch):
        yield watch
