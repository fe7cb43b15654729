"""What is run: what all images of a call share, and one image that is ready to be run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bmz.base.errors import CouldNotTell
from bmz.base.memory import free_memory
from bmz.check.finding import CheckReport, refuse_errors
from bmz.check.fit import CheckedHeader, check_pixels
from bmz.check.fit_case import FitCase
from bmz.check.joining import joining_findings, nothing_joined
from bmz.check.measured import PlaneMeasures
from bmz.engine.engines import ENGINES, Engine
from bmz.engine.image_header import check_file_header
from bmz.engine.labelling import Labelling
from bmz.engine.model_code import Permit
from bmz.engine.pipeline import Stopwatch
from bmz.engine.request import RunRequest
from bmz.image.info import ImageInfo
from bmz.image.pixels import Pixels
from bmz.image.plates import PlateField
from bmz.image.read import read_image
from bmz.plan.plan import Decided, Plan, make_plan
from bmz.predict.backend import Device
from bmz.spec.code import ModelCode
from bmz.spec.model import ModelSpec


class CoreTakesOnePiece(CouldNotTell):
    """An image is larger than the model takes at once, and bioimageio.core shall run it whole."""

    def __init__(self, image: Path, tile: Mapping[str, int]) -> None:
        size = " x ".join(f"{axis} {px}" for axis, px in tile.items())
        super().__init__(
            f"'{image.name}' is larger than the {size} px that the model takes at once",
            hint="leave out --engine core, and it is run in tiles; or crop it",
            code="engine.one-piece",
        )


@dataclass(frozen=True)
class Job:
    """What all images of a call share."""

    request: RunRequest
    model: ModelSpec
    labelling: Labelling
    device: Device
    permit: Permit
    own_code: ModelCode | None
    decided: Decided
    sample: Mapping[int, PlaneMeasures]

    @property
    def engine(self) -> Engine:
        """Who runs the network."""
        return ENGINES[self.request.engine]


@dataclass(frozen=True)
class Looked:
    """The pixels of an image, and what the check found in them.

    Parameters
    ----------
    pixels : axes of ``tczyx`` in that order, as read
    took_s : stage -> seconds
    """

    pixels: Pixels
    report: CheckReport
    took_s: Mapping[str, float]


@dataclass(frozen=True)
class Ready:
    """An image whose header has been checked and whose run is planned.

    Parameters
    ----------
    field : of a plate, if it is one
    looked : gives its pixels, where they are read ahead
    """

    image: Path
    header: CheckedHeader
    plan: Plan
    field: PlateField | None = None
    looked: Callable[[], Looked] | None = None

    @property
    def case(self) -> FitCase:
        """The model, the image and what the user said."""
        return self.header.case


def make_ready(job: Job, image: Path, field: PlateField | None = None) -> Ready:
    """Check the header of an image and plan its run.

    Raises
    ------
    DoesNotFit
        There is a finding of severity error, and ``--force`` is not given or of no use.
    BmzError
        The file cannot be read, or no tiles can be laid.
    """
    return ready_of(job, image, check_file_header(job.model, image, job.request, job.sample), field)


def ready_of(
    job: Job, image: Path, header: CheckedHeader, field: PlateField | None = None
) -> Ready:
    """Plan the run of an image whose header is checked; see `make_ready`."""
    refuse_errors(image, header.report, force=job.request.force)
    plan = make_plan(header.case, job.decided)
    blocks = replace(plan.blocks, memory_bytes=memory_limit(job.request))
    plan = replace(plan, blocks=blocks)
    if job.engine.whole_images and plan.tiling.count > 1:
        raise CoreTakesOnePiece(image, plan.tiling.tile)
    return Ready(image, header, plan, field)


def memory_limit(request: RunRequest) -> int:
    """Give the bytes from which on an image is run in parts."""
    if request.memory_gb is not None:
        return int(request.memory_gb * 1e9)
    return free_memory() // 2


def look(job: Job, ready: Ready) -> Looked:
    """Read an image and check its pixels.

    Raises
    ------
    DoesNotFit
        There is a finding of severity error, and ``--force`` is not given or of no use.
    BmzError
        The pixels cannot be read.
    """
    return look_at(job, ready, read_image)


def with_joining(report: CheckReport, job: Job, ready: Ready) -> CheckReport:
    """Add to what the check found along which axes the objects are not joined."""
    if not job.labelling.numbers_objects:
        return report
    tensor, link = ready.case.inputs[0].id, job.decided.link.ious
    unused = [nothing_joined(link, tensor)] if link and not ready.plan.joined else []
    return report.with_more([*joining_findings(ready.plan.apart, tensor), *unused])


def look_at(job: Job, ready: Ready, read: Callable[[ImageInfo], Pixels]) -> Looked:
    """Check the pixels of an image that `read` gives; see `look`."""
    stopwatch = Stopwatch()
    with stopwatch.stage("read"):
        pixels = read(ready.case.image)
    with stopwatch.stage("check"):
        report = checked_pixels(job, ready, pixels)
    return Looked(pixels, report, stopwatch.took_s)


def checked_pixels(job: Job, ready: Ready, pixels: Pixels) -> CheckReport:
    """Check the pixels of an image, and say along which axes its objects are not joined.

    Parameters
    ----------
    pixels : the image, axes of ``tczyx``, or a sample of it with all channels

    Raises
    ------
    DoesNotFit
        There is a finding of severity error, and ``--force`` is not given or of no use.
    """
    report = check_pixels(ready.header, pixels)
    refuse_errors(ready.image, report, force=job.request.force)
    return with_joining(report, job, ready)
