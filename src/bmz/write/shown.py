"""Conversion of intensities to colours for display, and PNG encoding."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, FloatArray, Places
from bmz.base.files import whole_file
from bmz.check.pixel_values import percentiles
from bmz.image.pixels import Pixels

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TRUE_COLOUR = 2
_NO_FILTER, _UP = 0, 2


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture as PNG, atomically; an existing file is replaced.

    Parameters
    ----------
    path : path of the file
    picture : (y, x, 3) red, green, blue
    """
    with whole_file(path) as temporary:
        temporary.write_bytes(png_bytes(picture))


def png_bytes(picture: NDArray[np.uint8]) -> bytes:
    """Encode an RGB picture, (y, x, 3), as PNG.

    If rows repeat, as in an enlarged picture, their differences are stored, which zlib-ng
    compresses in half the time of libdeflate. For other pictures libdeflate is faster.
    """
    height, width, _ = picture.shape
    # width, height, bits per sample, colour type, and the only defined values of the methods
    header = struct.pack(">IIBBBBB", width, height, 8, _TRUE_COLOUR, 0, 0, 0)
    rows = picture.reshape(height, -1)
    repeats = bool(2 * np.count_nonzero(rows[1:] == rows[:-1]) > rows.size)
    pack, level = (imagecodecs.zlibng_encode, 2) if repeats else (imagecodecs.deflate_encode, 1)
    filtered: Any = _filtered(rows, repeats=repeats)  # the type stubs do not accept arrays
    lines = bytes(pack(filtered, level))
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", lines) + _chunk(b"IEND", b"")


def _filtered(rows: AnyArray, *, repeats: bool) -> AnyArray:
    """Filter each row and prepend the number of the filter."""
    lines = np.empty((rows.shape[0], rows.shape[1] + 1), np.uint8)
    lines[:, 0] = _UP if repeats else _NO_FILTER
    if repeats:
        lines[0, 1:] = rows[0]
        np.subtract(rows[1:], rows[:-1], out=lines[1:, 1:])
    else:
        lines[:, 1:] = rows
    return lines


def _chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(content, zlib.crc32(name))
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


PERCENTS = (1.0, 99.8)
"""Default percentiles that are shown as black and as white."""

_GREY = (1.0, 1.0, 1.0)
# pairs and triples that people with red-green colour blindness can distinguish
COLOURS = {
    1: (_GREY,),
    2: ((1.0, 0.2, 0.9), (0.1, 0.9, 0.2)),
    3: ((1.0, 0.2, 0.9), (0.2, 0.9, 0.2), (0.1, 0.45, 1.0)),
}
_MOST_CHANNELS = 3


_LARGEST_SPAN = 1e38
"""Larger differences overflow in float32."""

FEW_BYTES = 2
"""Integers of up to this many bytes are converted through a lookup table of all values."""


def in_colour(image: Pixels) -> NDArray[np.uint8]:
    """Convert one plane to RGB for display.

    The channels of an RGB image are stretched together, so that it keeps its colours. Stains are
    stretched separately and added; of more than three, the first three are shown.

    Parameters
    ----------
    image : axes y, x and optionally c

    Returns
    -------
    (y, x, 3) uint8
    """
    shown = greys_or_colours(image)
    return np.broadcast_to(shown, (*shown.shape[:2], 3))


Limits = tuple[float, float]
"""The intensities that are shown as black and as white."""

NOTHING_KNOWN: Limits = (float(np.finfo(np.float32).max),) * 2
"""The limits of pixels of which none is finite; all of them are shown as black."""


def greys_or_colours(image: Pixels, limits: Sequence[Limits] | None = None) -> NDArray[np.uint8]:
    """Convert one plane for display to (y, x, 1) if it is grey, otherwise to RGB, (y, x, 3).

    Parameters
    ----------
    image : axes y, x and optionally c
    limits : limits as from `limits_of`; None for those of this image
    """
    stretched_together = _stretched_together(image)
    pairs = limits if limits is not None else [None] * len(stretched_together)
    if len(stretched_together) > 1:
        shown = zip(stretched_together, pairs, strict=True)
        return _added([_shown(channel, _lifted, limits=pair) for channel, pair in shown])
    (pixels,), (pair,) = stretched_together, pairs
    if pixels.ndim == len("cyx"):
        return np.moveaxis(_shown(pixels, as_bytes, limits=pair), 0, -1)
    return _shown(pixels, _grey_bytes, limits=pair)[..., None]


