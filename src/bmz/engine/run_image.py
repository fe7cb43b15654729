"""Run a model on one image, whole or in parts: check, predict, label and write."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import override

from bmz.base.arrays import AnyArray, LazyArray
from bmz.base.errors import not_none
from bmz.base.progress import Listener, Note
from bmz.base.values import dataclass
from bmz.check.finding import CheckReport
from bmz.check.fit import with_channels_seen
from bmz.engine.earlier_runs import claimed_output, options_of, scratch_folder, scratch_key
from bmz.engine.further_images import further_records
from bmz.engine.image_header import GivenImage, check_image_header
from bmz.engine.image_result import ComingPlane, ImageResult, PlaneOutput
from bmz.engine.known_tensors import KnownTensors
from bmz.engine.labelling import Decoding
from bmz.engine.memory import (
    bytes_in_one_piece,
    in_parts,
    over_limit,
    why_in_one_piece,
    with_fitting_tiles,
)
from bmz.engine.output_check import OutputWatch, StageCounts, seam_score
from bmz.engine.pipeline import (
    PlaneContext,
    finished_plane,
    network_outputs,
    planes_of,
)
from bmz.engine.planes_in_blocks import (
    BlocksContext,
    PlaneRunner,
    PlanesInBlocks,
    ThisProcess,
    TileRunner,
    look_at_sample,
)
from bmz.engine.request import GRID
from bmz.engine.run_quality import Judging, after_check, judged_result, judged_whole, judging_of
from bmz.engine.setup import PlannedImage, RunSetup, look, look_at, planned_image
from bmz.engine.stages import Behind, DeviceClock, Stopwatch, at_once
from bmz.engine.three_planes import agreed, turned_views
from bmz.engine.tile_gate import expect_image, gated_precision
from bmz.image.formats import name_of
from bmz.image.pixels import Pixels
from bmz.image.prompt_files import Prompt
from bmz.image.region import HeldImage, ImageSource, first_alone, open_image
from bmz.image.series import content_sha256
from bmz.plan.plan import Plan
from bmz.plan.weights_choice import PrecisionChoice
from bmz.predict.backend import Backend
from bmz.report.run_text import finding_notes
from bmz.results.images import DeviceUse, ImageRun, run_record

if TYPE_CHECKING:
    from bmz.results.image_documents import RanRecord, WayRecord


@dataclass(frozen=True)
class WholePlanes(PlaneRunner):
    """Run each plane or stack of an image in one piece, in memory.

    Parameters
    ----------
    pixels : pixels as read, with axes of ``tczyx`` in that order
    work : context shared by all planes
    judging : how masks are judged; None if they cannot be
    keeps_raw : whether the maps of the network are kept
    behind : computes the labels
    asked : returns the prompts of a plane
    """

    pixels: Pixels
    work: PlaneContext
    judging: Judging | None
    keeps_raw: bool = True
    behind: Behind = at_once
    asked: Callable[[Mapping[str, int]], Sequence[Prompt] | str] = lambda _: GRID

    @cached_property
    def planes(self) -> Sequence[AnyArray]:
        """Planes or stacks of the image, (c, (z,) y, x) each."""
        return planes_of(self.pixels, self.work.plan, self.work.model.space)

    @override
    def run(self, number: int, at: Mapping[str, int], plan: Plan) -> ComingPlane:
        """Run a plane or stack, as `bmz.engine.planes_in_blocks.PlaneRunner` describes."""
        plane = self.planes[number]
        known, plan = network_outputs(plane, replace(self.work, plan=plan, prompts=self.asked(at)))
        labelled = partial(self._labelled, known, plane, plan)
        return ComingPlane(plan, self.behind(labelled))

    def _labelled(self, known: KnownTensors, plane: AnyArray, plan: Plan) -> PlaneOutput:
        result = finished_plane(known, plane.shape[1:], replace(self.work, plan=plan))
        output = PlaneOutput.of(result)
        if self.judging is not None and not output.classes:
            with self.work.stopwatch.stage("labels"):
                maps: LazyArray | None = result.there if result.raw is None else result.raw
                output = judged_whole(output, plane, not_none(maps), self.judging)
        return output if self.keeps_raw or output.labels is None else replace(output, raw=None)

    @override
    def facts(self, outputs: Sequence[PlaneOutput]) -> WayRecord:
        """Return the entry of the run record on where labels were computed."""
        made = self.work.decoding.as_record()
        return {} if made is None else {"labels_made": made}


@dataclass(frozen=True)
class OpenRun:
    """An image that has been checked and is about to be run.

    Parameters
    ----------
    image : its pixels
    report : result of checking them
    planes : runs its planes or stacks
    stopwatch : times all stages
    counted : pixels after the network and each declared step, over all planes that were run
    backend_name : returns the name of the backend for the record, once it has run
    precision : returns the precision and the framework in which it has run
    use : returns the use of the device so far; None if the network runs on several workers
    image_sha256 : hash of its content, if known
    scratch : folder for intermediate data; None if everything is in memory
    turned : plan and runner of the planes along y and x, if these are run, too
    """

    image: ImageSource
    report: CheckReport
    planes: PlaneRunner
    stopwatch: Stopwatch
    counted: StageCounts
    backend_name: Any
    precision: Callable[[], PrecisionChoice]
    use: Callable[[], DeviceUse | None] = lambda: None
    image_sha256: str | None = None
    scratch: Path | None = None
    turned: Mapping[str, tuple[Plan, PlaneRunner]] = field(default_factory=dict)


@contextmanager
def run_in_blocks(
    setup: RunSetup, planned: PlannedImage, tiles: TileRunner, listener: Listener
) -> Iterator[OpenRun]:
    """Open an image and check a sample of its pixels, to run it in parts.

    Parameters
    ----------
    tiles : computes the map of a plane or stack, in this process or on several workers
    """
    stopwatch, counted = Stopwatch(listener=listener), StageCounts()
    with stopwatch.stage("check"):
        report = look_at_sample(setup, planned)
        content = content_sha256(planned.case.image.path)
    key = scratch_key(setup, planned, content)
    with (
        open_image(planned.case.image) as image,
        scratch_folder(setup.request.folder, key, resume=setup.request.resume) as scratch,
    ):
        work = BlocksContext(setup, planned, image, tiles, stopwatch, listener, counted)
        yield OpenRun(
            image=image.alone,
            report=report,
            planes=PlanesInBlocks(work, scratch),
            stopwatch=stopwatch,
            counted=counted,
            backend_name=lambda: tiles.name,
            precision=lambda: tiles.precision or planned.plan.precision,
            image_sha256=content,
            scratch=scratch,
        )


@dataclass(frozen=True)
class PredictedImage:
    """An image on which the network has run.

    Parameters
    ----------
    plan : plan with the tiles and the batch that fitted in memory, and the precision used
    backend : name of the backend that ran it
    planes : planes or stacks, labelled or being labelled
    turned : the planes along y and x, if these are run, too
    """

    planned: PlannedImage
    run: OpenRun
    plan: Plan
    backend: str
    planes: Sequence[Future[PlaneOutput]]
    turned: Mapping[str, Sequence[Future[PlaneOutput]]] = field(default_factory=dict)


def predicted_image(planned: PlannedImage, run: OpenRun, listener: Listener) -> PredictedImage:
    """Run the network on an image, and start labelling each plane or stack.

    Raises
    ------
    BmzError
        The network fails, no pixel of its output is a number, or it cannot be labelled.
    """
    for note in finding_notes(run.report.findings, name_of(planned.image)):
        listener(note)
    planes, plan = _predicted_planes(run.planes, planned.plan)
    turned = {axis: _predicted_planes(way, own)[0] for axis, (own, way) in run.turned.items()}
    plan = replace(plan, precision=run.precision())
    return PredictedImage(planned, run, plan, run.backend_name(), planes, turned)


def _predicted_planes(
    runner: PlaneRunner, plan: Plan
) -> tuple[Sequence[Future[PlaneOutput]], Plan]:
    planes: list[Future[PlaneOutput]] = []
    waiting: deque[Future[PlaneOutput]] = deque()
    for number, place in enumerate(np.ndindex(*plan.loop.values())):
        coming = runner.run(number, dict(zip(plan.loop, place, strict=True)), plan)
        plan = coming.plan  # the tiles that fitted in memory are not searched again per plane
        planes.append(coming.output)
        waiting.append(coming.output)
        while waiting and waiting[0].done():
            waiting.popleft().result()  # if one fails, the others need not be run
    return planes, plan


def image_result(
    setup: RunSetup, planned: PlannedImage, run: OpenRun, listener: Listener
) -> ImageResult:
    """Predict and label an image; only intermediate data are written.

    Raises
    ------
    BmzError
        The network fails, or no pixel of its output is a number.
    """
    return labelled_image(setup, predicted_image(planned, run, listener), listener)


def labelled_image(setup: RunSetup, image: PredictedImage, listener: Listener) -> ImageResult:
    """Combine the planes or stacks of an image as their labels become available.

    Raises
    ------
    BmzError
        A plane or stack cannot be labelled.
    """
    planned, run, plan = image.planned, image.run, image.plan
    name, output = name_of(planned.image), setup.labelling.choice.output
    outputs = after_check([plane.result() for plane in image.planes], run.report.findings)
    with run.stopwatch.stage("labels"):
        numbers = None
        if image.turned:
            ways = {axis: [one.result() for one in some] for axis, some in image.turned.items()}
            votes = agreed(outputs, ways, plan)
            outputs, numbers = list(votes.outputs), votes.numbers
        result = ImageResult.of(outputs, run.image, plan, setup.model.space, numbers)
        result = result.related(planned.masks, run.scratch)
    more = OutputWatch(plan, run.counted).findings(result.objects, output)
    judgement, doubts = judged_result(setup, result.labels, outputs, run.report)
    more = (*more, *doubts)
    for note in finding_notes(more, name):
        listener(note)
    findings = (*run.report.findings, *more)
    use = run.use()
    recipe = setup.labelling.as_record(plan)
    record: RanRecord = {
        **run_record(setup.model, run.image.info, plan, recipe, findings, run.image_sha256),
        "inputs": further_records(planned.case.image, planned.further_sha256),
        "relations": {name: mask.record() for name, mask in planned.masks.items()},
        "prompts": {} if planned.prompts is None else planned.prompts.record(),
        "request": options_of(setup.request),
        "own_code": setup.own_code_record,
        "backend": image.backend,
        "device_busy": None if use is None else round(use.share, 4),
        **run.planes.facts(outputs),
        **judgement,
    }
    if result.labels is not None:
        record["seam_score"] = seam_score(result.labels, plan.cuts_on_image())
    return replace(
        result,
        plate_field=planned.field,
        findings=findings,
        record=record,
        stopwatch=run.stopwatch,
    )


@dataclass(frozen=True)
class ImageRunner:
    """Run images with one network, one after another.

    Parameters
    ----------
    setup : setup shared by the images
    backend : the network, which is used in the thread that calls `begin`
    clock : measures the use of its device
    labels : computes the labels of a plane or stack
    ends : combines, measures and writes an image; it may wait for `labels`
    """

    setup: RunSetup
    backend: Backend
    clock: DeviceClock = field(default_factory=DeviceClock)
    labels: Behind = at_once
    ends: Behind = at_once

    def begin(
        self, planned: PlannedImage, files: Mapping[str, Path], listener: Listener
    ) -> Future[ImageRun]:
        """Check an image and run the network on it; the returned future waits until it is written.

        An image that would need too much memory runs in parts, and is written when this returns;
        any other runs in one piece.

        Parameters
        ----------
        files : kind -> path of each output
        listener : may be called in another thread

        Raises
        ------
        BmzError
            As in `run_image`; the result of the future may also raise it.
        """
        with ExitStack() as stack:
            done = stack.enter_context(claimed_output(self.setup, planned.image, files))
            if done is not None:
                return at_once(lambda: done)
            if not self.setup.engine.whole_images:
                planned = with_fitting_tiles(self.setup, planned, self.backend)
            run = stack.enter_context(self._opened(planned, listener))
            predicted = predicted_image(planned, run, listener)
            claim = stack.pop_all()

        def end() -> ImageRun:
            with claim:
                result = labelled_image(self.setup, predicted, listener)
                return result.written(files, self.setup.request.folder)

        return at_once(end) if in_parts(planned, self.setup) else self.ends(end)

    @contextmanager
    def _opened(self, planned: PlannedImage, listener: Listener) -> Iterator[OpenRun]:
        setup = self.setup
        if not in_parts(planned, setup):
            if over_limit(planned, setup):
                listener(Note(_too_large(setup, planned), "warning"))
            yield self.whole(planned, listener, keeps_raw=setup.request.keeps_raw)
            return
        expect_image(self.backend, setup.network, planned.case.image, planned.plan, listener)
        tiles = ThisProcess(self.backend, self.clock.add)
        with run_in_blocks(setup, planned, tiles, listener) as run:
            yield replace(run, use=self._use)

    def whole(self, planned: PlannedImage, listener: Listener, *, keeps_raw: bool) -> OpenRun:
        """Read an image and check its pixels, to run it in one piece.

        Parameters
        ----------
        keeps_raw : whether the maps of the network are kept

        Raises
        ------
        BmzError
            The pixels cannot be read, or do not fit.
        """
        setup, backend, plan = self.setup, self.backend, planned.plan
        looked = look(setup, planned) if planned.looked is None else planned.looked()
        stopwatch, counted = Stopwatch(dict(looked.took_s), listener), StageCounts()
        work = PlaneContext(
            setup.model, plan, setup.labelling, backend, stopwatch, listener,
            setup.engine.applies_steps, counted, self.clock.add,
            Decoding.beside(backend, listener), keeps_raw,
        )  # fmt: skip
        expect_image(backend, setup.network, planned.case.image, plan, listener)
        info = planned.case.image
        judging = judging_of(setup, planned)
        asked = partial(planned.prompts_at, word=setup.request.prompts)
        views = []
        if plan.three_planes:
            judging = None  # the result of the vote is not what a plane shows
            views = turned_views(planned.case, setup.decided, plan, looked.pixels)
        return OpenRun(
            image=HeldImage(info.images[0], first_alone(looked.pixels, info)),
            report=looked.report,
            planes=WholePlanes(looked.pixels, work, judging, keeps_raw, self.labels, asked),
            stopwatch=stopwatch,
            counted=counted,
            backend_name=lambda: backend.name,
            precision=lambda: gated_precision(backend) or plan.precision,
            use=self._use,
            image_sha256=planned.sha256,
            turned={
                view.axis: (
                    view.plan,
                    WholePlanes(
                        view.pixels, replace(work, plan=view.plan), None, keeps_raw, self.labels
                    ),
                )
                for view in views
            },
        )

    def predicted(self, planned: PlannedImage, listener: Listener) -> PredictedImage:
        """Run the network on an image in one piece, and keep its maps.

        Raises
        ------
        BmzError
            The network fails, or no pixel of its output is a number.
        """
        planned = with_fitting_tiles(self.setup, planned, self.backend)
        return predicted_image(planned, self.whole(planned, listener, keeps_raw=True), listener)

    def _use(self) -> DeviceUse:
        return self.clock.use(self.backend.device)


def run_image(
    setup: RunSetup,
    planned: PlannedImage,
    backend: Backend,
    files: Mapping[str, Path],
    listener: Listener,
) -> ImageRun:
    """Run one image from check to output files.

    Raises
    ------
    OutputClaimed, OutputExists
        Another run is writing these files, or has written them since this one began.
    FolderNotWritable
        The disk is full or limits files, or the folder no longer exists.
    BmzError
        The pixels cannot be read or do not fit, or the network or a file fails.
    """
    return ImageRunner(setup, backend).begin(planned, files, listener).result()


def run_given_image(
    setup: RunSetup, image: GivenImage, network: Callable[[], Backend], listener: Listener
) -> ImageResult:
    """Run a file or an array in one piece; labels and maps stay in memory.

    Parameters
    ----------
    network : loads the network, after the image has passed the check

    Raises
    ------
    DoesNotFit
        There is a finding of severity error, and the request does not force the run.
    BmzError
        The pixels cannot be read, an option does not fit them, or the network fails.
    """
    planned = looked_at(setup, image)
    predicted = ImageRunner(setup, network()).predicted(planned, listener)
    return labelled_image(setup, predicted, listener)


def looked_at(setup: RunSetup, image: GivenImage) -> PlannedImage:
    """Check the header and the pixels of a file or an array, and plan its run.

    Raises
    ------
    BmzError
        As in `run_given_image`.
    """
    header = check_image_header(setup.model, image.info, setup.request, setup.sample, image.sample)
    header = with_channels_seen(header, image.sample)
    planned = planned_image(setup, image.info.place, header)
    planned = planned if image.prompts is None else planned.asked(image.prompts)
    pixels = look_at(setup, planned, image.read)
    hashes = {name: one.sha256 for name, one in image.further.items() if one.sha256}
    planned = replace(planned, further_sha256=hashes, masks=image.masks)
    return replace(planned, looked=lambda: pixels, sha256=image.sha256)


def _too_large(setup: RunSetup, planned: PlannedImage) -> str:
    gigabytes = bytes_in_one_piece(planned, setup) / 1e9
    why = why_in_one_piece(planned, setup)
    return (
        f"{name_of(planned.image)} needs about {gigabytes:.2g} GB, more than the limit, and "
        f"cannot run in parts: {why}; it runs in one piece: crop it if memory runs out"
    )
