"""Conversion between images and maps: their channels, axes, dtypes and grids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, combinations
from math import ceil, floor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bmz.base.arrays import AnyArray, FloatArray, LabelArray, LazyArray, mirrored_values
from bmz.base.axes import IMAGE_AXES, Box
from bmz.base.values import dataclass

SHARE_TOLERANCE = 1e-9
"""Shares that differ by no more than this count as equal."""

TRUNCATE = 4.0
"""Number of standard deviations at which the Gaussian is truncated, SciPy's default."""


def resize_image(x: AnyArray, shape: Sequence[int]) -> FloatArray:
    """Resize every channel by linear interpolation, smoothed first along axes that shrink.

    Source: ``skimage.transform.resize`` with ``order=1``, whose Gaussian has the sigma
    (factor - 1) / 2; the values are the same up to rounding.

    Parameters
    ----------
    x : (c, (z,) y, x)
    shape : shape of the result, without the channel axis

    Returns
    -------
    ndarray
        (c,) + shape, float32, in the range of `x`
    """
    whole = tuple(slice(0, n) for n in shape)
    return resized_part(lambda box: x[(slice(None), *box)], x.shape[1:], shape, whole)


def resized_part(
    read: Callable[[Box], AnyArray], old: Sequence[int], new: Sequence[int], box: Box
) -> FloatArray:
    """Return a part of the result of `resize_image`, from only the part of the image it needs.

    Parameters
    ----------
    read : returns (c, (z,) y, x) within one slice per spatial axis
    old, new : spatial sizes of the image and of the whole result
    box : part of the result to return, one slice per spatial axis

    Returns
    -------
    ndarray
        (c, (z,) y, x) float32
    """
    if tuple(old) == tuple(new):
        return read(box).astype(np.float32)
    from scipy import ndimage  # here: most images are not resized

    sides = [_side(*axis) for axis in zip(old, new, box, strict=True)]
    part = read(tuple(side.seen for side in sides)).astype(np.float32)
    steps, starts = [side.step for side in sides], [side.start for side in sides]
    sigmas = [_sigma(side.step) for side in sides]
    shape = tuple(side.stop - side.start for side in box)
    resized = []
    for plane in part:
        smooth = ndimage.gaussian_filter(plane, sigmas, mode="mirror", truncate=TRUNCATE)
        resized.append(
            ndimage.affine_transform(smooth, steps, starts, shape, order=1, mode="mirror")
        )
    return np.stack(resized)


def resize_labels(labels: AnyArray, shape: Sequence[int]) -> AnyArray:
    """Resize a label mask without creating new labels, with smooth outlines if it is enlarged.

    Along an axis that shrinks, each pixel takes the label at its centre. Along one that grows,
    each pixel takes the label with the largest share by linear interpolation of the masks of all
    labels; among equal shares, that of the nearest pixel.

    Parameters
    ----------
    labels : ((z,) y, x), any dtype
    shape : shape of the result

    Returns
    -------
    ndarray
        of shape `shape`, dtype of `labels`
    """
    whole = tuple(slice(0, n) for n in shape)
    return resized_labels_part(labels.__getitem__, labels.shape, shape, whole)


def resized_labels_part(
    read: Callable[[Box], AnyArray], old: Sequence[int], new: Sequence[int], box: Box
) -> AnyArray:
    """Return a part of the result of `resize_labels`, from only the part of the labels it needs.

    Parameters
    ----------
    read : returns ((z,) y, x) within one slice per axis
    old, new : sizes of the labels and of the whole result
    box : part of the result to return, one slice per axis
    """
    ends = [_ends(*along) for along in zip(old, new, box, strict=True)]
    lows = [int(min(near[0], far[0])) for near, far, _ in ends]
    highs = [int(max(near[-1], far[-1])) + 1 for near, far, _ in ends]
    part = read(tuple(slice(low, high) for low, high in zip(lows, highs, strict=True)))
    places = [(near - low, far - low) for (near, far, _), low in zip(ends, lows, strict=True)]
    grows = [axis for axis, (n, m) in enumerate(zip(old, new, strict=True)) if m > n]
    corners = [
        taken(part, [places[axis][axis in chosen] for axis in range(len(places))])
        for chosen in _subsets(grows)
    ]
    result = corners[0].copy()
    unlike = np.zeros(result.shape, np.bool_)
    for corner in corners[1:]:
        unlike |= corner != result
    where = np.nonzero(unlike)
    of_ends = {axis: (1 - ends[axis][2], ends[axis][2]) for axis in grows}
    shares = [
        np.prod([shares[axis in chosen][where[axis]] for axis, shares in of_ends.items()], axis=0)
        for chosen in _subsets(grows)
    ]
    result[where] = _most([corner[where] for corner in corners], shares)
    return result


