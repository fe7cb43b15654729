"""Reading of HDF5 files, in which one dataset is the image; other files are never read."""

from __future__ import annotations

import json
import math
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import IMAGE_AXES, SPACE, Box
from bmz.base.values import dataclass
from bmz.image.decoding import decoding
from bmz.image.faults import (
    DatasetAbsent,
    DatasetRefused,
    FormatPluginMissing,
    ImageEmpty,
    ImageTooLarge,
    SeveralDatasets,
    in_words,
)
from bmz.image.formats import split_series
from bmz.image.info import UNKNOWN_AXIS, Header, PixelSize
from bmz.image.known_formats import HDF5
from bmz.image.npy import Stored
from bmz.image.pixel_size import from_lengths

_LEAST_SIDE = 16
"""Two axes of at least this length distinguish an image from small tables in the same file."""

_MOST_NODES = 100_000
_MOST_LINKS = 32
_MOST_WORDS = 2**16  # bytes of an attribute that is read

_BDV_CELLS = re.compile(r"(/t\d{5,}/s\d{2,})/(\d+)/cells")
"""A block of BigDataViewer: time, view, resolution. Its values are unsigned, although they are
stored as signed. Source: its page on the HDF5 format."""

_LETTERS = {"time": "t", "channel": "c", "channels": "c"}


@dataclass(frozen=True)
class _Found:
    """A dataset of a file.

    Parameters
    ----------
    name : path of the dataset within the file
    node : dataset of h5py
    shape : shape of the dataset; empty for a single value
    kind : dtype of the values, or a description if they are not numbers
    is_number : whether the values are integers, real numbers or booleans
    """

    name: str
    node: Any
    shape: tuple[int, ...]
    kind: str
    is_number: bool

    @property
    def listed(self) -> str:
        """The name, and in brackets the shape and the dtype."""
        return f"{self.name} ({in_words(self.shape)}, {self.kind})"

    def has_plane(self, least: int) -> bool:
        """Return whether it contains numbers and has two axes of at least a given length."""
        return self.is_number and sum(n >= least for n in self.shape) >= len("yx")


def hdf5_header(path: Path, _series: int) -> Header:
    """Read the header of a dataset of an HDF5 file.

    Axes are named by the first of these that exists: ``axistags`` (vigra, ilastik),
    ``DIMENSION_LABELS``, the layout of BigDataViewer, and z, y, x if ``element_size_um`` has a
    value for each axis. Axes t, c, z of size 1 stay unnamed, since writers add them to make five
    axes.

    Parameters
    ----------
    path : path of the file, followed by that of a dataset in brackets unless there is one image

    Raises
    ------
    FormatPluginMissing
        h5py, or the package that decompresses the dataset, is not installed.
    SeveralDatasets, DatasetAbsent
        The choice of dataset is ambiguous, or there is no such dataset.
    DatasetRefused, ImageEmpty, ImageUnreadable, ImageTruncated
        The dataset is stored in other files, does not contain numbers, or is damaged.
    """
    with _chosen(path) as (dataset, remarks):
        letters, cautions = _axes(dataset)
        axes = "".join(
            UNKNOWN_AXIS if n == 1 and a in "tcz" else a
            for a, n in zip(letters, dataset.shape, strict=True)
        )
        dtype = _meant_dtype(dataset)
        pixel, more = _pixel_size(dataset, letters)
        return Header(
            axes, dataset.shape, dtype, pixel, remarks=remarks, cautions=(*cautions, *more)
        )


@contextmanager
def hdf5_opened(path: Path, _series: int) -> Iterator[Stored]:
    """Open a dataset; reading a region reads the chunks that it touches."""
    with _chosen(path) as (dataset, _):
        yield _Regions(dataset)


def hdf5_pixels(path: Path, series: int) -> AnyArray:
    """Read a dataset; as the format defines, chunks that were never written have the fill value.

    Raises
    ------
    ImageTooLarge, CouldNotTell
        The dataset cannot be read; see `hdf5_header`.
    """
    with hdf5_opened(path, series) as stored:
        try:
            return np.asarray(stored[tuple(slice(None) for _ in stored.shape)])
        except MemoryError as why:
            raise ImageTooLarge(path, stored.shape) from why


