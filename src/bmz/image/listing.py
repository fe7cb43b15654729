"""Finding the images that arguments denote: a file, folder, pattern, list or watched folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path

from bmz.base.errors import BmzError, CouldNotTell, WrongUsage
from bmz.base.files import given_text, is_there
from bmz.base.values import dataclass
from bmz.image.faults import ImageNotFound
from bmz.image.formats import is_zarr, split_series
from bmz.image.known_formats import BIOIO, FORMATS, PREVIEWS
from bmz.image.ome_tiff import files_of_set
from bmz.image.remote import is_address
from bmz.image.series import NoDatasets, in_dataset

STDIN = "-"
LIST = "@"

_WILD = re.compile(r"[*?\[]")


class NothingFound(WrongUsage):
    """A folder or a pattern matches no image."""

    def __init__(self, pattern: str, include: Sequence[str]) -> None:
        only = f" with a name like {' or '.join(include)}" if include else ""
        super().__init__(
            f"'{pattern}' matches no image{only}",
            hint="give files, a folder with images, or a pattern in quotes, such as 'day1/*.tif'",
            code="image.none",
        )


class ListUnreadable(CouldNotTell):
    """A list of images is not UTF-8 text."""

    def __init__(self, path: Path, why: UnicodeDecodeError) -> None:
        super().__init__(
            f"the list '{path}' is not UTF-8 text (byte {why.start})",
            hint="save it as UTF-8 in your editor, and try again",
            code="image.list-unreadable",
        )


@dataclass(frozen=True)
class Listing:
    """Images in the order of the arguments; those of a folder are sorted by name.

    Parameters
    ----------
    images : paths without duplicates; an argument that matches no image is included as a path
    roots : folders whose structure the results keep
    absent : path of an argument that matches no image -> error
    names : path of an image -> name that the user gave, if it is another
    """

    images: tuple[Path, ...]
    roots: tuple[Path, ...]
    absent: Mapping[Path, BmzError] = field(default_factory=dict)
    names: Mapping[Path, str] = field(default_factory=dict)


def listed_images(
    words: Iterable[str],
    include: Sequence[str] = (),
    lines: Iterable[str] = (),
    skip: str = "",
    absent: Mapping[str, BmzError] | None = None,
) -> Listing:
    """Find the images that arguments denote.

    A folder that is not an OME-Zarr denotes all images below it, where a set of OME-TIFF files
    counts as one image. An argument with ``*``, ``?`` or ``[`` that is not a file is a pattern:
    ``**`` matches any folders. ``@list.txt`` is a file with one argument per line, and ``-`` means
    `lines`. An argument without images is an error only if no argument has any.

    Parameters
    ----------
    words : arguments of the call
    include : patterns for the names of files in folders; empty for all image files
    lines : lines of the standard input
    skip : regular expression for names in folders that are not images, such as results
    absent : argument that is already known to match no image -> error

    Raises
    ------
    NothingFound, ImageNotFound, ListUnreadable, BmzError
        No argument matches an image: a folder or pattern matches none, a list does not exist, or
        an error of `absent`.
    """
    images: dict[Path, None] = {}
    roots: dict[Path, None] = {}
    failed: dict[Path, BmzError] = {}
    for word in lines_of_lists(words, lines):
        try:
            if absent is not None and word in absent:
                raise absent[word]
            paths, root = _images_of(word, include, skip)
        except BmzError as why:
            paths, root = [Path(word).expanduser()], None
            failed[paths[0]] = why
        images |= dict.fromkeys(paths)
        roots |= {} if root is None else {root: None}
    if failed and len(failed) == len(images):
        raise next(iter(failed.values()))
    return Listing(tuple(images), tuple(roots), failed)


def _images_of(text: str, include: Sequence[str], skip: str) -> tuple[Sequence[Path], Path | None]:
    """Return the images of an argument, and the folder whose structure their results keep."""
    path, root = Path(text).expanduser(), None
    if text.startswith(LIST) and not path.exists():
        raise ImageNotFound(Path(text.removeprefix(LIST)).expanduser())
    if path.is_dir() and not is_zarr(path):
        paths, root = _below(path, include, skip), path
    elif is_pattern(text):
        anchor = Path(path.anchor)
        pattern = str(path.relative_to(anchor)) if path.anchor else str(path)
        paths, root = sorted(anchor.glob(pattern)), fixed_part(path)
    else:
        paths = [path]
    if not paths:
        raise NothingFound(text, include)
    return paths, root


def lines_of_lists(words: Iterable[str], lines: Iterable[str] = ()) -> Iterator[str]:
    """Replace lists by their lines; a list that does not exist is kept as it is.

    Parameters
    ----------
    words : arguments, as for `listed_images`
    lines : lines of the standard input
    """
    for word in words:
        path = Path(word.removeprefix(LIST)).expanduser()
        if word == STDIN:
            yield from _named_in(lines)
        elif word.startswith(LIST) and not Path(word).exists() and path.is_file():
            yield from _named_in(_lines_of(path))
        else:
            yield word


def _lines_of(path: Path) -> list[str]:
    try:
        return given_text(path).splitlines()
    except UnicodeDecodeError as why:
        raise ListUnreadable(path, why) from why


def _named_in(lines: Iterable[str]) -> Iterator[str]:
    yield from (line.strip() for line in lines if line.strip() and not line.startswith("#"))


def _below(folder: Path, include: Sequence[str], skip: str) -> list[Path]:
    """Return the images below a folder, without searching inside OME-Zarr folders."""
    own = (known.suffixes for name, known in FORMATS.items() if name != BIOIO or include)
    endings = tuple(suffix for suffixes in own for suffix in suffixes)
    images: list[Path] = []
    others: set[Path] = set()
    for path in _walked(folder):
        name = path.name.lower()
        included = any(fnmatch(path.name, pattern) for pattern in include) if include else True
        skipped = path in others or (skip and re.search(skip, path.name))
        if skipped or not included or not name.endswith(endings):
            continue
        images.append(path)
        others.update(set_of_files(path))
    return images


def set_of_files(path: Path) -> tuple[Path, ...]:
    """Return the files of the OME-TIFF set that a file belongs to; none if it names none.

    A file is opened only once, unless it changes.
    """
    if not path.name.lower().endswith((".ome.tif", ".ome.tiff")):
        return ()
    try:
        state = path.stat()
        return _set_of_files(path, state.st_size, state.st_mtime_ns)
    except (BmzError, OSError):
        return ()  # reading the file will raise the error


@lru_cache(maxsize=2**16)
def _set_of_files(path: Path, _size: int, _changed_ns: int) -> tuple[Path, ...]:
    return files_of_set(path)


def _walked(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return  # not readable; the other folders may be
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if _is_folder_of_images(entry):
            yield from _walked(entry)
        else:
            yield entry


def _is_folder_of_images(path: Path) -> bool:
    try:
        return path.is_dir() and not is_zarr(path)
    except (BmzError, OSError):
        return False  # not readable, as above


def is_pattern(text: str) -> bool:
    """Return whether an argument is a pattern of names rather than the name of a file."""
    return _WILD.search(text) is not None and not is_there(split_series(Path(text).expanduser())[0])


def fixed_part(pattern: Path) -> Path:
    """Return the folders before the first part with a wildcard."""
    fixed = []
    for part in pattern.parts[:-1]:
        if _WILD.search(part):
            break
        fixed.append(part)
    return Path(*fixed)


class NoFolderToWatch(WrongUsage):
    """The path to watch is not a folder."""

    def __init__(self, words: Sequence[str]) -> None:
        named = f"'{words[0]}' is neither" if len(words) == 1 else f"{len(words)} paths were given"
        super().__init__(
            f"--watch takes one folder, or one pattern in a folder, but {named}",
            hint="create the folder first, put a pattern in quotes, and watch several folders "
            "with several calls, each with its own output folder",
            code="watch.no-folder",
        )


@dataclass(frozen=True)
class WatchedFolder:
    """A folder in which images appear.

    Parameters
    ----------
    text : the folder, or a pattern of names below it
    root : the folder
    include : patterns for the names of files in it; empty for all image files
    skip : regular expression for the names of results
    outputs : output folder; if it is below `root`, its files are not images
    dataset : dataset of HDF5 files; None for the only one that can be an image
    """

    text: str
    root: Path
    include: tuple[str, ...]
    skip: str
    outputs: Path
    dataset: str | None = None

    @classmethod
    def of(
        cls,
        words: Sequence[str],
        include: tuple[str, ...],
        skip: str,
        outputs: Path,
        dataset: str | None = None,
    ) -> WatchedFolder:
        """Create a watched folder from the arguments of a call.

        Raises
        ------
        NoFolderToWatch
            The arguments are not one folder, or one pattern in a folder.
        """
        path = Path(words[0]).expanduser()
        root = fixed_part(path) if is_pattern(words[0]) else path
        if len(words) > 1 or is_address(words[0]) or not root.is_dir():
            raise NoFolderToWatch(words)
        return cls(words[0], root, include, skip, outputs, dataset)

    def images(self) -> tuple[Path, ...]:
        """Return the current images; none if the folder cannot be reached."""
        if not self.root.is_dir():
            return ()
        try:
            listing = listed_images([self.text], self.include, skip=self.skip)
        except NothingFound:
            return ()
        images = tuple(path for path in listing.images if not self._is_result(path))
        try:
            return in_dataset(images, self.dataset)
        except NoDatasets:
            return images  # files with datasets may still appear

    def _is_result(self, path: Path) -> bool:
        root, outputs = (Path(os.path.abspath(p)) for p in (self.root, self.outputs))  # noqa: PTH100
        own = root in outputs.parents and outputs in Path(os.path.abspath(path)).parents  # noqa: PTH100
        return own or re.search(self.skip, path.name) is not None


Stamp = tuple[int, int, int]
"""Number of files of an image, total bytes, and a hash of their names, sizes and times."""


def stamp_of(image: Path) -> Stamp | None:
    """Return the state of all files of an image.

    These are the files of its OME-TIFF set, those that belong to a preview, or those in its folder.

    Parameters
    ----------
    image : a file or an image in it, or an OME-Zarr folder

    Returns
    -------
    tuple or None
        stays the same as long as no file is written, created or removed; None if there is no file
    """
    count = size = changed = 0
    for file in _files_of(split_series(image)[0]):
        try:
            state = file.stat()
        except OSError:
            continue  # a part of a set that does not exist yet, or has just been removed
        count, size = count + 1, size + state.st_size
        changed += hash((str(file), state.st_size, state.st_mtime_ns))
    return (count, size, changed) if count else None


def _files_of(image: Path) -> Iterator[Path]:
    beside = PREVIEWS.get(image.suffix.lower())
    folders = [image] if image.is_dir() else []
    if beside is not None:
        folders.append(image.parent / beside.format(image.stem))
    if not image.is_dir():
        yield from dict.fromkeys((image, *set_of_files(image)))
    for folder in folders:
        for place, _, names in os.walk(folder):
            yield from (Path(place, name) for name in names)


@dataclass
class Settling:
    """Detects which images have stopped changing.

    Parameters
    ----------
    settle_s : time in s for which an image must not change before it is processed
    """

    settle_s: float
    _since: dict[Path, tuple[Stamp, float]] = field(default_factory=dict)

    def settled(self, stamps: Mapping[Path, Stamp], now_s: float) -> tuple[Path, ...]:
        """Return the images that have not changed for long enough.

        Parameters
        ----------
        stamps : current stamps of all images
        now_s : time in s on a monotonic clock
        """
        before = self._since
        self._since = {
            image: before[image]
            if image in before and before[image][0] == stamp
            else (stamp, now_s)
            for image, stamp in stamps.items()
        }
        return tuple(
            image for image, (_, since) in self._since.items() if now_s - since >= self.settle_s
        )


def stamps_of(images: Iterable[Path]) -> dict[Path, Stamp]:
    """Return the stamp of each image that exists; see `stamp_of`."""
    stamps = {image: stamp_of(image) for image in images}
    return {image: stamp for image, stamp in stamps.items() if stamp is not None}
