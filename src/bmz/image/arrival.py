"""Images that appear in a folder while it is watched: which there are, and which stand still."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path

from bmz.base.errors import WrongUsage
from bmz.base.values import dataclass
from bmz.image.formats import split_series
from bmz.image.known_formats import PREVIEWS
from bmz.image.listing import NothingFound, fixed_part, is_pattern, listed_images, set_of_files
from bmz.image.remote import is_address
from bmz.image.series import NoDatasets, in_dataset


class NoFolderToWatch(WrongUsage):
    """What shall be watched is no folder."""

    def __init__(self, words: Sequence[str]) -> None:
        named = f"'{words[0]}' is none" if len(words) == 1 else f"{len(words)} words were given"
        super().__init__(
            f"--watch takes one folder, or one pattern below a folder, and {named}",
            hint="make the folder first, put a pattern in quotes, and watch several folders by "
            "several calls, each with an output folder of its own",
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
        it stays the same as long as no file is written, made or removed; None where nothing is
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
        """Give the images that have stood still for long enough.

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
    """Give the stamp of each image that is there; see `stamp_of`."""
    stamps = {image: stamp_of(image) for image in images}
    return {image: stamp for image, stamp in stamps.items() if stamp is not None}