class _Regions:
    """Regions of a dataset in native byte order."""

    def __init__(self, dataset: _Found) -> None:
        self._dataset = dataset
        self.shape = dataset.shape
        self.dtype = _meant_dtype(dataset)

    def __getitem__(self, box: Box, /) -> AnyArray:
        values = np.asarray(self._dataset.node[box])
        native = values.astype(values.dtype.newbyteorder("="), copy=False)
        meant: AnyArray = native.view(self.dtype)
        return meant


def _meant_dtype(dataset: _Found) -> np.dtype[Any]:
    stored = np.dtype(dataset.node.dtype.str)  # without h5py's metadata of enumerations
    if _BDV_CELLS.fullmatch(dataset.name) and stored.kind == "i":
        return np.dtype(f"u{stored.itemsize}")
    native: np.dtype[Any] = stored.newbyteorder("=")
    return native


@contextmanager
def _chosen(path: Path) -> Iterator[tuple[_Found, tuple[str, ...]]]:
    """Yield the dataset that a path names, or the only one that is an image, with remarks."""
    file_path, key = split_series(path)
    with decoding(path, HDF5), _opened(file_path) as file:
        remarks: tuple[str, ...] = ()
        if key:
            dataset = _named(file_path, file, key)
        else:
            dataset = _only_image(file_path, file)
            remarks = (f"its dataset '{dataset.name}' is used, the only one that can be an image",)
        _refuse_no_image(file_path, dataset)
        if _BDV_CELLS.fullmatch(dataset.name):
            remarks = (*remarks, "its dataset has the layout of BigDataViewer: z, y, x")
        yield dataset, remarks


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        h5py = import_module("h5py")
    except ImportError as why:
        raise FormatPluginMissing(path, f"{HDF5} file", "h5py") from why
    with h5py.File(path, "r", locking="best-effort") as file:
        yield file


def _named(path: Path, file: Any, key: str) -> _Found:  # noqa: ANN401  (h5py has no types)
    """Resolve a name step by step, since HDF5 itself would follow links into other files."""
    node, place = file["/"], deque(part for part in key.split("/") if part not in ("", "."))
    name, links = "", 0
    while place:
        part = place.popleft()
        link = _link(path, node, part, name)
        if isinstance(link, str):
            links += 1
            if links > _MOST_LINKS:
                raise DatasetRefused(path, f"its '{key}' is a circular link")
            if link.startswith("/"):
                node, name = file["/"], ""
            place.extendleft(reversed([p for p in link.split("/") if p not in ("", ".")]))
            continue
        node, name = node[part], f"{name}/{part}"
    h5py = import_module("h5py")
    if not isinstance(node, h5py.Dataset):
        inside = [f.listed for f in _datasets(path, file) if f.name.startswith(f"{name}/")]
        raise DatasetAbsent(path, key, inside or [f.listed for f in _datasets(path, file)])
    return _facts(path, name, node)


def _link(path: Path, group: Any, part: str, above: str) -> str | None:  # noqa: ANN401
    """Return the target of a soft link; None for a member of the group itself."""
    h5py = import_module("h5py")
    if not isinstance(group, h5py.Group):
        raise DatasetAbsent(path, f"{above}/{part}", [])
    try:
        link = group.get(part, getlink=True)
    except TypeError as why:  # a kind of link that h5py does not know
        raise DatasetRefused(path, f"its '{above}/{part}' is a link of an unknown kind") from why
    if isinstance(link, h5py.ExternalLink):
        raise DatasetRefused(path, f"its '{above}/{part}' is in another file, '{link.filename}'")
    if link is None:
        listed = [found.listed for found in _datasets(path, group.file)]
        raise DatasetAbsent(path, f"{above}/{part}", listed)
    return str(link.path) if isinstance(link, h5py.SoftLink) else None


def _only_image(path: Path, file: Any) -> _Found:  # noqa: ANN401
    """Return the only dataset that can be the image.

    Raises
    ------
    SeveralDatasets
        No dataset can be the image, or more than one.
    """
    found = list(_datasets(path, file))
    images = [f for f in found if f.has_plane(_LEAST_SIDE)] or [f for f in found if f.has_plane(2)]
    finest = [f for f in images if not _is_reduced(f.name)]
    if len(finest) != 1:
        raise SeveralDatasets(path, [(f.name, f.listed) for f in finest])
    return finest[0]


