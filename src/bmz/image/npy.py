"""Reading of NPY and NPZ files, and the interface of readers."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bmz.base.arrays import AnyArray, LazyArray
from bmz.base.values import dataclass
from bmz.image.decoding import decoding
from bmz.image.faults import ImageEmpty, ImageTruncated, ImageUnreadable, SeriesOutOfRange
from bmz.image.info import UNKNOWN_AXIS, Header


def npy_header(path: Path) -> Header:
    """Read shape and dtype; no axis has a name, but two axes can only be y and x.

    Raises
    ------
    ImageUnreadable, ImageTruncated, ImageEmpty
        The file is damaged, incomplete or empty.
    """
    array = npy_mapped(path)
    return Header(UNKNOWN_AXIS * array.ndim, array.shape, array.dtype.newbyteorder("="))


def npy_pixels(path: Path) -> AnyArray:
    """Memory-map the array, or read it if it is not in native byte order.

    Raises
    ------
    ImageUnreadable, ImageTruncated, ImageEmpty
        The file is damaged, incomplete or empty.
    """
    array = npy_mapped(path)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def npy_array(path: Path) -> AnyArray:
    """Read the array as a writable copy, in the byte order of the file.

    Raises
    ------
    ImageUnreadable, ImageTruncated, ImageEmpty
        The file is damaged, incomplete or empty, or contains several arrays, or objects.
    """
    array = npy_mapped(path)
    with decoding(path, "NPY"):
        return np.array(array)


def npy_mapped(path: Path) -> AnyArray:
    """Memory-map the array in the byte order of the file.

    Raises
    ------
    ImageUnreadable, ImageTruncated, ImageEmpty
        The file is damaged, incomplete or empty.
    """
    with decoding(path, "NPY"):
        size = path.stat().st_size
        try:
            array: AnyArray = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError as why:
            # NumPy maps the file before it compares sizes, and this is the message of mmap
            if "greater than file size" in str(why):
                raise ImageTruncated(path, f"its array needs more than {size} bytes") from why
            raise
        if not array.size:
            raise ImageEmpty(path, array.shape)
        return array


def npz_header(path: Path, series: int) -> Header:
    """Read shape and dtype of an array in an NPZ file; each with two or more axes is an image.

    Raises
    ------
    ImageUnreadable, ImageTruncated, ImageEmpty, SeriesOutOfRange
        The file is damaged, incomplete or empty, or has no image with this number.
    """
    with decoding(path, "NPZ"):
        names, array = _of_archive(path, series)
    if not array.size:
        raise ImageEmpty(path, array.shape)
    dtype = array.dtype.newbyteorder("=")
    axes = UNKNOWN_AXIS * array.ndim
    return Header(axes, array.shape, dtype, series_count=len(names), series_names=names)


def npz_pixels(path: Path, series: int) -> AnyArray:
    """Read an array of an NPZ file.

    Raises
    ------
    ImageUnreadable, ImageTruncated, SeriesOutOfRange
        The file is damaged or incomplete, or has no image with this number.
    """
    with decoding(path, "NPZ"):
        _, array = _of_archive(path, series)
        return array.astype(array.dtype.newbyteorder("="), copy=False)


@contextmanager
def npz_opened(path: Path, series: int) -> Iterator[Stored]:
    """Open an array of an NPZ file for reading regions; it is read whole."""
    yield npz_pixels(path, series)


_PLANE = 2


def _of_archive(path: Path, series: int) -> tuple[tuple[str, ...], AnyArray]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    images = {name: array for name, array in arrays.items() if array.ndim >= _PLANE}
    if not 0 <= series < len(images):
        raise SeriesOutOfRange(path, series, len(images))
    names = tuple(images)
    return names, images[names[series]]


class _OfArrays(pickle.Unpickler):
    """Unpickler of arrays, dictionaries and plain values, which refuses anything else."""

    _ALLOWED = frozenset(
        (f"numpy{core}", name)
        for core in ("", ".core.multiarray", "._core.multiarray", ".core.numeric", "._core.numeric")
        for name in ("ndarray", "dtype", "_reconstruct", "scalar", "_frombuffer")
    )

    def find_class(self, module: str, name: str, /) -> object:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not an array")
        return super().find_class(module, name)


def cellpose_masks(path: Path) -> AnyArray | None:
    """Read the label mask of a Cellpose ``_seg.npy`` file; None if the file is a plain array.

    Such a file is a pickle, which may run code: only arrays and plain values are loaded.

    Raises
    ------
    ImageUnreadable
        The file contains other objects, or no masks.
    """
    with decoding(path, "NPY"), path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0
        header = read if version == (1, 0) else np.lib.format.read_array_header_2_0
        _, _, dtype = header(file)
        if dtype.kind != "O":
            return None
        try:
            loaded = _OfArrays(file).load()
        except pickle.UnpicklingError as why:
            raise ImageUnreadable(path, f"is refused: {why}") from why
        content = loaded.item() if isinstance(loaded, np.ndarray) and loaded.size == 1 else loaded
        masks = content.get("masks") if isinstance(content, dict) else None
        if not isinstance(masks, np.ndarray):
            raise ImageUnreadable(path, "contains objects, but no Cellpose masks")
        return masks


class Stored(LazyArray, Protocol):
    """An array on disk that is read region by region, such as a memory map or a Zarr array."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the dtype of the pixels, in any byte order."""
        ...


@dataclass(frozen=True)
class Reader:
    """The functions that read one format, given the path and the number of the series.

    Parameters
    ----------
    header : reads the header, without pixels
    pixels : reads all pixels in the order of the file
    opened : keeps the file open to read regions; its errors are not yet those of bmz
    one_image : whether a file of this format contains only one image
    inner_paths : whether the path of an image continues inside its file, in brackets, and is passed
        whole to the functions above
    palette_numbers : returns palette indices; None if the image has no palette
    is_lossy : returns whether the compression of a file alters intensities, for formats whose files
        differ in this
    """

    header: Callable[[Path, int], Header]
    pixels: Callable[[Path, int], AnyArray]
    opened: Callable[[Path, int], AbstractContextManager[Stored]]
    one_image: bool = False
    inner_paths: bool = False
    palette_numbers: Callable[[Path], AnyArray | None] = lambda _: None
    is_lossy: Callable[[Path], bool] = lambda _: False