def limits_of(image: Pixels) -> list[Limits]:
    """Return the display limits: one pair for an RGB image, otherwise one per stain.

    Parameters
    ----------
    image : axes y, x and optionally c
    """
    return [percentile_limits(pixels) for pixels in _stretched_together(image)]


def limits_of_all(images: Iterable[Pixels]) -> list[Limits]:
    """Return common display limits of several planes, so that they can be compared."""
    of_channels = zip(*(limits_of(image) for image in images), strict=True)
    known = [[pair for pair in pairs if pair != NOTHING_KNOWN] for pairs in of_channels]
    return [
        (min(low for low, _ in pairs), max(high for _, high in pairs)) if pairs else NOTHING_KNOWN
        for pairs in known
    ]


def _stretched_together(image: Pixels) -> list[AnyArray]:
    """Return the channels of an RGB image together, (c, y, x), or each shown stain, (y, x)."""
    if "c" not in image.axes:
        return [image.transposed("yx").array]
    channels = image.transposed("cyx").array
    if image.colour and len(channels) == _MOST_CHANNELS:
        return [channels]
    return list(channels[:_MOST_CHANNELS])


def _added(lights: Sequence[AnyArray]) -> NDArray[np.uint8]:
    picture = np.empty((*lights[0].shape, 3), np.uint8)
    for k, shares in enumerate(zip(*COLOURS[len(lights)], strict=True)):
        total = np.zeros(lights[0].shape, np.float32)
        for light, share in zip(lights, shares, strict=True):
            total += light * np.float32(share)
        picture[..., k] = as_bytes(total)
    return picture


def stretched(pixels: AnyArray, percents: tuple[float, float] = PERCENTS) -> FloatArray:
    """Rescale two percentiles to 0 and 1 and clip values outside; NaN becomes 0."""
    return _shown(pixels, _unchanged, percents)


def _shown(
    pixels: AnyArray,
    way: Callable[[FloatArray], AnyArray],
    percents: tuple[float, float] = PERCENTS,
    limits: Limits | None = None,
) -> AnyArray:
    """Stretch the values as `stretched` does, and apply the elementwise function `way`."""
    if _are_few(pixels):
        places, values, counts = _tabled(pixels)
        table = way(_between(values, *(limits or _counted_limits(values, counts, percents))))
        return table[places]
    real = _in_float32(pixels)
    return way(_between(real, *(limits or _sorted_limits(real, percents))))


def percentile_limits(pixels: AnyArray, percents: tuple[float, float] = PERCENTS) -> Limits:
    """Return the intensities that `stretched` rescales to 0 and 1."""
    if _are_few(pixels):
        return _counted_limits(*_tabled(pixels)[1:], percents)
    return _sorted_limits(_in_float32(pixels), percents)


def _are_few(pixels: AnyArray) -> bool:
    """Return whether the dtype has few enough values for a lookup table."""
    whole = pixels.dtype.kind in "biu" and pixels.dtype.itemsize <= FEW_BYTES
    return whole and pixels.size > 0


def _in_float32(pixels: AnyArray) -> FloatArray:
    with np.errstate(over="ignore"):  # values beyond float32 become infinite, the brightest
        return pixels.astype(np.float32)


def _sorted_limits(real: FloatArray, percents: tuple[float, float]) -> Limits:
    known = real[np.isfinite(real)]
    if not known.size:
        return NOTHING_KNOWN
    known.sort()
    low, high = percentiles(known, percents, np.float32)
    return _limits(float(low), float(high), known)