def _is_reduced(name: str) -> bool:
    block = _BDV_CELLS.fullmatch(name)
    return block is not None and int(block[2]) > 0


def _datasets(path: Path, file: Any) -> Iterator[_Found]:  # noqa: ANN401
    """Yield the datasets that are stored in a file itself, sorted by name.

    Links are not followed: their targets are in other files, or are found at their own place.
    """
    h5py = import_module("h5py")
    waiting, seen = [("", file["/"])], set[int]()
    while waiting:
        above, group = waiting.pop()
        names = sorted(group)
        groups = []
        for name in names:
            try:
                link = group.get(name, getlink=True)
            except TypeError:
                continue  # a kind of link that h5py does not know
            if not isinstance(link, h5py.HardLink):
                continue
            node = group[name]
            address = h5py.h5o.get_info(node.id).addr
            if address in seen:
                continue
            seen.add(address)
            if len(seen) > _MOST_NODES:
                raise DatasetRefused(path, f"it has more than {_MOST_NODES} groups and datasets")
            if isinstance(node, h5py.Group):
                groups.append((f"{above}/{name}", node))
            elif isinstance(node, h5py.Dataset):
                yield _facts(path, f"{above}/{name}", node)
        waiting += reversed(groups)


def _facts(path: Path, name: str, node: Any) -> _Found:  # noqa: ANN401
    """Describe a dataset; the shape of one with values in other files is not read."""
    h5py = import_module("h5py")
    made = node.id.get_create_plist()
    if made.get_layout() == h5py.h5d.VIRTUAL or made.get_external_count():
        return _Found(name, node, (), _ELSEWHERE, is_number=False)
    kind = node.id.get_type()
    words = _no_number(kind, h5py)
    space = node.id.get_space()
    shape = space.get_simple_extent_dims() if space.is_simple() else ()
    if words:
        return _Found(name, node, shape, words, is_number=False)
    with decoding(path, HDF5):
        return _Found(name, node, shape, np.dtype(node.dtype.str).name, is_number=True)


_ELSEWHERE = "values in other files"


def _no_number(kind: Any, h5py: Any) -> str:  # noqa: ANN401
    """Describe values that are not numbers, without a dtype of h5py, which can be very large."""
    classes = {
        h5py.h5t.STRING: "text",
        h5py.h5t.OPAQUE: "opaque bytes",
        h5py.h5t.REFERENCE: "references to objects",
        h5py.h5t.VLEN: "lists of varying lengths",
        h5py.h5t.ARRAY: "arrays within an array",
        h5py.h5t.TIME: "times",
    }
    if kind.get_class() == h5py.h5t.COMPOUND:
        return f"records of {kind.get_nmembers()} fields"
    numbers = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM, h5py.h5t.BITFIELD)
    return (
        ""
        if kind.get_class() in numbers
        else classes.get(kind.get_class(), "values that are not numbers")
    )


def _refuse_no_image(path: Path, dataset: _Found) -> None:
    """Raise an error if a dataset is not numeric, was never written, or cannot be decompressed.

    Raises
    ------
    DatasetRefused, ImageEmpty, FormatPluginMissing
    """
    if dataset.kind == _ELSEWHERE:
        why = f"its '{dataset.name}' takes its values from other files"
        raise DatasetRefused(path, why)
    if not dataset.is_number:
        raise DatasetRefused(path, f"its '{dataset.name}' contains {dataset.kind}, not numbers")
    if not dataset.shape:
        raise DatasetRefused(path, f"its '{dataset.name}' contains a single value, not an image")
    if not math.prod(dataset.shape):
        raise ImageEmpty(path, dataset.shape)
    _refuse_filters(path, dataset)
    if not dataset.node.id.get_storage_size():
        raise DatasetRefused(path, f"its '{dataset.name}' was never written")


