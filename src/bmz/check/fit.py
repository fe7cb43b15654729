"""Check whether an image fits a model, and collect all findings on its header and pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from bmz.base.values import dataclass
from bmz.check.axes import (
    axes_findings,
    channel_findings,
    file_findings,
    grid_findings,
    size_findings,
)
from bmz.check.content import content_findings, shown_kind
from bmz.check.finding import CheckReport, Finding, unforceable
from bmz.check.fit_case import FitCase
from bmz.check.pixel_values import ValueSummary
from bmz.check.scale import scale_findings
from bmz.check.values import cast_findings, dtype_findings, measured_findings, range_findings
from bmz.image.info import UNKNOWN_AXIS, ImageInfo
from bmz.image.pixels import Pixels
from bmz.image.region import apart


@dataclass(frozen=True)
class CheckedHeader:
    """A model and an image whose header has been checked by `check_header`.

    Parameters
    ----------
    case : the model, the image and the user's options, with the factor for resizing the image
    report : findings on the header
    images : if further images are joined, the check of each with the inputs that it fills;
        otherwise empty
    """

    case: FitCase
    report: CheckReport
    images: tuple[CheckedHeader, ...] = ()

    @property
    def is_runnable(self) -> bool:
        """Return whether the model can be run on the image, if necessary with ``--force``."""
        return not unforceable(self.report)


def check_header(
    case: FitCase, resize: Callable[[FitCase], FitCase] | None = None
) -> CheckedHeader:
    """Check the header of the file: axes, channels, dtype, pixel size and sizes.

    Parameters
    ----------
    resize : returns `case` with the factor for resizing the image; called only if the axes and
        channels allow the model to run
    """
    if not case.inputs:  # further images fill all of them
        case.image.refuse_unknown_axes()
        return CheckedHeader(case, CheckReport(tuple(file_findings(case))))
    layout = (*file_findings(case), *axes_findings(case))
    if UNKNOWN_AXIS in case.image.axes:
        return CheckedHeader(case, CheckReport(layout))  # no other rule applies to unknown axes
    layout += tuple(channel_findings(case))
    if resize is not None and not unforceable(CheckReport(layout)):
        case = resize(case)
    others = (*cast_findings(case), *scale_findings(case), *size_findings(case))
    return CheckedHeader(case, CheckReport((*layout, *others)))


def joined_header(case: FitCase, images: Sequence[CheckedHeader]) -> CheckedHeader:
    """Combine the checks of an image and of those joined to it.

    Parameters
    ----------
    case : the model with all its inputs, and the joined image, with channels given by number
    images : the check of each image, in the order of ``case.image.images``
    """
    findings: list[Finding] = []
    for number, image in enumerate(images):
        if number:
            findings += grid_findings(images[0].case.image, image.case)
        told = {finding.code for finding in findings}
        # all have the pixel size of the first image, so one finding is enough
        findings += [
            finding
            for finding in image.report.findings
            if not (finding.code.startswith("scale.") and finding.code in told)
        ]
    return CheckedHeader(case, CheckReport(tuple(findings)), tuple(images))


def check_image(header: CheckedHeader, read: Callable[[ImageInfo], Pixels]) -> CheckReport:
    """Check the pixels of an image, which are read only if the header does not rule out a run.

    Parameters
    ----------
    read : returns pixels of the image, as in `check_pixels`
    """
    if header.is_runnable:
        return check_pixels(header, read(header.case.image))
    looked = with_channels_seen(header, read)
    case = looked.case
    return replace(looked.report, kind=shown_kind(case)).with_more(content_findings(case))


def with_channels_seen(header: CheckedHeader, read: Callable[[ImageInfo], Pixels]) -> CheckedHeader:
    """Examine the channels of an image if they are the only reason why it cannot be run.

    The findings then propose the channels that show what the model is made for.

    Parameters
    ----------
    read : returns pixels of the image, as in `check_pixels`
    """
    if header.images:
        return joined_header(
            header.case, [with_channels_seen(image, read) for image in header.images]
        )
    cures = {finding.cured_by for finding in unforceable(header.report)}
    if cures != {"--channels"}:
        return header
    return check_header(header.case.with_all_kinds(read(header.case.image)))


def check_pixels(header: CheckedHeader, pixels: Pixels) -> CheckReport:
    """Measure and check pixels; the report includes the findings on the header.

    Parameters
    ----------
    header : a runnable header
    pixels : the image, axes of ``tczyx``, or a sample of it with all channels
    """
    if header.images:
        parts = zip(header.images, apart(pixels, header.case.image), strict=True)
        reports = [check_pixels(image, part) for image, part in parts]
        of_headers = [f for image in header.images for f in image.report.findings]
        more = [f for report in reports for f in report.findings if f not in of_headers]
        return replace(header.report, kind=reports[0].kind).with_more(more)
    if not header.case.inputs:
        return header.report
    case = header.case.measured_on(pixels)
    if any(finding.code == "content.structure" for finding in content_findings(case)):
        case = case.with_all_kinds(pixels)  # another channel may show what the model is made for
    return check_values(CheckedHeader(case, header.report), ValueSummary(pixels))


def check_values(header: CheckedHeader, values: ValueSummary) -> CheckReport:
    """Check pixels that have been measured; the report includes the findings on the header.

    All findings are returned together, and none is raised.

    Parameters
    ----------
    header : a runnable header, with the measurements of the image
    values : summary of the pixel values, which the checks of several models can share
    """
    case = header.case
    found = (*dtype_findings(case, values), *range_findings(case, values))
    more = (*found, *measured_findings(case), *content_findings(case))
    return replace(header.report, kind=shown_kind(case)).with_more(more)
