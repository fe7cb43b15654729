"""Arrays with axes, dtypes for labels, percentiles, and tensors on a device."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import field
from math import nan, prod
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from bmz.base.axes import Box
from bmz.base.values import dataclass

if TYPE_CHECKING:
    from torch import Tensor


AnyArray: TypeAlias = NDArray[Any]
FloatArray: TypeAlias = NDArray[np.floating[Any]]
BoolArray: TypeAlias = NDArray[np.bool_]
LabelArray: TypeAlias = NDArray[np.signedinteger[Any] | np.unsignedinteger[Any]]


_KEPT_BYTES = 2**25 - 2**16
# With the GNU C library, the memory of a freed array is returned to the system at once and has to
# be requested again page by page, unless an array of that size was freed before. Arrays of more
# than 32 MiB do not count for this; a plane of 2048 px in float32 has half of that.
np.empty(_KEPT_BYTES, np.uint8)


class LazyArray(Protocol):
    """An array that is read region by region, from memory or disk, or computed on request."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of entries along each axis."""

    def __getitem__(self, region: Box, /) -> object:
        """Read a region, one slice per axis, as an object that ``numpy.asarray`` accepts."""


@runtime_checkable
class ToldAhead(Protocol):
    """An array that can prefetch the region that is read next."""

    def expect(self, region: Box, /) -> None:
        """Start to prefetch a region, one slice per axis, and return at once."""


def mirrored_values(x: AnyArray, low: AnyArray | float, high: AnyArray | float) -> AnyArray:
    """Invert intensities between two values, so that `low` becomes `high` and the reverse.

    Parameters
    ----------
    x : array of any real dtype, which is also that of the result
    low, high : smallest and largest value, in the unit of `x`

    Examples
    --------
    >>> mirrored_values(np.array([3, 200, 255], np.uint8), 3, 255)
    array([255,  58,   3], dtype=uint8)
    """
    # this order of operations never exceeds the range of the dtype
    turned: AnyArray = np.asarray(high).astype(x.dtype) - x
    shifted: AnyArray = turned + np.asarray(low).astype(x.dtype)
    return shifted


def smallest_unsigned(most: int) -> np.dtype[Any]:
    """Return the smallest unsigned dtype that can represent the numbers 0 to `most`.

    Examples
    --------
    >>> smallest_unsigned(255), smallest_unsigned(256)
    (dtype('uint8'), dtype('uint16'))
    """
    dtype = np.min_scalar_type(max(int(most), 0))
    return np.dtype(dtype.str)  # of the two types of uint64, the one that all libraries know


def stable_order(values: AnyArray) -> NDArray[np.intp]:
    """Return the indices that sort the values, as a stable `numpy.argsort` does.

    NumPy uses a radix sort for 16-bit numbers, and comparisons for longer ones, which take four
    times as long. float32 is therefore sorted by the lower and then by the upper half of its bits.

    Parameters
    ----------
    values : (n,) contiguous; float32 must not contain NaN

    Examples
    --------
    >>> stable_order(np.array([0.5, -2, 0.5], np.float32)).tolist()
    [1, 0, 2]
    """
    if values.dtype != np.float32:
        return np.argsort(values, kind="stable")
    bits = values.view(np.uint32)
    size, middle = bits & np.uint32((1 << 31) - 1), np.uint32(1 << 31)
    key = np.where(bits > middle, middle - size, middle + size)
    order, low = np.arange(len(key)), key.astype(np.uint16)
    if low.any():  # round numbers have only zeros in the lower half
        order = np.argsort(low, kind="stable")
    return order[np.argsort((key >> 16).astype(np.uint16)[order], kind="stable")]


FEW = 256
"""Up to this many numbers, sorting is the faster way to compute the median."""


def median(values: AnyArray) -> float:
    """Return the same as `numpy.median` for a 1-D array, but faster for a few numbers.

    Parameters
    ----------
    values : (n,) real numbers; the result is NaN if one of them is NaN, or if there are none

    Examples
    --------
    >>> median(np.array([5, 1, 2])), median(np.array([4.0, 1.0]))
    (2.0, 2.5)
    """
    count = values.size
    if count == 0:
        return nan
    if count > FEW:
        return float(np.median(values))
    order = np.sort(values)
    if order[-1] != order[-1]:  # NaN, which is sorted last
        return nan
    half = count // 2
    if count % 2:
        return float(order[half])
    if order.dtype in (np.float32, np.float64):
        return float((order[half - 1] + order[half]) / 2)
    return float(order[half - 1 : half + 1].mean())