def _refuse_filters(path: Path, dataset: _Found) -> None:
    h5z = import_module("h5py").h5z
    made = dataset.node.id.get_create_plist()
    for number in range(made.get_nfilters()):
        code, _, _, name = made.get_filter(number)
        if h5z.filter_avail(code):
            continue
        with suppress(ImportError):
            import_module("hdf5plugin")  # it registers its filters on import
        if not h5z.filter_avail(code):
            word = name.decode("utf-8", "replace").split(";")[0].strip() or "an unknown filter"
            kind = f"{HDF5} file whose '{dataset.name}' is compressed with {word} (filter {code})"
            raise FormatPluginMissing(
                path, kind, "the package that decompresses it", "pip install hdf5plugin"
            )


def _attribute(dataset: _Found, name: str) -> Sequence[Any]:
    """Read an attribute of plain text or numbers; return an empty list if there is none.

    Returns
    -------
    sequence
        values as str or float
    """
    h5py = import_module("h5py")
    node = dataset.node
    if not h5py.h5a.exists(node.id, name.encode()):
        return []
    held = h5py.h5a.open(node.id, name.encode())
    plain = {h5py.h5t.STRING, h5py.h5t.INTEGER, h5py.h5t.FLOAT}
    if held.get_type().get_class() not in plain or held.get_storage_size() > _MOST_WORDS:
        return []
    values = np.atleast_1d(np.asarray(node.attrs[name]))
    words = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in values.ravel()]
    return [word if isinstance(word, str) else float(word) for word in words]


def _axes(dataset: _Found) -> tuple[str, tuple[str, ...]]:
    """Return a letter for each axis, and cautions."""
    count = len(dataset.shape)
    tags, labels = _axis_tags(dataset), _dimension_labels(dataset)
    cautions: list[str] = []
    for source, letters in (("axistags", tags), ("DIMENSION_LABELS", labels)):
        if letters is None:
            continue
        if len(letters) == count:
            return letters, tuple(cautions)
        cautions.append(f"its {source} name {len(letters)} axes, but its dataset has {count}")
    if _BDV_CELLS.fullmatch(dataset.name) and count == len(SPACE):
        return SPACE, tuple(cautions)
    if 1 < count == len(_attribute(dataset, _ELEMENT_SIZE)) <= len(SPACE):
        return SPACE[-count:], tuple(cautions)
    letters = "yx" if count == len("yx") else UNKNOWN_AXIS * count
    return letters, tuple(cautions)


def _axis_tags(dataset: _Found) -> str | None:
    """Read the axes that vigra and ilastik write, as JSON: ``{"axes": [{"key": "y"}, ...]}``."""
    words = _attribute(dataset, "axistags")
    try:
        axes = json.loads(words[0])["axes"]
        return _letters([str(axis["key"]) for axis in axes])
    except (LookupError, TypeError, ValueError, RecursionError):
        return None  # missing, or not in the format of vigra


def _dimension_labels(dataset: _Found) -> str | None:
    labels = [str(word) for word in _attribute(dataset, "DIMENSION_LABELS")]
    return _letters(labels) if any(labels) else None


def _letters(words: Sequence[str]) -> str:
    plain = [word.strip().lower() for word in words]
    named = [w if len(w) == 1 and w in IMAGE_AXES else _LETTERS.get(w, UNKNOWN_AXIS) for w in plain]
    return "".join(UNKNOWN_AXIS if named.count(a) > 1 else a for a in named)


_ELEMENT_SIZE: Final = "element_size_um"


def _pixel_size(dataset: _Found, letters: str) -> tuple[PixelSize, tuple[str, ...]]:
    """Read the pixel size along z, y, x that PlantSeg and ImageJ's HDF5 plugin write."""
    sizes = _attribute(dataset, _ELEMENT_SIZE)
    space = [a for a in letters if a in SPACE]
    if not sizes:
        return PixelSize(), ()
    fits = space and space == list(SPACE[-len(space) :]) and len(sizes) in (len(space), len(SPACE))
    if not fits or not all(isinstance(size, float) for size in sizes):
        return PixelSize(), (f"its {_ELEMENT_SIZE} is not used: it applies only to axes z, y, x",)
    lengths: Mapping[str, float] = dict(zip(space, sizes[-len(space) :], strict=True))
    return from_lengths(lengths, dict.fromkeys(lengths, "um"), f"{HDF5}, {_ELEMENT_SIZE}"), ()
