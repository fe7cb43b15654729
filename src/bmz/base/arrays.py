"""Arrays with axes, the dtypes that labels need, percentiles, and tensors that lie on a device."""

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
# Where the C library is that of GNU, memory of freed arrays goes back to the system at once, and is
# asked for again page by page, unless an array of that size was freed before. It takes none of
# more than 32 MiB for an example; a plane of 2048 px in float32 has half of that.
np.empty(_KEPT_BYTES, np.uint8)


class LazyArray(Protocol):
    """An array that is read region by region: in memory, on the disk, or prepared when asked."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of entries along each axis."""

    def __getitem__(self, region: Box, /) -> object:
        """Read a region, one slice per axis, as what ``numpy.asarray`` takes."""


@runtime_checkable
class ToldAhead(Protocol):
    """An array that can be told which region is read soon, so that it begins to bring it."""

    def expect(self, region: Box, /) -> None:
        """Begin to bring a region, one slice per axis; return at once."""


def mirrored_values(x: AnyArray, low: AnyArray | float, high: AnyArray | float) -> AnyArray:
    """Turn intensities round between two values: what was `low` becomes `high`.

    Parameters
    ----------
    x : any real dtype, which the result has, too
    low, high : the least and the largest value, in the unit of `x`

    Examples
    --------
    >>> mirrored_values(np.array([3, 200, 255], np.uint8), 3, 255)
    array([255,  58,   3], dtype=uint8)
    """
    # in this order nothing leaves the range of the dtype
    turned: AnyArray = np.asarray(high).astype(x.dtype) - x
    shifted: AnyArray = turned + np.asarray(low).astype(x.dtype)
    return shifted


def smallest_unsigned(most: int) -> np.dtype[Any]:
    """Give the smallest unsigned dtype that holds the numbers 0 to `most`.

    Examples
    --------
    >>> smallest_unsigned(255), smallest_unsigned(256)
    (dtype('uint8'), dtype('uint16'))
    """
    dtype = np.min_scalar_type(max(int(most), 0))
    return np.dtype(dtype.str)  # of two kinds of uint64 the one that all libraries know


def stable_order(values: AnyArray) -> NDArray[np.intp]:
    """Return the order of rising values, equal ones as they come, as a stable `numpy.argsort`.

    NumPy sorts 16 bits at a time by counting, and longer numbers by comparing, which takes four
    times as long: so float32 is sorted by the lower half of its bits, then by the upper half.

    Parameters
    ----------
    values : (n,) in one piece; of float32 none may be NaN

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
    if low.any():  # round numbers have only zeros there
        order = np.argsort(low, kind="stable")
    return order[np.argsort((key >> 16).astype(np.uint16)[order], kind="stable")]


FEW = 256
"""Of so many numbers the median is found sooner by putting them in order."""


def median(values: AnyArray) -> float:
    """Return what `numpy.median` gives of a row of numbers, of a few in a part of the time.

    Parameters
    ----------
    values : (n,) real numbers; the result is NaN if one is, or where there are none

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
    if order[-1] != order[-1]:  # NaN, which comes last
        return nan
    half = count // 2
    if count % 2:
        return float(order[half])
    if order.dtype in (np.float32, np.float64):
        return float((order[half - 1] + order[half]) / 2)
    return float(order[half - 1 : half + 1].mean())


@dataclass(frozen=True)
class Places:
    """The values next to each of some percentiles.

    Parameters
    ----------
    below, above : ranks, counted from 0; the same at the upper end
    part : of the way from the one to the other, 0 to 1
    """

    below: NDArray[np.intp]
    above: NDArray[np.intp]
    part: NDArray[np.float64]

    @classmethod
    def among(cls, count: int, which: Sequence[float]) -> Places:
        """Return the places of the percentiles `which` (0 to 100) among `count` values."""
        # in this order, as NumPy: the last digit counts where a rank is hit exactly
        position: NDArray[np.float64] = (count - 1) * (np.asarray(which, np.float64) / 100)
        below = np.floor(position).astype(np.intp)
        return cls(below, np.minimum(below + 1, count - 1), position - below)

    def between(self, low: AnyArray, high: AnyArray) -> FloatArray:
        """Interpolate between the values `low` at `below` and `high` at `above`.

        It starts at the nearer of the two, so that no percentile is beyond it by rounding.
        Source: the method ``linear`` of ``numpy.percentile``, which gives the same bits.
        """
        rise, rest = high - low, 1 - self.part
        value: FloatArray = np.where(self.part < rest, low + rise * self.part, high - rise * rest)
        return value


_ENTRY = struct.Struct("<10xH8xII3H8xI")
"""Of the directory of a ZIP: method, packed and full size, three lengths, where it begins."""

