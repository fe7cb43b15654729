"""Ask every rule and gather what it says: the fit of one image to one model."""

from __future__ import annotations

from bmz.base.arrays import Axed
from bmz.check.axes import axes_findings, channel_findings
from bmz.check.finding import CheckReport
from bmz.check.measured_rules import measured_findings
from bmz.check.question import Question
from bmz.check.scale import scale_findings
from bmz.check.sizes import size_findings
from bmz.check.value_summary import ValueSummary
from bmz.check.values import cast_findings, dtype_findings, range_findings


def check_header(asked: Question) -> CheckReport:
    """Check what the header of the file tells: axes, channels, dtype, pixel size and sizes."""
    axes = tuple(axes_findings(asked))
    if any(finding.code == "axes.ambiguous" for finding in axes):
        return CheckReport(axes)
    return CheckReport(
        (
            *axes,
            *channel_findings(asked),
            *cast_findings(asked),
            *scale_findings(asked),
            *size_findings(asked),
        )
    )


def check_fit(asked: Question, pixels: Axed | ValueSummary) -> CheckReport:
    """Check header and pixels; all findings come at once and none is raised.

    Parameters
    ----------
    asked : the model, the image and what the user said
    pixels : the image, axes of ``tczyx``, or a sample of it with all channels; in short
        where several models are asked about the same image
    """
    report = check_header(asked)
    if any(finding.code in {"axes.ambiguous", "channel.count"} for finding in report.findings):
        return report
    seen = pixels if isinstance(pixels, ValueSummary) else ValueSummary(pixels)
    values = (*dtype_findings(asked, seen), *range_findings(asked, seen))
    return report.with_more((*values, *measured_findings(asked)))
