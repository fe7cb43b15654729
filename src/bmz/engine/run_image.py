"""One image through a model: check, predict, label, write; whole or in parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from typing_extensions import override

from bmz.base.arrays import AnyArray
from bmz.base.files import claimed, disk_faults_told
from bmz.base.progress import Listener, Note
from bmz.check.finding import CheckReport
from bmz.check.fit import with_channels_seen
from bmz.engine.earlier_runs import (
    files_of_mask,
    finished,
    options_of,
    remove_replaced,
    scratch_folder,
    scratch_key,
)
from bmz.engine.image_header import GivenImage, check_image_header
from bmz.engine.image_result import ImageResult, PlaneOutput
from bmz.engine.memory import (
    bytes_in_one_piece,
    in_parts,
    over_limit,
    why_in_one_piece,
    with_fitting_tiles,
)
from bmz.engine.output_check import StageCounts, Watch, seam_score
from bmz.engine.pipeline import PlaneContext, Stopwatch, finished_plane, network_outputs
from bmz.engine.planes_in_blocks import (
    BlocksContext,
    PlanesInBlocks,
    ThisProcess,
    TileRunner,
    look_at_sample,
)
from bmz.engine.setup import PlannedImage, RunSetup, look, look_at, planned_image
from bmz.engine.tile_gate import expect_image, gated_precision
from bmz.image.formats import name_of
from bmz.image.pixels import Pixels
from bmz.image.region import HeldImage, ImageSource, open_image
from bmz.image.series import content_sha256
from bmz.plan.plan import Plan
from bmz.plan.weights_choice import PrecisionChoice
from bmz.predict.backend import Backend
from bmz.report.run_text import finding_notes
from bmz.results.images import ImageRun, run_record
from bmz.write.names import OutputClaimed, refuse_existing

if TYPE_CHECKING:
    from bmz.results.image_documents import OwnCode, RanRecord, WayRecord


class PlaneRunner(Protocol):
    """Runs the planes or stacks of an image, whole or in blocks."""

    def run(self, number: int, at: Mapping[str, int], plan: Plan) -> PlaneOutput:
        """Predict and label a plane or stack.

        Parameters
        ----------
        number : its position in the loop of the plan
        at : its position along each axis of the loop
        plan : with the tiles and the batch that memory held so far
        """

    def facts(self, outputs: Sequence[PlaneOutput]) -> WayRecord:
        """Give what the record says of the way of running."""


def planes_of(pixels: Pixels, plan: Plan, space: str) -> list[AnyArray]:
    """Give each plane or stack that the model is run on, (c, (z,) y, x).

    Parameters
    ----------
    pixels : axes of ``tczyx`` in that order, as read
    space : axes of the model, ``yx`` or ``zyx``
    """
    ordered = pixels.with_channel_axis().transposed((*plan.loop, "c", *space)).array
    return [ordered[position] for position in np.ndindex(*plan.loop.values())]


@dataclass(frozen=True)
class WholePlanes(PlaneRunner):
    """Runs each plane or stack of an image in memory in one piece.

    Parameters
    ----------
    pixels : axes of ``tczyx`` in that order, as read
    work : what every plane is run with
    keeps_raw : the maps of the network are kept
    """

    pixels: Pixels
    work: PlaneContext
    keeps_raw: bool = True

    @cached_property
    def planes(self) -> Sequence[AnyArray]:
        """Each plane or stack, (c, (z,) y, x)."""
        return planes_of(self.pixels, self.work.plan, self.work.model.space)

    @override
    def run(self, number: int, at: Mapping[str, int], plan: Plan) -> PlaneOutput:
        """Run a plane or stack; see `bmz.engine.run_image.PlaneRunner`."""
        plane = self.planes[number]
        known, plan = network_outputs(plane, replace(self.work, plan=plan))
        result = finished_plane(known, plane.shape[1:], replace(self.work, plan=plan))
        output = PlaneOutput.of(result)
        keeps = self.keeps_raw or output.labels is None
        return output if keeps else replace(output, raw=None)

    @override
    def facts(self, outputs: Sequence[PlaneOutput]) -> WayRecord:
        """Give what the record says of the way of running: nothing."""
        return {}


@dataclass(frozen=True)
class OpenRun:
    """An image that has been checked and is about to be run.

    Parameters
    ----------
    image : its pixels
    report : what the check found in them
    planes : runs its planes or stacks
    stopwatch : of all stages
    counted : pixels after the network and each declared step, over all planes that were run
    backend_name : gives the name of the backend, for the record, once it has run
    precision : gives the precision and the framework in which it has run
    image_sha256 : of its content, where that is known
    """

    image: ImageSource
    report: CheckReport
    planes: PlaneRunner
    stopwatch: Stopwatch
    counted: StageCounts
    backend_name: Any
    precision: Callable[[], PrecisionChoice]
    image_sha256: str | None = None


@contextmanager
def whole_run(
    setup: RunSetup,
    planned: PlannedImage,
    backend: Backend,
    listener: Listener,
    *,
    keeps_raw: bool | None = None,
    image_sha256: str | None = None,
) -> Iterator[OpenRun]:
    """Read an image and check its pixels, to run it in one piece.

    Parameters
    ----------
    keeps_raw : the maps of the network are kept; None where they are to be saved
    image_sha256 : where it is no file; None for the hash of the file
    """
    looked = look(setup, planned) if planned.looked is None else planned.looked()
    stopwatch, counted = Stopwatch(dict(looked.took_s)), StageCounts()
    work = PlaneContext(
        setup.model,
        planned.plan,
        setup.labelling,
        backend,
        stopwatch,
        listener,
        setup.engine.applies_steps,
        counted,
    )
    keeps = "raw" in setup.request.save if keeps_raw is None else keeps_raw
    expect_image(backend, setup.network, planned.case.image, planned.plan, listener)
    yield OpenRun(
        image=HeldImage(planned.case.image, looked.pixels),
        report=looked.report,
        planes=WholePlanes(looked.pixels, work, keeps),
        stopwatch=stopwatch,
        counted=counted,
        backend_name=lambda: backend.name,
        precision=lambda: gated_precision(backend) or planned.plan.precision,
        image_sha256=image_sha256,
    )


@contextmanager
def run_in_blocks(
    setup: RunSetup, planned: PlannedImage, tiles: TileRunner, listener: Listener
) -> Iterator[OpenRun]:
    """Open an image and check a sample of its pixels, to run it in parts.

    Parameters
    ----------
    tiles : fills the map of a plane or stack, here or on several workers
    """
    stopwatch, counted = Stopwatch(), StageCounts()
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
            image=image,
            report=report,
            planes=PlanesInBlocks(work, scratch),
            stopwatch=stopwatch,
            counted=counted,
            backend_name=lambda: tiles.name,
            precision=lambda: tiles.precision or planned.plan.precision,
            image_sha256=content,
        )


def image_result(
    setup: RunSetup, planned: PlannedImage, run: OpenRun, listener: Listener
) -> ImageResult:
    """Predict and label an image; nothing is written but what is needed in between.

    Raises
    ------
    BmzError
        The network fails, or no pixel of its output is a number.
    """
    name, output = name_of(planned.image), setup.labelling.choice.output
    for note in finding_notes(run.report.findings, name):
        listener(note)
    plan, outputs = planned.plan, []
    for number, place in enumerate(np.ndindex(*plan.loop.values())):
        outputs.append(run.planes.run(number, dict(zip(plan.loop, place, strict=True)), plan))
        plan = outputs[-1].plan  # what memory held is not tried anew for each plane
    plan = replace(plan, precision=run.precision())
    with run.stopwatch.stage("labels"):
        result = ImageResult.of(outputs, run.image, plan, setup.model.space)
    more = Watch(plan, run.counted).findings(result.objects, output)
    for note in finding_notes(more, name):
        listener(note)
    findings = (*run.report.findings, *more)
    recipe = setup.labelling.as_record(plan)
    record: RanRecord = {
        **run_record(setup.model, run.image.info, plan, recipe, findings, run.image_sha256),
        "request": options_of(setup.request),
        "own_code": own_code_record(setup),
        "backend": run.backend_name(),
        **run.planes.facts(outputs),
    }
    if result.labels is not None:
        record["seam_score"] = seam_score(result.labels, tile_cuts(plan))
    return replace(
        result,
        plate_field=planned.field,
        findings=findings,
        record=record,
        took_s=run.stopwatch.took_s,
    )


def tile_cuts(plan: Plan) -> dict[str, list[float]]:
    """Give where tiles begin and end along y and x, px of the image."""
    return {
        along.axis: [cut / plan.scale for cut in along.cuts]
        for along in plan.tiling.axes
        if along.axis in "yx"
    }


def own_code_record(setup: RunSetup) -> OwnCode | None:
    """Say for the record which code of the model was run, and how; None when there is none."""
    code = setup.own_code
    return None if code is None else {"what": code.what, "sha256": code.sha256, "run": setup.permit}


def run_image(
    setup: RunSetup,
    planned: PlannedImage,
    backend: Backend,
    files: Mapping[str, Path],
    listener: Listener,
) -> ImageRun:
    """Run one image: in one piece, or in parts where it would need too much memory.

    Raises
    ------
    OutputClaimed, OutputExists
        Another run is writing these files, or has written them since this one began.
    FolderNotWritable
        The disk is full or limits files, or the folder is no more.
    BmzError
        The pixels cannot be read or do not fit, or the network or a file fails.
    """
    with claimed_output(setup, planned.image, files) as done:
        if done is not None:
            return done
        if not setup.engine.whole_images:
            planned = with_fitting_tiles(setup, planned, backend)
        if in_parts(planned, setup):
            expect_image(backend, setup.network, planned.case.image, planned.plan, listener)
            opened = run_in_blocks(setup, planned, ThisProcess(backend), listener)
        else:
            if over_limit(planned, setup):
                listener(Note(_too_large(setup, planned), "warning"))
            opened = whole_run(setup, planned, backend, listener)
        with opened as run:
            return image_result(setup, planned, run, listener).written(files, setup.request.folder)


def run_given_image(
    setup: RunSetup, image: GivenImage, network: Callable[[], Backend], listener: Listener
) -> ImageResult:
    """Run a file or an array in one piece; labels and maps stay in memory.

    Parameters
    ----------
    network : loads the network, once the image is known to fit

    Raises
    ------
    DoesNotFit
        There is a finding of severity error, and the request does not force the run.
    BmzError
        The pixels cannot be read, an option does not suit them, or the network fails.
    """
    header = check_image_header(setup.model, image.info, setup.request, setup.sample, image.sample)
    header = with_channels_seen(header, image.sample)
    planned = planned_image(setup, image.info.place, header)
    pixels = look_at(setup, planned, image.read)
    planned = replace(planned, looked=lambda: pixels)
    backend = network()
    planned = with_fitting_tiles(setup, planned, backend)
    opened = whole_run(setup, planned, backend, listener, keeps_raw=True, image_sha256=image.sha256)
    with opened as run:
        return image_result(setup, planned, run, listener)


def _too_large(setup: RunSetup, planned: PlannedImage) -> str:
    gigabytes = bytes_in_one_piece(planned, setup) / 1e9
    why = why_in_one_piece(planned, setup)
    return (
        f"{name_of(planned.image)} needs about {gigabytes:.2g} GB, more than the limit, "
        f"and cannot be run in parts: {why}; it is run in one piece: crop it if memory runs out"
    )


@contextmanager
def claimed_output(
    setup: RunSetup, image: Path, files: Mapping[str, Path]
) -> Iterator[ImageRun | None]:
    """Hold the only right to write the files of an image while the block runs.

    When it ends well, what an earlier run wrote about a mask that is no more is removed.

    Yields
    ------
    ImageRun or None
        what another run with ``--resume`` has finished meanwhile

    Raises
    ------
    OutputClaimed, OutputExists, FolderNotWritable
        See `run_image`.
    """
    request = setup.request
    number = sha256(str(files["record"].absolute()).encode()).hexdigest()[:16]
    with disk_faults_told(request.folder), claimed(request.folder / number) as ours:
        if not ours:
            raise OutputClaimed(files["record"])
        replaces = request.overwrite
        done = finished(setup, image, files) if request.resume and not replaces else None
        if not (replaces or request.resume):
            refuse_existing(list(files.values()))
        before = files_of_mask(files["record"])
        yield done
        if done is None:
            remove_replaced(before, files["record"])


def in_one_piece(setup: RunSetup, planned: PlannedImage) -> bool:
    """Say whether an image is read and labelled as a whole."""
    return not in_parts(planned, setup)
