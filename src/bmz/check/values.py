"""Check whether dtype and values of the pixels, and what is measured on them, fit the model."""

from __future__ import annotations

from collections.abc import Iterator
from math import floor, sqrt
from typing import Any

import numpy as np

from bmz.base.axes import EMPTY_CHANNEL
from bmz.base.values import dataclass
from bmz.check.finding import Evidence, Finding
from bmz.check.fit_case import FitCase
from bmz.check.measured import PlaneMeasures
from bmz.check.object_size import ObjectSize
from bmz.check.pixel_values import ValueSummary
from bmz.spec.facts import facts_of
from bmz.spec.model import ModelSpec

FLAT_LEVELS = 8
"""An integer image with fewer grey levels between its 1st and 99.9th percentile is flat: a
stretch over so few levels shows steps and noise, not objects."""

UNIT_MOST = 1.0
"""A float image without pixels above this value was scaled to 0-1."""


def cast_findings(case: FitCase) -> Iterator[Finding]:
    """Yield casts that are lossless for any values, which the header alone shows."""
    for tensor in case.inputs:
        found, wanted = case.image.dtype, np.dtype(tensor.dtype)
        if found != wanted and np.can_cast(found, wanted, "safe"):
            yield _cast(tensor.id, found, wanted)


def _cast(where: str, found: np.dtype[Any], wanted: np.dtype[Any]) -> Finding:
    return Finding.of(
        "dtype.cast", where, f"converted from {found} to {wanted} without loss",
        wanted=str(wanted), found=str(found),
    )  # fmt: skip


def dtype_findings(case: FitCase, pixels: ValueSummary) -> Iterator[Finding]:
    """Yield a cast that is lossless for these values as a note, and any other as a warning.

    Parameters
    ----------
    pixels : values of the image or a sample; their range decides whether narrowing is lossless
    """
    pixels = pixels.of(_used(case))
    if pixels.size == 0:
        return  # every channel is filled with zeros
    for tensor in case.inputs:
        found, wanted = pixels.dtype, np.dtype(tensor.dtype)
        if found == wanted or np.can_cast(found, wanted, "safe"):
            continue  # nothing to cast, or reported from the header
        if _values_survive(pixels, wanted):
            yield _cast(tensor.id, found, wanted)
        else:
            yield Finding.of(
                "dtype.narrowed", tensor.id,
                f"{found} becomes {wanted}: values are rounded and clipped to its range",
                wanted=str(wanted), found=f"{found}, {_range(pixels)}",
                hint=f"scale the intensities to the range of {wanted} yourself, then run again",
                evidence="measured",
            )  # fmt: skip


def _values_survive(pixels: ValueSummary, wanted: np.dtype[Any]) -> bool:
    if pixels.nonfinite:
        return False
    least, most = pixels.limits
    if np.issubdtype(wanted, np.floating):
        # float64 to float32 loses digits, not meaning; integers beyond the mantissa do
        whole = np.issubdtype(pixels.dtype, np.integer)
        limit = 2 ** (np.finfo(wanted).nmant + 1) if whole else float(np.finfo(wanted).max)
        return bool(max(abs(least), abs(most)) <= limit)
    if not np.issubdtype(wanted, np.integer):
        return False
    limits = np.iinfo(wanted)
    return bool(least >= limits.min and most <= limits.max) and pixels.whole


def _range(pixels: ValueSummary) -> str:
    least, most = pixels.limits
    return f"{least:g} to {most:g}"


def range_findings(case: FitCase, pixels: ValueSummary) -> Iterator[Finding]:
    """Yield non-finite values, low contrast, empty channels, and a range other than declared."""
    first, used = case.inputs[0], pixels.of(_used(case))
    bad = used.nonfinite
    if bad:
        yield Finding.of(
            "range.nonfinite", first.id,
            f"{bad} of {used.size} pixels are NaN or infinite",
            wanted="finite numbers", found=f"{bad} others",
            hint="fill in or crop these pixels; every pixel near them would be wrong",
            evidence="measured",
        )  # fmt: skip
        return
    yield from _contrast(case, pixels)
    if used.size:
        yield from _declared_range(case, used)


def _used(case: FitCase) -> tuple[int, ...]:
    """Return the channels of the image that the model uses, each once."""
    return tuple(sorted(set(case.channels_taken) - {EMPTY_CHANNEL}))


