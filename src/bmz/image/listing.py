"""Which images words of a call stand for: a file, a folder, a pattern, a list, a watched folder."""

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
    """A folder or a pattern leads to no image."""

    def __init__(self, pattern: str, include: Sequence[str]) -> None:
        only = f" with a name like {' or '.join(include)}" if include else ""
        super().__init__(
            f"'{pattern}' matches no image{only}",
            hint="give files, a folder with images, or a pattern in quotes, such as 'day1/*.tif'",
            code="image.none",
        )


class ListUnreadable(CouldNotTell):
    """A list of images is in a code page that is not told."""

    def __init__(self, path: Path, why: UnicodeDecodeError) -> None:
        super().__init__(
            f"the list '{path}' is not UTF-8 text (byte {why.start})",
            hint="save it as UTF-8 in your editor, and try again",
            code="image.list-unreadable",
        )


@dataclass(frozen=True)
class Listing:
    """Images in the order in which they were named; those of a folder by their names.

    Parameters
    ----------
    images : each once; a word that leads to none stands among them, as a path
    roots : folders whose structure results keep
    absent : why such a word leads to no image
    names : what the user called an image that is read under another path
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
    """Find the images that words stand for.

    A folder that is not an OME-Zarr stands for all images below it, one set of OME-TIFF files for
    one image. A word with ``*``, ``?`` or ``[`` that is not a file is a pattern: ``**`` stands
    for any folders. ``@list.txt`` names a file with a word on each line, ``-`` takes `lines`.
    A word that leads to no image fails alone, while another one leads to some.

    Parameters
    ----------
    include : patterns for the names of files in folders; all image files where there is none
    lines : of the standard input
    skip : pattern of names in folders that are none of the images, such as results
    absent : words of which it is known already that they lead to none, and why

    Raises
    ------
    NothingFound, ImageNotFound, ListUnreadable, BmzError
        No word leads to an image: a folder or a pattern holds none, a list does not exist, or what
        `absent` says.
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
    """Return the images of a word, and the folder whose structure their results keep."""
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
    """Put the lines of lists in their place; a list that does not exist stays as it is.

    Parameters
    ----------
    words : as `listed_images` takes them
    lines : of the standard input
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
    """List the images below a folder; what lies in an OME-Zarr is a part of it."""
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
    """Give the files of the set of OME-TIFF files that a file belongs to; none where it tells none.

    A file that stays as it is is opened but once.
    """
    if not path.name.lower().endswith((".ome.tif", ".ome.tiff")):
        return ()
    try:
        state = path.stat()
        return _set_of_files(path, state.st_size, state.st_mtime_ns)
    except (BmzError, OSError):
        return ()  # reading the file will tell


@lru_cache(maxsize=2**16)
def _set_of_files(path: Path, _size: int, _changed_ns: int) -> tuple[Path, ...]:
    return files_of_set(path)


def _walked(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return  # not for us to read: of the other folders something can be told
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
        return False  # not for us to read, as above


def is_pattern(text: str) -> bool:
    """Return whether a word is a pattern of names, and no file has it as its name."""
    return _WILD.search(text) is not None and not is_there(split_series(Path(text).expanduser())[0])


def fixed_part(pattern: Path) -> Path:
    """Return the folders before the first that has a wild card."""
    fixed = []
    for part in pattern.parts[:-1]:
        if _WILD.search(part):
            break
        fixed.append(part)
    return Path(*fixed)


class NoFolderToWatch(WrongUsage):
    """What shall be watched is not a folder."""

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
    include : patterns for the names of files in it; all image files where there is none
    skip : pattern of the names of results
    outputs : folder of the results; where it lies below `root`, nothing in it is an image
    dataset : of HDF5 files; None for the only one that can be an image
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
        """Take the words of a call.

        Raises
        ------
        NoFolderToWatch
            They are not one folder, or one pattern below one.
        """
        path = Path(words[0]).expanduser()
        root = fixed_part(path) if is_pattern(words[0]) else path
        if len(words) > 1 or is_address(words[0]) or not root.is_dir():
            raise NoFolderToWatch(words)
        return cls(words[0], root, include, skip, outputs, dataset)

    def images(self) -> tuple[Path, ...]:
        """List the images that there are now; none where the folder cannot be reached."""
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
            return images  # files that hold some may come yet

    def _is_result(self, path: Path) -> bool:
        root, outputs = (Path(os.path.abspath(p)) for p in (self.root, self.outputs))  # noqa: PTH100
        own = root in outputs.parents and outputs in Path(os.path.abspath(path)).parents  # noqa: PTH100
        return own or re.search(self.skip, path.name) is not None


Stamp = tuple[int, int, int]
"""How many files an image has, how many bytes, and a number that changes with any name or time."""


def stamp_of(image: Path) -> Stamp | None:
    """Say how the files of an image are now: those of its set, those beside a preview, of a folder.

    Parameters
    ----------
    image : a file or an image in it, or a folder of OME-Zarr

    Returns
    -------
    tuple or None
        it stays the same while no file is written, made or removed; None if nothing is
        there
    """
    count = size = changed = 0
    for file in _files_of(split_series(image)[0]):
        try:
            state = file.stat()
        except OSError:
            continue  # of a set a part that is not there yet, or that has just been removed
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
    """Tells which images stand still, and since when.

    Parameters
    ----------
    settle_s : so long nothing of an image may change before it is taken, s
    """

    settle_s: float
    _since: dict[Path, tuple[Stamp, float]] = field(default_factory=dict)

    def settled(self, stamps: Mapping[Path, Stamp], now_s: float) -> tuple[Path, ...]:
        """Return the images that have stood still for long enough.

        Parameters
        ----------
        stamps : of all images that there are now
        now_s : the time, s, on a clock that only goes forward
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
    """Return the stamp of each image that is there; see `stamp_of`."""
    stamps = {image: stamp_of(image) for image in images}
    return {image: stamp for image, stamp in stamps.items() if stamp is not None}