def taken(values: AnyArray, places: Sequence[NDArray[np.integer[Any]]]) -> AnyArray:
    """Return the values at a grid of indices along the last axes, as with `numpy.ix_`.

    Indexing one axis after the other takes a fifth of the time of indexing all at once.

    Parameters
    ----------
    values : array whose last ``len(places)`` axes are indexed
    places : indices along each of these axes, in order
    """
    for axis in range(-1, -len(places) - 1, -1):
        values = values.take(places[axis], axis=axis)
    return values


def _ends(
    old: int, new: int, part: slice
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Return the nearest and next nearest old pixel of each new one, and the latter's share."""
    at = (np.arange(part.start, part.stop) + 0.5) * (old / new)
    near = at.astype(np.intp)
    beside = at - near - 0.5
    far = np.clip(near + np.where(beside < 0, -1, 1), 0, old - 1)
    return near, far, np.abs(beside)


def _subsets(axes: Sequence[int]) -> list[frozenset[int]]:
    """Return, for each corner, the axes along which it is not the nearest; nearest corner first."""
    return [frozenset(some) for n in range(len(axes) + 1) for some in combinations(axes, n)]


def _most(labels: Sequence[AnyArray], shares: Sequence[NDArray[np.float64]]) -> AnyArray:
    """Return the label with the largest share over all corners, the first one among equals."""
    best, most = labels[0], np.zeros(len(labels[0]))
    for corner in labels:
        total = sum(
            np.where(other == corner, share, 0) for other, share in zip(labels, shares, strict=True)
        )
        better = total > most + SHARE_TOLERANCE
        best, most = np.where(better, corner, best), np.where(better, total, most)
    return best


class _Side(NamedTuple):
    """Slice to read for a part along one axis, and the start and step of its pixels in there."""

    seen: slice
    step: float
    start: float


def _side(old: int, new: int, part: slice) -> _Side:
    # pixels are squares: the centre of the first one lies at 0.5
    step = old / new
    first, last = ((at + 0.5) * step - 0.5 for at in (part.start, part.stop - 1))
    reach = int(TRUNCATE * _sigma(step) + 0.5) + 1
    low, high = max(floor(first) - reach, 0), min(ceil(last) + reach + 1, old)
    return _Side(slice(low, high), step, first - low)


def _sigma(step: float) -> float:
    return max(0.0, (step - 1) / 2)


class _Along(NamedTuple):
    """The two map pixels around each position along an axis, and the weight of the second."""

    low: NDArray[np.intp]
    high: NDArray[np.intp]
    share: FloatArray


@dataclass(frozen=True)
class ResizedMaps:
    """Map of a resized image, resampled to the image lazily by linear interpolation.

    Beyond its outermost pixels the map is constant. It is not smoothed where it shrinks.
    Source: ``cv2.resize`` with ``INTER_LINEAR``, by which cellpose 3.1.1.3 resizes flows and cell
    probability to the image (``transforms.resize_image``, called by ``models._run_net``).

    Parameters
    ----------
    maps : (c, (z,) y, x), an array or a lazy array
    network, image : spatial sizes of the resized image and of the image, px
    grid : spacing of the map in pixels of the network's input, one number per spatial axis; the
        result has the same spacing in pixels of the image
    lengths : for each channel, whether it holds lengths in px, which scale with the image
    """

    maps: LazyArray
    network: tuple[int, ...]
    image: tuple[int, ...]
    grid: tuple[int, ...]
    lengths: tuple[bool, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the map: c, (z,) y, x; its last pixels may extend beyond the image."""
        sizes = (-(-n // step) for n, step in zip(self.image, self.grid, strict=True))
        return (self.maps.shape[0], *sizes)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def factor(self) -> float:
        """Size of a pixel of the resized image along y, px of the image."""
        return self.image[-2] / self.network[-2]

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: DTypeLike | None = None, *, copy: bool | None = None) -> AnyArray:
        """Return the whole map."""
        return np.asarray(self[(slice(None),) * self.ndim], dtype)

    def __getitem__(self, box: int | tuple[Any, ...]) -> AnyArray:
        """Return a part: an integer or a slice of channels, and one slice or array per axis."""
        channel, *space = _complete(box, self.ndim)
        if all(isinstance(places, np.ndarray) for places in space):
            return self._grown(self._at(channel, space), channel)
        alongs = [
            self._along(axis, np.arange(*side.indices(n)))
            for axis, (side, n) in enumerate(zip(space, self.shape[1:], strict=True))
        ]
        if any(along.low.size == 0 for along in alongs):
            many = [len(range(self.shape[0])[channel])] if isinstance(channel, slice) else []
            return np.zeros([*many, *(along.low.size for along in alongs)], np.float32)
        firsts = [int(along.low.min()) for along in alongs]
        inside = (
            slice(first, int(along.high.max()) + 1)
            for first, along in zip(firsts, alongs, strict=True)
        )
        part = np.asarray(self.maps[(channel, *inside)], np.float32)
        before = part.ndim - len(alongs)
        for axis, (first, along) in enumerate(zip(firsts, alongs, strict=True)):
            share = along.share.reshape([-1 if i == axis else 1 for i in range(len(alongs))])
            low, high = (
                np.take(part, end - first, before + axis) for end in (along.low, along.high)
            )
            part = _between(low, high, share)
        return self._grown(part, channel)

    def _at(self, channel: int | slice, places: Sequence[NDArray[np.intp]]) -> FloatArray:
        """Return the values at single pixels, bit-identical to those of the whole map."""
        alongs = [self._along(axis, at) for axis, at in enumerate(places)]

        def corner(axis: int, chosen: tuple[NDArray[np.intp], ...]) -> FloatArray:
            if axis < 0:
                entries: Any = (channel, *chosen)  # of an array, as `sparse` recipes read it
                return np.asarray(self.maps[entries], np.float32)
            low, high, share = alongs[axis]
            return _between(
                corner(axis - 1, (low, *chosen)), corner(axis - 1, (high, *chosen)), share
            )

        return corner(len(alongs) - 1, ())

    def _along(self, axis: int, entries: NDArray[np.intp]) -> _Along:
        # pixels are squares: the centre of the first one lies at 0.5
        step = self.network[axis] / self.image[axis]
        last = self.maps.shape[1 + axis] - 1
        at = np.clip((entries + 0.5) * step - 0.5, 0, last)
        low = np.floor(at).astype(np.intp)
        return _Along(low, np.minimum(low + 1, last), (at - low).astype(np.float32))

    def _grown(self, part: FloatArray, channel: int | slice) -> FloatArray:
        grown = np.array(self.lengths)[channel]
        if not grown.any():
            return part
        part[grown] *= np.float32(self.factor)
        return part


def _between(low: FloatArray, high: FloatArray, share: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore"):  # values may be infinite
        return low + (high - low) * share


def _complete(box: int | tuple[Any, ...], axes: int) -> list[Any]:
    """Return one index per axis: expand an ellipsis, and add slices for omitted last axes."""
    parts = list(box) if isinstance(box, tuple) else [box]
    at = next((i for i, part in enumerate(parts) if part is Ellipsis), None)
    if at is not None:
        parts[at : at + 1] = [slice(None)] * (axes - len(parts) + 1)
    return [*parts, *[slice(None)] * (axes - len(parts))]


def take_channels(x: AnyArray, channels: Sequence[int]) -> AnyArray:
    """Return the given channels in the given order; a negative number yields zeros.

    Parameters
    ----------
    x : (c, (z,) y, x), any dtype
    channels : indices of channels of `x`

    Returns
    -------
    ndarray
        (len(channels), (z,) y, x), dtype of `x`
    """
    empty = np.zeros_like(x[0])
    return np.stack([x[channel] if channel >= 0 else empty for channel in channels])


def seen_channels(
    plane: AnyArray, channels: Sequence[int], clip: float | None, *, invert: bool
) -> AnyArray:
    """Select, clip and invert channels as a plan requires.

    Parameters
    ----------
    plane : (c, (z,) y, x), as read
    channels : as in `take_channels`
    clip : percentile at which each channel is clipped; None for no clipping
    invert : whether to invert the values of each channel, after clipping
    """
    pixels = take_channels(plane, channels)
    if clip is not None:
        pixels = clip_channels(pixels, clip)
    return invert_channels(pixels) if invert else pixels


def clip_channels(x: AnyArray, percentile: float) -> AnyArray:
    """Clip the values of each channel to at most a percentile of that channel.

    Parameters
    ----------
    x : (c, (z,) y, x), any dtype
    percentile : 0 to 100; rounded down to a value of the image
    """
    tops = np.percentile(x, percentile, axis=tuple(range(1, x.ndim)), method="lower", keepdims=True)
    clipped: AnyArray = np.minimum(x, tops.astype(x.dtype))
    return clipped


def invert_channels(x: AnyArray) -> AnyArray:
    """Invert the values of each channel within its own range.

    Parameters
    ----------
    x : (c, (z,) y, x), any real dtype
    """
    over = tuple(range(1, x.ndim))
    return mirrored_values(x, x.min(over, keepdims=True), x.max(over, keepdims=True))


def cast_within_range(x: AnyArray, dtype: str) -> AnyArray:
    """Cast an array; values that an integer dtype cannot represent are rounded and clipped.

    A plain cast would wrap: 256 becomes 0 in uint8.

    Parameters
    ----------
    x : finite numbers of any dtype
    dtype : dtype of the result
    """
    target = np.dtype(dtype)
    if np.can_cast(x.dtype, target, "safe") or not np.issubdtype(target, np.integer):
        return x.astype(target)
    limits = np.iinfo(target)
    if not np.issubdtype(x.dtype, np.floating):
        own = np.iinfo(x.dtype)  # NumPy 1 compares int64 and uint64 as floats
        low, high = max(limits.min, own.min), min(limits.max, own.max)
        return np.clip(x, low, high).astype(target)
    if limits.max >= 2 ** np.finfo(x.dtype).nmant:
        x = x.astype(np.float64)
    rounded = np.rint(x)
    # float32 cannot represent 2**31 - 1, nor float64 2**63 - 1: the next value would wrap
    beyond = rounded >= limits.max
    inside = np.where(beyond, 0, np.maximum(rounded, limits.min)).astype(target)
    return np.where(beyond, target.type(limits.max), inside)


def to_layout(x: AnyArray, axes: str, layout: str) -> AnyArray:
    """Transpose an array, and add or drop axes of size 1, to match the layout of a tensor.

    Parameters
    ----------
    x : array to convert
    axes : axes of `x`; those that are not in `layout` have size 1
    layout : axes of the result, such as ``bcyx``

    Examples
    --------
    >>> to_layout(np.zeros((2, 5, 6)), "cyx", "byxc").shape
    (1, 5, 6, 2)
    """
    extra = tuple(i for i, axis in enumerate(axes) if axis not in layout)
    held = "".join(axis for axis in axes if axis in layout)
    x = np.squeeze(x, axis=extra) if extra else x
    ordered = x.transpose([held.index(axis) for axis in layout if axis in held])
    missing = [i for i, axis in enumerate(layout) if axis not in held]
    return np.expand_dims(ordered, missing)


def from_layout(x: Any, layout: str) -> tuple[Any, str]:  # noqa: ANN401
    """Return a tensor of one image as (c, (z,) y, x), without batch axis but with a channel axis.

    Parameters
    ----------
    x : array or PyTorch tensor, of size 1 along every axis of `layout` that is not in ``tczyx``
    layout : axes of `x`, such as ``byxc``

    Returns
    -------
    ndarray, str
        the array and its axes, a subset of ``tczyx`` in that order that includes c
    """
    other = tuple(i for i, axis in enumerate(layout) if axis not in IMAGE_AXES)
    held = "".join(axis for axis in layout if axis in IMAGE_AXES)
    whole = isinstance(x, np.ndarray)
    if other:
        first = tuple(0 if i in other else slice(None) for i in range(x.ndim))
        x = np.squeeze(x, axis=other) if whole else x[first]
    order = sorted(range(len(held)), key=lambda i: IMAGE_AXES.index(held[i]))
    axes = "".join(held[i] for i in order)
    x = x.transpose(order) if whole else x.permute(order)
    if "c" in axes:
        return x, axes
    position = 1 if "t" in axes else 0
    return x[(slice(None),) * position + (None,)], axes[:position] + "c" + axes[position:]


def grid_of(output: Sequence[int], shape: Mapping[str, int]) -> tuple[int, ...]:
    """Return the spacing of an output in pixels of the network's input, one number per axis.

    Parameters
    ----------
    output : spatial sizes of the output, (z,) y, x; rounded up
    shape : spatial sizes of the network's input, by axis
    """
    return tuple(
        max(1, round(size / out)) for out, size in zip(output, shape.values(), strict=True)
    )


def stack_unique(parts: Sequence[LabelArray]) -> LabelArray:
    """Stack label masks and renumber them so that labels are unique.

    Parameters
    ----------
    parts : label masks of the same shape, each numbered from 1

    Returns
    -------
    ndarray
        (len(parts), ...) int64; numbering continues from part to part
    """
    counts = [int(part.max(initial=0)) for part in parts]
    before = [0, *accumulate(counts)]
    shifted = [
        np.where(part > 0, part.astype(np.int64) + add, 0)
        for part, add in zip(parts, before, strict=False)
    ]
    return np.stack(shifted)