def _contrast(case: FitCase, pixels: ValueSummary) -> Iterator[Finding]:
    levels = np.issubdtype(pixels.dtype, np.integer) or pixels.dtype == np.bool_
    for number in _used(case):
        channel = pixels.channels[number]
        low, high = channel.low, channel.high
        where = f"{case.inputs[0].id}.c{number}"
        if channel.least == channel.most:
            yield Finding.of(
                "channel.empty", where,
                f"every pixel of channel {number} is {channel.least:g}",
                wanted="an image", found="one value",
                hint="check that this is the right file and channel (--channels)",
                evidence="measured",
            )  # fmt: skip
        elif levels and high - low < FLAT_LEVELS:
            yield Finding.of(
                "range.flat", where,
                f"channel {number} has almost no contrast: a range of {high - low:g} grey levels",
                wanted=f"{FLAT_LEVELS} grey levels or more", found=f"{low:g} to {high:g}",
                hint="the field of view is empty, or the exposure too short: expect false objects",
                evidence="measured",
            )  # fmt: skip


def _declared_range(case: FitCase, pixels: ValueSummary) -> Iterator[Finding]:
    low, high = pixels.limits
    for tensor in case.inputs:
        least, most = tensor.value_range
        if most is not None and most > UNIT_MOST and low >= 0 and high <= UNIT_MOST:
            yield Finding.of(
                "range.unit", tensor.id,
                "the pixels are between 0 and 1, but the model expects a wider range",
                wanted=_declared(least, most), found=_range(pixels),
                hint=f"multiply the image by {most:g}, or use the raw image", evidence="measured",
            )  # fmt: skip
        elif (least is not None and low < least) or (most is not None and high > most):
            yield Finding.of(
                "range.outside", tensor.id,
                "some pixels are outside the range that the model declares",
                wanted=_declared(least, most), found=_range(pixels),
                hint="scale the intensities to the range yourself, or inspect the result carefully",
                evidence="measured",
            )  # fmt: skip


def _declared(least: float | None, most: float | None) -> str:
    if least is None or most is None:
        return f"{least:g} or more" if least is not None else f"{most:g} or less"
    return f"{least:g} to {most:g}"


OFF = 2.0
"""From this ratio of object diameters, objects differ from those a network was trained on."""

FAR = 3.0
"""From this ratio to the objects of a single sample, resizing helps more often than it harms.

A sample shows one of the sizes that a network was trained on; many were trained on several.
"""

FAR_LARGER = 4.0
"""The same for objects larger than those of the sample: a network finds these more reliably than
smaller ones, and small objects next to them are lost when the image is shrunk."""

CLEAR = 0.5
"""Below this reliability, a size rests on one measurement only, too little for a warning."""

SPREADS = 2.0
"""A size is outside a declared range if it misses it by more than this many uncertainties."""

LEAST_OBJECT_PX = 4.0
"""Below this diameter, the estimate is unreliable and the shape of an object is lost."""

SURE = 0.6
"""Polarities below this reliability, as in electron microscopy, are ignored."""

CLIP_PERCENTILE = 99.99
"""Clipping at this percentile removes hot pixels and preserves objects."""


@dataclass(frozen=True)
class Diameter:
    """The object diameter that a model expects.

    Parameters
    ----------
    px : typical diameter in pixels of its input
    low, high : range in which the model is known to work; half and double if none is stated
    evidence : source of the diameter
    stated : whether the description states the range; half and double are a tolerant rule of thumb
    """

    px: float
    low: float
    high: float
    evidence: Evidence
    stated: bool = False

    def holds(self, seen_px: float, spread: float) -> bool:
        """Return whether objects of this size are within the range, given the uncertainty.

        Parameters
        ----------
        spread : relative uncertainty of `seen_px`; sizes outside a stated range by less than
            `SPREADS` times this count as inside
        """
        slack = 1 + SPREADS * spread if self.stated else 1.0
        return self.low / slack <= seen_px <= self.high * slack

    def target_px(self, seen_px: float) -> float:
        """Return the diameter to which objects should be resized.

        Objects outside a stated range are resized to halfway, in octaves, between its nearer end
        and the typical diameter: the less an image is resized, the less of it is lost.
        """
        if not self.stated or self.low <= seen_px <= self.high:
            return self.px
        return sqrt(self.px * (self.low if seen_px < self.low else self.high))


def model_diameter(case: FitCase) -> Diameter | None:
    """Return the object diameter of a model: declared, else measured on its own sample."""
    declared = declared_diameter(case.model)
    if declared is not None:
        return declared
    sizes = [m.size for m in case.sample.values() if m.size is not None]
    if not sizes:
        return None
    best = max(sizes, key=lambda size: size.reliability).diameter_px
    return Diameter(best, best / OFF, best * OFF, "measured")


def declared_diameter(model: ModelSpec) -> Diameter | None:
    """Return ``config.bmz.object_diameter_px`` and its range, if the description states it."""
    px = model.ours.get("object_diameter_px")
    if not isinstance(px, int | float) or px <= 0:
        return None
    limits = _limits(model.ours.get("object_diameter_range_px"))
    low, high = limits or (px / OFF, px * OFF)
    return Diameter(float(px), float(low), float(high), "declared", stated=limits is not None)


