"""Which images a word of the command line stands for: a file, a folder, a pattern, a list."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path

from bmz.base.errors import BmzError, WrongUsage
from bmz.base.files import is_there
from bmz.base.values import dataclass
from bmz.image.faults import ImageNotFound
from bmz.image.formats import is_zarr, split_series
from bmz.image.known_formats import BIOIO, FORMATS
from bmz.image.ome_tiff import files_of_set

STDIN = "-"
LIST = "@"

_WILD = re.compile(r"[*?\[]")


class NothingFound(WrongUsage):
    """A folder or a pattern leads to no image."""

    def __init__(self, pattern: str, include: Sequence[str]) -> None:
        only = f" that is called like {' or '.join(include)}" if include else ""
        super().__init__(
            f"'{pattern}' leads to no image{only}",
            hint="name files, a folder with images, or a pattern in quotes, such as 'day1/*.tif'",
            code="image.none",
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

    A folder that is no OME-Zarr stands for all images below it, one set of OME-TIFF files for one
    image. A word with ``*``, ``?`` or ``[`` that is no file is a pattern, in which ``**`` stands
    for any folders. ``@list.txt`` names a file with a word on each line, ``-`` takes `lines`.
    A word that leads to no image fails alone, as long as another one leads to some.

    Parameters
    ----------
    include : patterns for the names of files in folders; all image files where there is none
    lines : of the standard input
    skip : pattern of names in folders that are none of the images, such as results
    absent : words of which it is known already that they lead to none, and why

    Raises
    ------
    NothingFound, ImageNotFound, BmzError
        No word leads to an image: a folder or a pattern holds none, a list is not there, or what
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
    """Give the images of a word, and the folder whose structure their results keep."""
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
    """Put the lines of lists in their place; a list that is not there stays as it is.

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
            yield from _named_in(path.read_text(encoding="utf-8").splitlines())
        else:
            yield word


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
    """Say whether a word is a pattern of names, and no file that is called so."""
    return _WILD.search(text) is not None and not is_there(split_series(Path(text).expanduser())[0])


def fixed_part(pattern: Path) -> Path:
    """Give the folders before the first that has a wild card."""
    fixed = []
    for part in pattern.parts[:-1]:
        if _WILD.search(part):
            break
        fixed.append(part)
    return Path(*fixed)
