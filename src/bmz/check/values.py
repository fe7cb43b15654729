"""Do dtype and values of the pixels fit what the model takes?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bmz.base.channels import EMPTY_CHANNEL
from bmz.check.finding import Finding
from bmz.check.fit_case import FitCase
from bmz.check.pixel_values import ValueSummary

FLAT_LEVELS = 8
"""An integer image with fewer grey levels between its 1st and 99.9th percentile is flat: a
stretch over so few levels shows steps and noise, not objects."""

UNIT_MOST = 1.0
"""No pixel above this in a float image: it was scaled to 0-1."""


def cast_findings(case: FitCase) -> Iterator[Finding]:
    """Yield casts that lose nothing whatever the values are, which the header tells."""
    for tensor in case.inputs:
        found, wanted = case.image.dtype, np.dtype(tensor.dtype)
        if found != wanted and np.can_cast(found, wanted, "safe"):
            yield _cast(tensor.id, found, wanted)


def _cast(where: str, found: np.dtype[Any], wanted: np.dtype[Any]) -> Finding:
    return Finding.of(
        "dtype.cast", where, f"{found} is cast to {wanted} without loss",
        wanted=str(wanted), found=str(found),
    )  # fmt: skip


def dtype_findings(case: FitCase, pixels: ValueSummary) -> Iterator[Finding]:
    """Yield a cast that loses nothing of these values as a note and any other as a warning.

    Parameters
    ----------
    pixels : of the image or a sample; their range decides whether narrowing loses anything
    """
    pixels = pixels.of(_used(case))
    if pixels.size == 0:
        return  # every channel is filled with zeros
    for tensor in case.inputs:
        found, wanted = pixels.dtype, np.dtype(tensor.dtype)
        if found == wanted or np.can_cast(found, wanted, "safe"):
            continue  # as it should be, or told from the header
        if _values_survive(pixels, wanted):
            yield _cast(tensor.id, found, wanted)
        else:
            yield Finding.of(
                "dtype.narrowed", tensor.id,
                f"{found} becomes {wanted}: values are rounded and cut to its range",
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
    """Yield values that are no numbers, no contrast, empty channels, and another range."""
    first, used = case.inputs[0], pixels.of(_used(case))
    bad = used.nonfinite
    if bad:
        yield Finding.of(
            "range.nonfinite", first.id,
            f"{bad} of {used.size} pixels are NaN or infinite",
            wanted="finite numbers", found=f"{bad} others",
            hint="fill or crop them; every pixel near them would come out wrong",
            evidence="measured",
        )  # fmt: skip
        return
    yield from _contrast(case, pixels)
    if used.size:
        yield from _declared_range(case, used)


def _used(case: FitCase) -> tuple[int, ...]:
    """Give the channels of the image that the model sees, each once."""
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
                hint="look whether this is the right file and channel (--channels)",
                evidence="measured",
            )  # fmt: skip
        elif levels and high - low < FLAT_LEVELS:
            yield Finding.of(
                "range.flat", where,
                f"channel {number} has almost no contrast: a range of {high - low:g} grey levels",
                wanted=f"{FLAT_LEVELS} grey levels or more", found=f"{low:g} to {high:g}",
                hint="an empty field of view, or too short an exposure: expect false objects",
                evidence="measured",
            )  # fmt: skip


def _declared_range(case: FitCase, pixels: ValueSummary) -> Iterator[Finding]:
    low, high = pixels.limits
    for tensor in case.inputs:
        least, most = tensor.value_range
        if most is not None and most > UNIT_MOST and low >= 0 and high <= UNIT_MOST:
            yield Finding.of(
                "range.unit", tensor.id,
                "the pixels lie in 0 to 1, the model takes a wider range",
                wanted=_declared(least, most), found=_range(pixels),
                hint=f"multiply the image by {most:g}, or give the raw one", evidence="measured",
            )  # fmt: skip
        elif (least is not None and low < least) or (most is not None and high > most):
            yield Finding.of(
                "range.outside", tensor.id,
                "pixels lie outside the declared range of the model",
                wanted=_declared(least, most), found=_range(pixels),
                hint="bring the intensities into the range yourself, or look twice at the result",
                evidence="measured",
            )  # fmt: skip


def _declared(least: float | None, most: float | None) -> str:
    if least is None or most is None:
        return f"{least:g} or more" if least is not None else f"{most:g} or less"
    return f"{least:g} to {most:g}"