def slope(values: AnyArray, axis: int) -> AnyArray:
    """Return `numpy.gradient` along an axis, which is 0 if that has a single entry.

    Examples
    --------
    >>> slope(np.array([[0.0, 2.0, 4.0]]), 1), slope(np.array([[0.0, 2.0]]), 0)
    (array([[2., 2., 2.]]), array([[0., 0.]]))
    """
    if values.shape[axis] == 1:
        return np.zeros_like(values)
    derivative: AnyArray = np.gradient(values, axis=axis)
    return derivative


@dataclass(frozen=True)
class Places:
    """The ranks of the values next to each of some percentiles.

    Parameters
    ----------
    below, above : ranks, counted from 0; equal at the upper end
    part : position of the percentile between `below` and `above`, 0 to 1
    """

    below: NDArray[np.intp]
    above: NDArray[np.intp]
    part: NDArray[np.float64]

    @classmethod
    def among(cls, count: int, which: Sequence[float]) -> Places:
        """Return the places of the percentiles `which` (0 to 100) among `count` values."""
        # the same order of operations as NumPy: the last digit matters if a rank is hit exactly
        position: NDArray[np.float64] = (count - 1) * (np.asarray(which, np.float64) / 100)
        below = np.floor(position).astype(np.intp)
        return cls(below, np.minimum(below + 1, count - 1), position - below)

    def between(self, low: AnyArray, high: AnyArray) -> FloatArray:
        """Interpolate between the values `low` at `below` and `high` at `above`.

        The interpolation starts at the nearer of the two, so that rounding never exceeds it.
        Source: the method ``linear`` of ``numpy.percentile``; the result is bitwise the same.
        """
        rise, rest = high - low, 1 - self.part
        value: FloatArray = np.where(self.part < rest, low + rise * self.part, high - rise * rest)
        return value


_ENTRY = struct.Struct("<10xH8xII3H8xI")
"""Entry of a ZIP directory: method, packed and full size, three lengths, offset of the file."""

_DIRECTORY = struct.Struct("<10xHII")
_DEFLATED = 8
_NPY_HEADER = re.compile(rb"'descr': '([^']+)', 'fortran_order': False, 'shape': \(([\d, ]*)\)")


def shipped_arrays(path: Path, prefix: str = "") -> dict[str, AnyArray]:
    """Read an ``.npz`` file of bmz in a tenth of the time that `numpy.load` takes.

    For a hundred small arrays, NumPy spends most of the time on parsing headers as Python code.

    Sources: ZIP, APPNOTE.TXT 4.3; NumPy Enhancement Proposal 1, version 1.0.

    Parameters
    ----------
    path : file written by `numpy.savez`, or `numpy.savez_compressed`, which takes longer to read
    prefix : only arrays whose names begin with it are read

    Returns
    -------
    dict
        name -> read-only array
    """
    content, arrays = path.read_bytes(), dict[str, AnyArray]()
    count, _, at = _DIRECTORY.unpack_from(content, content.rindex(b"PK\5\6"))
    for _ in range(count):
        method, packed, _, named, extra, remark, start = _ENTRY.unpack_from(content, at)
        name = content[at + 46 : at + 46 + named].decode().removesuffix(".npy")
        at += 46 + named + extra + remark
        if not name.startswith(prefix):
            continue
        start += 30 + sum(struct.unpack_from("<HH", content, start + 26))
        kept = memoryview(content)[start : start + packed]
        arrays[name] = _npy(zlib.decompress(kept, -15) if method == _DEFLATED else kept)
    return arrays


def _npy(content: bytes | memoryview) -> AnyArray:
    (length,) = struct.unpack_from("<H", content, 8)
    header = _NPY_HEADER.search(content[: 10 + length])
    if header is None:
        raise ValueError(f"no array in rows: {bytes(content[: 10 + length])!r}")
    shape = tuple(map(int, header[2].replace(b",", b" ").split()))
    flat = np.frombuffer(content, header[1].decode(), prod(shape), 10 + length)
    return flat.reshape(shape)


FREE_SHARE = 0.5
"""Share of the free memory of a device that maps, or the work on them, may use."""


