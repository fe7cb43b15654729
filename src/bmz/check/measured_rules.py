"""What pixels tell beyond the header: hot pixels, clipping, polarity and the size of objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import floor, sqrt

from bmz.base.channels import EMPTY_CHANNEL
from bmz.check.finding import Evidence, Finding
from bmz.check.fit_case import FitCase
from bmz.check.measured import PlaneMeasures
from bmz.check.object_size import ObjectSize
from bmz.spec.facts import facts_of
from bmz.spec.model import ModelSpec

OFF = 2.0
"""From this ratio of object diameters on a network meets objects it was not trained on."""

FAR = 3.0
"""From this ratio to the objects of a single sample on the factor helps more often than it harms.

A sample shows one of the sizes on which a network was trained, and many were trained on several.
"""

CLEAR = 0.5
"""Below this reliability a size is one measurement alone, and too little for a warning."""

SPREADS = 2.0
"""A declared range is left when the size, so many of its uncertainties nearer, is still outside."""

LEAST_OBJECT_PX = 4.0
"""Below this diameter the estimate is unreliable and the shape of an object is lost."""

SURE = 0.6
"""A polarity below this reliability, as of electron microscopy, says nothing."""

CLIP_PERCENTILE = 99.99
"""Cutting here takes hot pixels away and leaves objects alone."""


@dataclass(frozen=True)
class Diameter:
    """How large objects are for a model.

    Parameters
    ----------
    px : typical diameter in pixels of its input
    low, high : the range in which it is known to work; half and double where none is stated
    evidence : who says so
    stated : the description states the range; half and double are a rule of thumb with room in it
    """

    px: float
    low: float
    high: float
    evidence: Evidence
    stated: bool = False

    def holds(self, seen_px: float, spread: float) -> bool:
        """Say whether objects of this size are within the range, as far as the measure can tell.

        Parameters
        ----------
        spread : relative uncertainty of `seen_px`; what is outside by less than `SPREADS` of it
            may well be inside a stated range
        """
        slack = 1 + SPREADS * spread if self.stated else 1.0
        return self.low / slack <= seen_px <= self.high * slack

    def target_px(self, seen_px: float) -> float:
        """Give the diameter to which objects are best resized.

        Objects outside a stated range are brought well into it, half the way to the typical
        diameter in octaves: the less an image is resized, the less of it is lost.
        """
        if not self.stated or self.low <= seen_px <= self.high:
            return self.px
        return sqrt(self.px * (self.low if seen_px < self.low else self.high))


def model_diameter(case: FitCase) -> Diameter | None:
    """Give the object diameter of a model: declared, else measured on its own sample."""
    declared = declared_diameter(case.model)
    if declared is not None:
        return declared
    sizes = [m.size for m in case.sample.values() if m.size is not None]
    if not sizes:
        return None
    best = max(sizes, key=lambda size: size.reliability).diameter_px
    return Diameter(best, best / OFF, best * OFF, "measured")


def declared_diameter(model: ModelSpec) -> Diameter | None:
    """Give ``config.bmz.object_diameter_px`` with its range, where the description has one."""
    px = model.ours.get("object_diameter_px")
    if not isinstance(px, int | float) or px <= 0:
        return None
    limits = _limits(model.ours.get("object_diameter_range_px"))
    low, high = limits or (px / OFF, px * OFF)
    return Diameter(float(px), float(low), float(high), "declared", stated=limits is not None)


def _limits(written: object) -> tuple[float, float] | None:
    """Read a range; None for what is none, as anyone may write anything there."""
    if not isinstance(written, list | tuple) or len(written) != 2:  # noqa: PLR2004 - low and high
        return None
    low, high = written
    known = isinstance(low, int | float) and isinstance(high, int | float) and 0 < low <= high
    return (low, high) if known else None


def image_diameter(case: FitCase) -> ObjectSize | None:
    """Give the object diameter of the image, in its pixels; None where it is not clear.

    A channel of the model that has an object size in its sample is compared with the same channel
    of the image; with a declared diameter the first channel that shows a size counts, since models
    of several channels name the channel of the objects first.
    """
    declared = declared_diameter(case.model) is not None
    for position, measures in sorted(case.measured.items()):
        sample = case.sample.get(position)
        if measures.size is not None and (declared or (sample and sample.size)):
            return measures.size
    return None


def object_factor(case: FitCase) -> float | None:
    """Give the factor that brings the objects of the image to the size that the model wants.

    None where either size is not clear, and for objects too small to be brought back: enlarging
    does not restore what a few pixels have lost.
    """
    wanted, found = model_diameter(case), image_diameter(case)
    if wanted is None or found is None or found.diameter_px < LEAST_OBJECT_PX:
        return None
    return wanted.target_px(found.diameter_px) / found.diameter_px


def measured_findings(case: FitCase) -> Iterator[Finding]:
    """Yield what the measures of the used channels tell."""
    for position, channel in enumerate(case.channels_taken):
        measures = case.measured.get(position)
        if measures is None or channel == EMPTY_CHANNEL:
            continue
        where = f"{case.inputs[0].id}.c{channel}"
        if measures.outliers.dominate and not _are_cut(measures, case.clip):
            yield _outlier(channel, where, case, position)
        if measures.saturation.cuts:
            yield Finding.of(
                "range.saturated", where,
                f"bright parts of channel {channel} are cut off at {measures.saturation.level:g}",
                wanted="objects below the top value",
                found=f"{measures.saturation.pixels} pixels at the top",
                hint="a shorter exposure; what is cut off cannot be brought back",
                evidence="measured",
            )  # fmt: skip
        yield from _polarity(case, position, where)
    yield from _object_size(case)


def clip_percentile(measures: PlaneMeasures) -> float:
    """Give a percentile above which all hot pixels lie, of small images, too."""
    share = (measures.outliers.pixels + 1) / (measures.shape[0] * measures.shape[1])
    return min(CLIP_PERCENTILE, floor((1 - share) * 10_000) / 100)


def _are_cut(measures: PlaneMeasures, clip: float | None) -> bool:
    return clip is not None and clip <= clip_percentile(measures)


def _outlier(channel: int, where: str, case: FitCase, position: int) -> Finding:
    found = case.measured[position].outliers
    return Finding.of(
        "range.outlier", where,
        f"{found.pixels} hot pixel{'s' * (found.pixels != 1)} up to {found.highest:g} in channel "
        f"{channel}, the rest stays below {found.highest_without:g}",
        wanted="a range without hot pixels", found=f"{found.stretch:.1f} x the range",
        hint=f"cut them off: --clip {clip_percentile(case.measured[position])}",
        evidence="measured",
    )  # fmt: skip


def _polarity(case: FitCase, position: int, where: str) -> Iterator[Finding]:
    found = case.measured[position].polarity
    wanted, who, evidence = _wanted_side(case, position)
    if found is None or wanted is None or found.reliability < SURE or found.side == wanted:
        return
    yield Finding.of(
        "range.inverted", where,
        f"structures are {found.side} here and {wanted} {who}",
        wanted=wanted, found=found.side,
        hint="invert the image first, or take a model for this kind of image",
        evidence=evidence,
    )  # fmt: skip


def _wanted_side(case: FitCase, position: int) -> tuple[str | None, str, Evidence]:
    """Say which side the model wants and who says so: its own sample, else the curated facts."""
    sample = case.sample.get(position)
    if sample is not None:
        sure = sample.polarity is not None and sample.polarity.reliability >= SURE
        side = sample.polarity.side if sample.polarity and sure else None
        return side, "in the model's own sample", "measured"
    facts = facts_of(case.model.alias)
    if facts is None or facts.polarity is None:
        return None, "", "curated"
    return facts.polarity.value, f"for the model ({facts.polarity.source})", "curated"


def _object_size(case: FitCase) -> Iterator[Finding]:
    wanted, found = model_diameter(case), image_diameter(case)
    if wanted is None or found is None:
        return
    diameter_px = found.diameter_px * (case.scale or 1.0)
    if wanted.holds(diameter_px, found.spread):
        return
    factor = wanted.target_px(found.diameter_px) / found.diameter_px
    yield Finding.of(
        "object.size", f"{case.inputs[0].id}.x",
        f"objects are about {diameter_px:.3g} px across, "
        f"the model is made for about {wanted.px:.3g} px",
        wanted=f"{wanted.low:.3g} to {wanted.high:.3g} px", found=f"{diameter_px:.3g} px",
        hint=f"--scale {factor:.2g} (or --scale auto)", evidence="measured",
        milder=_is_doubtful(wanted, found, diameter_px),
    )  # fmt: skip


def _is_doubtful(wanted: Diameter, found: ObjectSize, diameter_px: float) -> bool:
    """Say whether only a sample tells what the model wants, and the objects are not clearly far."""
    ratio = diameter_px / wanted.px
    far = not 1 / FAR < ratio < FAR
    return wanted.evidence == "measured" and not (far and found.reliability >= CLEAR)