def _limits(written: object) -> tuple[float, float] | None:
    """Read a range; None if it is not one, since descriptions may contain anything there."""
    if not isinstance(written, list | tuple) or len(written) != 2:  # noqa: PLR2004 - low and high
        return None
    low, high = written
    known = isinstance(low, int | float) and isinstance(high, int | float) and 0 < low <= high
    return (low, high) if known else None


def image_diameter(case: FitCase) -> ObjectSize | None:
    """Return the object diameter of the image, in its pixels; None if it is not clear.

    Channels for which the sample shows an object size are compared with the same channels of the
    image. With a declared diameter, the first channel that shows a size counts, since models with
    several channels name the channel of the objects first.
    """
    declared = declared_diameter(case.model) is not None
    for position, measures in sorted(case.measured.items()):
        sample = case.sample.get(position)
        if measures.size is not None and (declared or (sample and sample.size)):
            return measures.size
    return None


def object_factor(case: FitCase) -> float | None:
    """Return the factor that resizes the objects of the image to the size that the model expects.

    None if either size is not clear, and for objects of only a few pixels, since enlarging them
    does not restore lost detail.
    """
    wanted, found = model_diameter(case), image_diameter(case)
    if wanted is None or found is None or found.diameter_px < LEAST_OBJECT_PX:
        return None
    return wanted.target_px(found.diameter_px) / found.diameter_px


def measured_findings(case: FitCase) -> Iterator[Finding]:
    """Yield findings on the measurements of the used channels."""
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
                f"bright parts of channel {channel} are saturated at {measures.saturation.level:g}",
                wanted="objects below the top value",
                found=f"{measures.saturation.pixels} pixels at the top value",
                hint="use a shorter exposure; saturated values cannot be recovered",
                evidence="measured",
            )  # fmt: skip
        yield from _polarity(case, position, where)
    yield from _object_size(case)


def clip_percentile(measures: PlaneMeasures) -> float:
    """Return a percentile above which all hot pixels lie, even in small images."""
    share = (measures.outliers.pixels + 1) / (measures.shape[0] * measures.shape[1])
    return min(CLIP_PERCENTILE, floor((1 - share) * 10_000) / 100)


def _are_cut(measures: PlaneMeasures, clip: float | None) -> bool:
    return clip is not None and clip <= clip_percentile(measures)


def _outlier(channel: int, where: str, case: FitCase, position: int) -> Finding:
    found = case.measured[position].outliers
    return Finding.of(
        "range.outlier", where,
        f"{found.pixels} hot pixel{'s' * (found.pixels != 1)} up to {found.highest:g} in channel "
        f"{channel}; the rest is below {found.highest_without:g}",
        wanted="a range without hot pixels", found=f"{found.stretch:.1f} x the range",
        hint=f"clip them: --clip {clip_percentile(case.measured[position])}",
        evidence="measured",
    )  # fmt: skip


def _polarity(case: FitCase, position: int, where: str) -> Iterator[Finding]:
    found = case.measured[position].polarity
    wanted, who, evidence = _wanted_side(case, position)
    if found is None or wanted is None or found.reliability < SURE or found.side == wanted:
        return
    yield Finding.of(
        "range.inverted", where,
        f"structures are {found.side} in the image and {wanted} {who}",
        wanted=wanted, found=found.side,
        hint="use bmz run --invert, or a model for this kind of image",
        evidence=evidence,
    )  # fmt: skip


def _wanted_side(case: FitCase, position: int) -> tuple[str | None, str, Evidence]:
    """Return the side that the model expects and its source: its sample, else the curated facts."""
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
    if wanted is None or found is None or case.further:
        return
    diameter_px = found.diameter_px * (case.scale or 1.0)
    if wanted.holds(diameter_px, found.spread):
        return
    factor = wanted.target_px(found.diameter_px) / found.diameter_px
    yield Finding.of(
        "object.size", f"{case.inputs[0].id}.x",
        f"objects are about {diameter_px:.3g} px across, but the model is made for about "
        f"{wanted.px:.3g} px",
        wanted=f"{wanted.low:.3g} to {wanted.high:.3g} px", found=f"{diameter_px:.3g} px",
        hint=f"--scale {factor:.2g} (or --scale auto)", evidence="measured",
        milder=_is_doubtful(wanted, found, diameter_px),
    )  # fmt: skip


def _is_doubtful(wanted: Diameter, found: ObjectSize, diameter_px: float) -> bool:
    """Return whether the expected size is only from a sample, and objects do not clearly differ."""
    ratio = diameter_px / wanted.px
    far = not 1 / FAR < ratio < FAR_LARGER
    return wanted.evidence == "measured" and not (far and found.reliability >= CLEAR)