_DIRECTORY = struct.Struct("<10xHII")
_DEFLATED = 8
_NPY_HEADER = re.compile(rb"'descr': '([^']+)', 'fortran_order': False, 'shape': \(([\d, ]*)\)")


def shipped_arrays(path: Path, prefix: str = "") -> dict[str, AnyArray]:
    """Read an ``.npz`` as `numpy.load` does, in a tenth of the time; it must be one of our own.

    With a hundred small arrays NumPy spends most of the time on headers, which it reads as Python.

    Sources: ZIP, APPNOTE.TXT 4.3; NumPy Enhancement Proposal 1, version 1.0.

    Parameters
    ----------
    path : written by `numpy.savez`, or `numpy.savez_compressed`, which takes longer to read
    prefix : only arrays whose names begin so are read

    Returns
    -------
    dict
        name -> array that cannot be written to
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
"""Of the free memory of a device, what maps or the work on them may take."""


class LeftToProcessor(Exception):
    """Labels are not made where the tensors lie.

    Parameters
    ----------
    why : a clause without its end
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True)
class TensorDecoder:
    """How a recipe makes labels where tensors lie.

    Parameters
    ----------
    label : ``module:function``, imported when it is used. The function takes a `TensorPlace`, and
        then what the recipe's own takes; the map is a tensor that lies there, or an array. It
        gives the same labels, or raises `LeftToProcessor`
    entry_bytes : memory there that its work takes for each place of the map, beside the map
    """

    label: str
    entry_bytes: int


@dataclass
class Transfers:
    """What was copied to the memory of the host, in whatever thread.

    Parameters
    ----------
    copied_bytes : all of it together
    """

    copied_bytes: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def add(self, size: int) -> None:
        """Count some more bytes."""
        with self._lock:
            self.copied_bytes += size


def unnoted() -> None:
    """Note nothing."""


@dataclass(frozen=True)
class MapThere:
    """A map that lies where tensors do, of which parts are copied when they are read.

    Parameters
    ----------
    there : where
    tensor : (c, (z,) y, x)
    read : is called before a part is copied
    """

    there: TensorPlace
    tensor: Tensor
    read: Callable[[], None] = unnoted

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the map."""
        return tuple(self.tensor.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """What is read is of this dtype."""
        return np.dtype(np.float32)

    def __getitem__(self, box: Any, /) -> AnyArray:  # noqa: ANN401
        """Copy a part, float32."""
        self.read()
        return self.there.get(self.tensor[box].float())


@dataclass(frozen=True)
class TensorPlace:
    """Where tensors lie.

    Parameters
    ----------
    torch : PyTorch, as imported by whoever runs the network
    device : such as ``cuda:0``
    transfers : counts what is copied from there
    """

    torch: ModuleType
    device: str
    transfers: Transfers = field(default_factory=Transfers)

    def put(self, array: AnyArray) -> Tensor:
        """Copy an array there."""
        tensor: Tensor = self.torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
        return tensor

    def taken(self, output: AnyArray | Tensor) -> Tensor:
        """Return a map if it is there, else copy it there.

        Raises
        ------
        LeftToProcessor
            It is read as it is needed, or holds no floating-point numbers.
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
        """Copy a tensor from there, and count its bytes; nothing else copies one to the host."""
        array: AnyArray = tensor.detach().contiguous().cpu().numpy()
        self.transfers.add(array.nbytes)
        return array

    def float32(self, value: float) -> Tensor:
        """Make a divisor: by a plain number PyTorch multiplies with the reciprocal on a GPU."""
        tensor: Tensor = self.torch.full((), value, device=self.device)
        return tensor

    def limit(self, value: float, of: Tensor) -> Tensor:
        """Make what a tensor is compared with: rounded to its dtype, as NumPy rounds it."""
        tensor: Tensor = self.torch.full((), value, dtype=of.dtype, device=self.device)
        return tensor

    def free_bytes(self) -> int | None:
        """Return the memory that is free there; None if nothing tells."""
        if not self.device.startswith("cuda"):
            return None
        cuda: Any = self.torch.cuda
        unused = cuda.memory_reserved(self.device) - cuda.memory_allocated(self.device)
        return int(cuda.mem_get_info(self.device)[0] + unused)

    def lacks(self, size: int) -> str:
        """Say that there is no room for so many bytes, a clause; empty if there is."""
        free = self.free_bytes()
        if free is None or size <= FREE_SHARE * free:
            return ""
        return (
            f"{self.device} does not have enough memory for them: they need {size / 1e9:.2g} GB "
            f"of {free / 1e9:.2g} GB free"
        )