def _tabled(pixels: AnyArray) -> tuple[AnyArray, FloatArray, AnyArray]:
    """Return the index of each pixel in a table of values, the values, and their counts."""
    least = int(pixels.min()) if pixels.dtype.kind == "i" else 0
    places = pixels.astype(np.int32) - least if least else pixels.view(f"u{pixels.itemsize}")
    counts = np.bincount(places.reshape(-1))
    return places, (np.arange(len(counts)) + least).astype(np.float32), counts


def _counted_limits(values: FloatArray, counts: AnyArray, percents: tuple[float, float]) -> Limits:
    among = Places.among(int(counts.sum()), percents)
    below, above = (
        values[np.searchsorted(counts.cumsum(), at, side="right")]
        for at in (among.below, among.above)
    )
    low, high = among.between(below, above)
    return _limits(float(low), float(high), values[counts > 0])


def _limits(low: float, high: float, order: FloatArray) -> tuple[float, float]:
    """Return the values that become 0 and 1; the extremes if the plane is nearly constant."""
    return (low, high) if high > low else (float(order[0]), float(order[-1]))


def _between(values: FloatArray, low: float, high: float) -> FloatArray:
    """Rescale `low` to 0 and `high` to 1, and clip values outside."""
    span = high - low if high > low else 1.0
    kept = values if span < _LARGEST_SPAN else values.astype(np.float64)
    shares = np.nan_to_num(kept, nan=low)
    with np.errstate(over="ignore"):  # infinity has become the largest number
        shares -= kept.dtype.type(low)
        shares /= kept.dtype.type(span)
    return np.clip(shares, 0, 1, out=shares).astype(np.float32, copy=False)


def _unchanged(shares: FloatArray) -> FloatArray:
    return shares


def _lifted(shares: FloatArray) -> FloatArray:
    """Raise to the power 3/4, because screens show dim intensities too dark.

    Two square roots take a tenth of the time of a power.
    """
    root = np.sqrt(shares)
    return root * np.sqrt(root)


def _grey_bytes(shares: FloatArray) -> NDArray[np.uint8]:
    return as_bytes(_lifted(shares))


def shrunk(image: Pixels, sides: tuple[int, int]) -> Pixels:
    """Reduce an image to `sides` by averaging, so that later steps handle fewer pixels."""
    if sides[0] >= image.sizes["y"] and sides[1] >= image.sizes["x"]:
        return image
    from PIL import Image  # here: it takes long to import

    with np.errstate(over="ignore"):  # as in `_in_float32`
        small = [
            np.asarray(
                Image.fromarray(channel.astype(np.float32)).resize(
                    sides[::-1], Image.Resampling.BOX
                )
            )
            for channel in image.with_channel_axis().transposed("cyx").array
        ]
    return Pixels(np.stack(small), ("c", "y", "x"), colour=image.colour)


def nearest(pixels: AnyArray, sides: tuple[int, int]) -> AnyArray:
    """Resize to `sides`, (height, width) in px, by nearest-neighbour interpolation."""
    y, x = _under(pixels.shape, sides)
    wide = pixels if sides[1] == pixels.shape[1] else pixels.take(x, axis=1)
    return wide if sides[0] == pixels.shape[0] else wide.take(y, axis=0)


def _under(shape: tuple[int, ...], sides: tuple[int, int]) -> tuple[AnyArray, AnyArray]:
    y, x = (
        ((np.arange(side) + 0.5) * size / side).astype(int)
        for side, size in zip(sides, shape, strict=False)
    )
    return y, x


def enlarged(base: NDArray[np.uint8], sides: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize to `sides` by nearest-neighbour interpolation, and return RGB, (y, x, 3)."""
    wide = nearest(base, (base.shape[0], sides[1]))
    colours = np.empty((*wide.shape[:2], 3), np.uint8)
    for k in range(3):
        colours[..., k] = wide[..., min(k, wide.shape[2] - 1)]
    return nearest(colours, sides)


def as_bytes(colours: FloatArray) -> NDArray[np.uint8]:
    """Convert values from 0 to 1 to bytes; values outside are clipped."""
    return np.round(np.clip(colours, 0, 1) * 255).astype(np.uint8)
