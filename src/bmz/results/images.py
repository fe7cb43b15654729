"""The results of checking and running images, and the record of a run."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bmz.base.computer import versions
from bmz.base.errors import BmzError
from bmz.base.notes import plain_of
from bmz.base.values import dataclass
from bmz.check.finding import CheckReport, Finding
from bmz.check.kind import kind_title
from bmz.image.given_names import given_name
from bmz.image.info import ImageInfo
from bmz.image.series import content_sha256
from bmz.plan.plan import Estimate, Plan
from bmz.process.quality import Quality
from bmz.spec.made_for import StatedKind
from bmz.spec.model import ModelSpec

if TYPE_CHECKING:
    from bmz.results.image_documents import (
        ChainDocument,
        ChainedRecord,
        RanRecord,
        RecipeRecord,
        RunFacts,
        RunRecord,
    )


@dataclass(frozen=True)
class TriedCrop:
    """A part of an image on which a model was tried.

    Parameters
    ----------
    box : axis -> start and end in the image, px
    objects : number of objects found there
    quality : predicted quality of their mask
    """

    box: Mapping[str, tuple[int, int]]
    objects: int
    quality: Quality


@dataclass(frozen=True)
class Cure:
    """Options of ``bmz run`` with which the mask of an image is likely to be better.

    Parameters
    ----------
    options : options as typed, such as ``--scale 0.5``
    quality : predicted quality of the mask with these options
    """

    options: str
    quality: Quality


@dataclass(frozen=True)
class ImageTrial:
    """How well a model does on crops of an image.

    Parameters
    ----------
    crops : lowest prediction first
    quality : over all crops
    picture : picture of the first crop with outlines; None if not requested
    cure : None if none was sought or found
    """

    crops: tuple[TriedCrop, ...]
    quality: Quality
    picture: Path | None = None
    cure: Cure | None = None

    @property
    def objects(self) -> int:
        """Count the objects in all crops."""
        return sum(crop.objects for crop in self.crops)


@dataclass(frozen=True)
class ImageCheck:
    """One image (one series of a file) against one model.

    Parameters
    ----------
    series : number of the image in a file with several; else None
    error : why there is no verdict; None if there is one
    trial : how the model does on it; None if it was not tried
    step : step of a chain that uses the model; None for a single model
    """

    image: Path
    series: int | None
    report: CheckReport
    error: BmzError | None
    trial: ImageTrial | None = None
    step: str | None = None

    @property
    def name(self) -> str:
        """Return the path, the series if there are several, and the step of a chain."""
        name = given_name(self.image)
        name = name if self.series is None else f"{name}[{self.series}]"
        return name if self.step is None else f"{name}, step {self.step}"

    @property
    def verdict(self) -> str | None:
        """Return ``fits``, ``adapts`` or ``mismatch``; None without a verdict."""
        return None if self.error else self.report.verdict

    @property
    def warnings(self) -> int:
        """Count the warnings."""
        return len(self.report.warnings)


@dataclass(frozen=True)
class CheckSummary:
    """All images of one call, in its order.

    Parameters
    ----------
    stated : what the user says the images are; None if nothing
    """

    model: str
    model_sha256: str
    images: tuple[ImageCheck, ...]
    stated: StatedKind | None = None

    @property
    def kinds(self) -> Mapping[str, int]:
        """Count the images of each kind, most frequent first; images not examined are left out."""
        seen = [image.report.kind for image in self.images]
        return dict(Counter(kind_title(kind) for kind in seen if kind is not None).most_common())

    @property
    def exit_status(self) -> int:
        """Return 1 if an image does not fit, else 3 if one could not be checked, else 0."""
        verdicts = {image.verdict for image in self.images}
        return 1 if "mismatch" in verdicts else 3 if None in verdicts else 0


@dataclass(frozen=True)
class ImagePlan:
    """What would be done with one image.

    Parameters
    ----------
    bytes_in_one_piece : approximate memory that the image needs in addition to the network
    estimate : estimated time and memory, from a trial; None if it was not tried
    in_parts : whether the memory exceeds the limit, so that the image is run in parts
    in_one_piece_why : why the image cannot be run in parts although the memory exceeds the limit
    prompts : number of prompts for the network; None without prompts, or if it is unknown
    prompts_later : the prompts are objects of a mask that an earlier step has yet to make
    """

    image: Path
    plan: Plan
    findings: tuple[Finding, ...]
    bytes_in_one_piece: int = 0
    in_parts: bool = False
    in_one_piece_why: str = ""
    estimate: Estimate | None = None
    prompts: int | None = None
    prompts_later: bool = False


@dataclass(frozen=True)
class ImageRun:
    """What was done with one image.

    Parameters
    ----------
    files : kind -> path of the file that was written
    objects : number of objects; None without labels
    record : run record as written
    """

    image: Path
    files: Mapping[str, Path]
    objects: int | None
    findings: tuple[Finding, ...]
    record: Mapping[str, Any]


@dataclass(frozen=True)
class ImageFailure:
    """Why one image has no result."""

    image: Path
    error: BmzError


@dataclass(frozen=True)
class DeviceUse:
    """How busy the device of the network was during a run.

    Parameters
    ----------
    device : name of the device, such as ``cuda:0``
    computed_s : seconds that it spent on tiles
    run_s : seconds since the network was loaded
    """

    device: str
    computed_s: float
    run_s: float

    @property
    def share(self) -> float:
        """Return the share of the run during which the device computed, 0 to 1."""
        return min(self.computed_s / self.run_s, 1.0) if self.run_s else 0.0


@dataclass(frozen=True)
class RunSummary:
    """The outcome of every image, in the order of the call.

    Parameters
    ----------
    use : how busy the device was; None if no network ran here
    """

    outcomes: tuple[ImageRun | ImageFailure, ...]
    use: DeviceUse | None = None

    @property
    def done(self) -> tuple[ImageRun, ...]:
        """Return the images that have a result."""
        return tuple(o for o in self.outcomes if isinstance(o, ImageRun))

    @property
    def failed(self) -> tuple[ImageFailure, ...]:
        """Return the images without a result."""
        return tuple(o for o in self.outcomes if isinstance(o, ImageFailure))

    @property
    def exit_status(self) -> int:
        """Return 0 if all succeeded, the common status if all failed alike, else 1."""
        if not self.failed:
            return 0
        statuses = {failure.error.exit_status for failure in self.failed}
        return statuses.pop() if not self.done and len(statuses) == 1 else 1


@dataclass(frozen=True)
class ChainedPlan:
    """What a step of a chain would do.

    Parameters
    ----------
    name : name of the step
    model : model as named in the call
    relations : role of a label mask -> ``from:`` the step that makes the mask, or a file
    images : the plan for each image
    """

    name: str
    model: str
    relations: Mapping[str, str]
    images: tuple[ImagePlan | ImageFailure, ...]


@dataclass(frozen=True)
class ChainedImage:
    """What the steps of a chain made from one image.

    Parameters
    ----------
    steps : name -> what was done
    record : file that holds the records of all steps
    table : table of the objects that share a number; None if no steps share numbers
    """

    image: Path
    steps: Mapping[str, ImageRun]
    record: Path
    table: Path | None

    def chained(self) -> ChainedRecord:
        """Return the records of all steps, with paths relative to the record."""
        folder = self.record.parent
        return {
            "image": given_name(self.image),
            "steps": [
                {
                    "name": name,
                    "record": Path(os.path.relpath(done.files["record"], folder)).as_posix(),
                    "run": cast("RunRecord", done.record),
                }
                for name, done in self.steps.items()
            ],
            "table": None if self.table is None else self.table.name,
        }

    def document(self) -> ChainDocument:
        """Return the record as a separate document."""
        return {"schema": "bmz.chain/1", "images": [self.chained()], "failed": []}


@dataclass(frozen=True)
class ChainSummary:
    """The outcome of every image of a chain."""

    outcomes: tuple[ChainedImage | ImageFailure, ...]

    @property
    def done(self) -> tuple[ChainedImage, ...]:
        """Return the images for which all steps have a result."""
        return tuple(o for o in self.outcomes if isinstance(o, ChainedImage))

    @property
    def failed(self) -> tuple[ImageFailure, ...]:
        """Return the other images."""
        return tuple(o for o in self.outcomes if isinstance(o, ImageFailure))

    @property
    def exit_status(self) -> int:
        """Return 0 if all succeeded, the common status if all failed alike, else 1."""
        if self.failed and self.done:
            return 1
        return RunSummary(self.failed).exit_status


SCHEMA = "bmz.run/1"
"""Name and version of the record format; the version increases if the meaning changes."""

NOT_REPEATED = {
    "bmz.chain/1": "it describes a chain, whose later steps need the masks of earlier steps: run "
    "the chain again with 'bmz run CHAIN.toml IMAGE -o DIR'"
}
"""Schema of a record that ``--from`` does not accept -> reason."""


def run_record(
    model: ModelSpec,
    info: ImageInfo,
    plan: Plan,
    recipe: RecipeRecord,
    findings: Iterable[Finding],
    image_sha256: str | None = None,
) -> RunFacts:
    """Return what is known about a run before its result, as plain values.

    Parameters
    ----------
    recipe : name, why, output and parameters of the label recipe, and the declared steps
    image_sha256 : `content_sha256` of the image, if already known
    """
    return {
        "schema": "bmz.run/1",
        "model": model.id,
        "model_name": model.name,
        "model_sha256": model.sha256,
        "weights": {
            "format": plan.weights.format,
            "file": plan.weights.file.path.name,
            "sha256": plan.weights.file.sha256,
        },
        "image": given_name(info.path),
        "image_sha256": image_sha256 or content_sha256(info.path),
        "image_axes": info.axes,
        "image_shape": list(info.shape),
        "image_dtype": str(info.dtype),
        "image_series": info.series,
        "image_series_name": info.series_name,
        "image_series_count": info.series_count,
        "image_remarks": list(info.remarks),
        "plan": plan.as_record(),
        "recipe": recipe,
        "objects_in": dict(plan.apart),
        "joined_over": dict(plan.joined),
        "device": plan.device,
        "versions": versions(),
        "findings": cast("list[Finding]", plain_of(list(findings))),
    }


def with_result(
    record: RanRecord,
    files: Mapping[str, Path],
    objects: int | None,
    took_s: Mapping[str, float],
) -> RunRecord:
    """Return the record with the results."""
    return {
        **record,
        "files": {
            kind: Path(os.path.relpath(path, files["record"].parent)).as_posix()
            for kind, path in files.items()
        },
        "objects": objects,
        "timings_s": {stage: round(seconds, 4) for stage, seconds in took_s.items()},
    }
