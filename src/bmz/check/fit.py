"""Whether an image fits a model: the case, all findings, and a score."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass
from math import log2, prod

from bmz.check.axes import axes_findings, channel_findings, file_findings
from bmz.check.codes import CODES, Severity
from bmz.check.finding import CheckReport, Finding, unforceable
from bmz.check.fit_case import FitCase
from bmz.check.measured_rules import SURE, image_diameter, measured_findings, model_diameter
from bmz.check.pixel_values import ValueSummary
from bmz.check.scale import scale_findings
from bmz.check.sizes import size_findings
from bmz.check.values import cast_findings, dtype_findings, range_findings
from bmz.image.info import UNKNOWN_AXIS, ImageInfo
from bmz.image.pixels import Pixels


@dataclass(frozen=True)
class CheckedHeader:
    """A model and an image whose header has been held against it; made by `check_header`.

    Parameters
    ----------
    case : the two, and what the user said; with the factor by which the image is resized
    report : what the header tells
    """

    case: FitCase
    report: CheckReport

    @property
    def is_runnable(self) -> bool:
        """Say whether the model can be run on the image, if need be with ``--force``."""
        return not unforceable(self.report)


def check_header(
    case: FitCase, resize: Callable[[FitCase], FitCase] | None = None
) -> CheckedHeader:
    """Check what the header of the file tells: axes, channels, dtype, pixel size and sizes.

    Parameters
    ----------
    resize : puts the factor by which the image is resized into `case`; it is called only where
        axes and channels leave something to be run
    """
    layout = (*file_findings(case), *axes_findings(case))
    if UNKNOWN_AXIS in case.image.axes:
        return CheckedHeader(case, CheckReport(layout))  # no other rule knows what lies where
    layout += tuple(channel_findings(case))
    if resize is not None and not unforceable(CheckReport(layout)):
        case = resize(case)
    others = (*cast_findings(case), *scale_findings(case), *size_findings(case))
    return CheckedHeader(case, CheckReport((*layout, *others)))


def check_image(header: CheckedHeader, read: Callable[[ImageInfo], Pixels]) -> CheckReport:
    """Check the pixels of an image, which are read only where its header leaves hope.

    Parameters
    ----------
    read : gives pixels of the image, see `check_pixels`
    """
    return check_pixels(header, read(header.case.image)) if header.is_runnable else header.report


def check_pixels(header: CheckedHeader, pixels: Pixels) -> CheckReport:
    """Measure pixels and check them; the report has the findings of the header, too.

    Parameters
    ----------
    header : runnable
    pixels : the image, axes of ``tczyx``, or a sample of it with all channels
    """
    measured = CheckedHeader(header.case.measured_on(pixels), header.report)
    return check_values(measured, ValueSummary(pixels))


def check_values(header: CheckedHeader, values: ValueSummary) -> CheckReport:
    """Check pixels of which all is measured; the report has the findings of the header, too.

    All findings come at once and none is raised.

    Parameters
    ----------
    header : runnable, and with the measures of the image
    values : of the image, in short, as several models are asked about it
    """
    case = header.case
    found = (*dtype_findings(case, values), *range_findings(case, values))
    return header.report.with_more((*found, *measured_findings(case)))


BASE, SHARE = 0.5, 0.1
"""Of the score: without any merit, and what each of the five adds."""

OTHER_TASK = 0.5
"""What is left of the score of a model for another task than the user names."""

UNKNOWN = 0.5
"""A merit of which nothing is known."""

BY_SEVERITY: Mapping[Severity, float] = {"error": 0.3, "warning": 0.75, "note": 0.98}
"""Factors of findings whose code states none."""

NO_SIZE_LEFT = 4.0
"""Objects so many times larger or smaller than those of the model earn nothing for their size."""

BRIGHT = ("fluorescence",)
DARK = ("electron-microscopy", "histology", "bright-field", "brightfield")
"""What stands in tags of models for images with bright, and with dark, structures."""


@dataclass(frozen=True)
class Merits:
    """What speaks for a model beyond the findings; each from 0 to 1.

    Parameters
    ----------
    task : it is for the task that is wished
    labels : a recipe turns its output into labels
    weights : some of them run here
    size : closeness of the object diameters of image and model
    stain : the structures of the image are on the side that the tags of the model tell
    """

    task: float = UNKNOWN
    labels: float = UNKNOWN
    weights: float = UNKNOWN
    size: float = UNKNOWN
    stain: float = UNKNOWN


def fit_score(findings: Iterable[Finding], merits: Merits, *, wished: bool = False) -> float:
    """Give the score, from 0 to 1; see the module for the formula.

    Parameters
    ----------
    wished : the user named the task

    Examples
    --------
    >>> fit_score((), Merits(task=1, labels=1, weights=1, size=1, stain=1))
    1.0
    """
    factors = [factor_of(finding) for finding in worst_of_code(findings)]
    if wished:
        factors.append(OTHER_TASK + (1 - OTHER_TASK) * merits.task)
    return float((BASE + SHARE * sum(astuple(merits))) * prod(factors))


def factor_of(finding: Finding) -> float:
    """Give what a finding leaves of a score."""
    own = CODES[finding.code].factor if finding.code in CODES else None
    return BY_SEVERITY[finding.severity] if own is None else own


def worst_of_code(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Give one finding a code, the worst of it, and of these the worst first."""
    order = ("error", "warning", "note")
    first: dict[str, Finding] = {}
    for finding in sorted(findings, key=factor_of):
        first.setdefault(finding.code, finding)
    return tuple(
        sorted(first.values(), key=lambda f: (order.index(f.severity), factor_of(f), f.code))
    )


def size_closeness(case: FitCase) -> float:
    """Give 1 for objects of the size that the model knows, falling with the ratio to 0.

    The fall is even in octaves: half the size, or double, is worth as much.
    """
    wanted, found = model_diameter(case), image_diameter(case)
    if wanted is None or found is None:
        return UNKNOWN
    octaves = abs(log2(found.diameter_px * (case.scale or 1.0) / wanted.px))
    return max(0.0, 1.0 - octaves / log2(NO_SIZE_LEFT))


def stain_closeness(case: FitCase) -> float:
    """Give 1 where the tags of the model name a microscopy with structures as in the image.

    Only a hint for the ranking, never a finding: tags tell of a kind of image, not of pixels.
    """
    tags = ["-".join(tag.lower().replace("_", " ").split()) for tag in case.model.tags]
    sides = {
        side
        for side, words in (("bright", BRIGHT), ("dark", DARK))
        if any(word in tag for tag in tags for word in words)
    }
    polarities = [m.polarity for m in case.measured.values() if m.polarity is not None]
    clear = max(polarities, key=lambda polarity: polarity.reliability, default=None)
    if clear is None or clear.reliability < SURE or len(sides) != 1:
        return UNKNOWN
    return float(clear.side in sides)
