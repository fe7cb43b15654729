"""Resolve what a client may name: models of the zoo, and paths in the folders of the user."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from bmz.base.errors import WrongUsage
from bmz.base.values import dataclass
from bmz.image.formats import split_series
from bmz.image.listing import LIST, STDIN, Listing, is_pattern, listed_images
from bmz.image.remote import is_address
from bmz.write.outputs import names_of_results
from bmz.zoo.address import Alias, Doi, OnDisk, Starter, read_address


class NotAFolder(WrongUsage):
    """The value of ``--folder`` is not a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"'{folder}' is not a folder",
            hint="create it first, or name another with --folder",
            code="mcp.no-folder",
        )


class OutsideFolders(WrongUsage):
    """A path leads out of the folders, directly or through a link.

    Parameters
    ----------
    word : path as the client wrote it, or as found in a folder
    roots : the folders
    """

    def __init__(self, word: str, roots: Sequence[Path]) -> None:
        named = ", ".join(f"'{root}'" for root in roots) or "none"
        super().__init__(
            f"'{word}' is outside the folders that this server may use ({named})",
            hint="give a path in one of them; the user of this server can add more with bmz mcp "
            "--folder DIR",
            code="mcp.outside",
        )


class NotAPath(WrongUsage):
    """An argument that should name images is not the path of a file or folder."""

    def __init__(self, word: str) -> None:
        super().__init__(
            f"'{word}' is not the path of a file or folder: this server does not take addresses, "
            "patterns or lists",
            hint="give the path of a file or folder, and select files in a folder with include",
            code="mcp.no-path",
        )


class ModelFromElsewhere(WrongUsage):
    """A model is named by a web address outside the zoo."""

    def __init__(self, model: str) -> None:
        super().__init__(
            f"'{model}' is neither a model in the zoo nor a package on this computer",
            hint="give a name that the tool search finds, a DOI, starter/NAME, or a path",
            code="mcp.model",
        )


@dataclass(frozen=True)
class Folders:
    """The folders in which a client may read and write; created by `Folders.of`.

    Parameters
    ----------
    roots : paths of the folders, with links resolved
    """

    roots: tuple[Path, ...]

    @classmethod
    def of(cls, words: Sequence[Path]) -> Folders:
        """Resolve the folders that the user names.

        Raises
        ------
        NotAFolder
            One of them does not exist.
        """
        for word in words:
            if not word.is_dir():
                raise NotAFolder(word)
        return cls(tuple(dict.fromkeys(word.resolve() for word in words)))

    def path(self, word: str) -> Path:
        """Resolve a path of the client, including links and ``..``.

        A relative path is looked up in the folders, and the first one that contains it is used.

        Raises
        ------
        OutsideFolders
            The path, or something in it, leads out of the folders.
        """
        if not word or "\0" in word or not self.roots:
            raise OutsideFolders(word, self.roots)
        given = [root / word for root in self.roots]
        path = next((one for one in given if self._is_there(one)), given[0])
        resolved = path.resolve()
        if not self._holds(resolved):
            raise OutsideFolders(word, self.roots)
        for link in _links(resolved):
            if not self._holds(link.resolve()):
                raise OutsideFolders(str(link), self.roots)
        return resolved

    def images(self, words: Sequence[str], include: Sequence[str]) -> Listing:
        """List the images in files and folders.

        Parameters
        ----------
        words : paths; one image of a file with several is written ``cells.czi[2]``
        include : patterns for the names of files in folders; all image files if empty

        Raises
        ------
        NotAPath, OutsideFolders
            A path is refused.
        BmzError
            No path leads to an image.
        """
        paths = [self._image(word) for word in words]
        listing = listed_images(map(str, paths), include, skip=names_of_results())
        for image in listing.images:
            self.path(str(split_series(image)[0]))
        return replace(listing, roots=tuple(root for root in listing.roots if root in paths))

    def mask(self, word: str) -> Path:
        """Return the path of a label mask, or of a folder of them.

        Raises
        ------
        NotAPath, OutsideFolders
            The path is refused.
        """
        return self._image(word)

    def model(self, word: str) -> str:
        """Return the name of a model in the form that the rest of bmz takes.

        Raises
        ------
        ModelFromElsewhere, OutsideFolders
            The model is refused.
        """
        address = read_address(word)
        if isinstance(address, Starter | Alias | Doi):
            return word
        if isinstance(address, OnDisk):
            return str(self.path(str(address.path)))
        raise ModelFromElsewhere(word)

    def _image(self, word: str) -> Path:
        if word == STDIN or word.startswith(LIST) or is_address(word):
            raise NotAPath(word)
        path, series = split_series(self.path(word))
        path = self.path(str(path))
        if is_pattern(str(path)):
            raise NotAPath(word)
        return path.with_name(f"{path.name}[{series}]") if series else path

    def _is_there(self, path: Path) -> bool:
        """Return whether a path exists; False for a path outside the folders, to reveal nothing."""
        return self._holds(path.resolve()) and path.exists()

    def _holds(self, resolved: Path) -> bool:
        return any(resolved.is_relative_to(root) for root in self.roots)


def _links(folder: Path) -> Iterator[Path]:
    """Find every link below a folder, and below the folders that links lead to."""
    waiting, known = [folder] if folder.is_dir() else [], set[Path]()
    while waiting:
        at = waiting.pop()
        if at in known:
            continue
        known.add(at)
        for place, folders, names in os.walk(at):
            for name in (*folders, *names):
                path = Path(place, name)
                if path.is_symlink():
                    yield path  # the caller stops here if the link leads out
                    if path.is_dir():
                        waiting.append(path.resolve())