class LeftToProcessor(Exception):
    """The labels cannot be made on the device of the tensors.

    Parameters
    ----------
    why : the reason, as a clause without a full stop
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True)
class TensorDecoder:
    """How a recipe makes labels on the device of the tensors.

    Parameters
    ----------
    label : ``module:function``, imported when it is used. The function takes a `TensorPlace`, and
        then the arguments of the recipe's own function; the map is a tensor on the device, or an
        array. It returns the same labels, or raises `LeftToProcessor`
    entry_bytes : device memory that the work needs per entry of the map, in addition to the map
    """

    label: str
    entry_bytes: int


@dataclass
class Transfers:
    """A counter of what any thread copies to the memory of the host.

    Parameters
    ----------
    copied_bytes : total number of bytes
    """

    copied_bytes: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def add(self, size: int) -> None:
        """Add to the number of bytes."""
        with self._lock:
            self.copied_bytes += size


def unnoted() -> None:
    """Do nothing."""


@dataclass(frozen=True)
class MapThere:
    """A map on a device; parts of it are copied when they are read.

    Parameters
    ----------
    there : place of the tensor
    tensor : (c, (z,) y, x)
    read : function that is called before a part is copied
    """

    there: TensorPlace
    tensor: Tensor
    read: Callable[[], None] = unnoted

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the map."""
        return tuple(self.tensor.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the parts that are read."""
        return np.dtype(np.float32)

    def __getitem__(self, box: Any, /) -> AnyArray:  # noqa: ANN401
        """Copy a part as float32."""
        self.read()
        return self.there.get(self.tensor[box].float())


@dataclass(frozen=True)
class TensorPlace:
    """The device that holds tensors.

    Parameters
    ----------
    torch : PyTorch, as imported by the backend that runs the network
    device : name of the device, such as ``cuda:0``
    transfers : counter of the bytes that are copied from the device
    """

    torch: ModuleType
    device: str
    transfers: Transfers = field(default_factory=Transfers)

    def put(self, array: AnyArray) -> Tensor:
        """Copy an array to the device."""
        tensor: Tensor = self.torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
        return tensor

    def taken(self, output: AnyArray | Tensor) -> Tensor:
        """Return a map that is on the device, or copy it there.

        Raises
        ------
        LeftToProcessor
            The map is read on demand, or its values are not floating-point numbers.
        """
        if isinstance(output, self.torch.Tensor):
            tensor: Tensor = output
        elif isinstance(output, np.ndarray) and output.dtype in (np.float32, np.float64):
            tensor = self.put(output)
        elif isinstance(output, np.ndarray):
            raise LeftToProcessor(f"the map holds {output.dtype}")
        else:
            raise LeftToProcessor("the map is resized to the image while it is read")
        if tensor.dtype not in (self.torch.float32, self.torch.float64):
            raise LeftToProcessor(f"the map holds {str(tensor.dtype).removeprefix('torch.')}")
        return tensor

    def get(self, tensor: Tensor) -> AnyArray:
        """Copy a tensor to the host and count its bytes; only this method copies tensors there."""
        array: AnyArray = tensor.detach().contiguous().cpu().numpy()
        self.transfers.add(array.nbytes)
        return array

    def float32(self, value: float) -> Tensor:
        """Return a divisor as a tensor; for a number, a GPU would multiply by the reciprocal."""
        tensor: Tensor = self.torch.full((), value, device=self.device)
        return tensor

    def limit(self, value: float, of: Tensor) -> Tensor:
        """Return a value to compare a tensor with, rounded to its dtype as NumPy rounds it."""
        tensor: Tensor = self.torch.full((), value, dtype=of.dtype, device=self.device)
        return tensor

    def free_bytes(self) -> int | None:
        """Return the free memory of the device in bytes; None if it is unknown."""
        if not self.device.startswith("cuda"):
            return None
        cuda: Any = self.torch.cuda
        unused = cuda.memory_reserved(self.device) - cuda.memory_allocated(self.device)
        return int(cuda.mem_get_info(self.device)[0] + unused)

    def lacks(self, size: int) -> str:
        """Return a clause that says that this many bytes do not fit; empty if they do."""
        free = self.free_bytes()
        if free is None or size <= FREE_SHARE * free:
            return ""
        return (
            f"{self.device} does not have enough memory for them: they need {size / 1e9:.2g} GB "
            f"of {free / 1e9:.2g} GB free"
        )
