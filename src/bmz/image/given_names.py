"""Names that the user gave to images that are read from elsewhere, such as from a server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_GIVEN: dict[Path, str] = {}
"""Path from which an image is read -> name that the user gave."""


def remember_names(names: Mapping[Path, str]) -> None:
    """Remember the names that the user gave to images.

    Parameters
    ----------
    names : path from which an image is read, such as one in the cache -> name that the user gave
    """
    _GIVEN.update(names)


def forget_name(path: Path) -> None:
    """Forget the name of an image, in a process that runs images of several users."""
    _GIVEN.pop(path, None)


def given_name(path: Path) -> str:
    """Return the name that the user gave to an image, or its path if there is no other name.

    The name of a part, such as a field of a plate or one of several images of a file, starts with
    the name of the whole.

    Examples
    --------
    >>> remember_names({Path("cache/1/cells.czi"): "https://a.org/cells.czi"})
    >>> given_name(Path("cache/1/cells.czi[2]")), given_name(Path("cells.czi"))
    ('https://a.org/cells.czi[2]', 'cells.czi')
    """
    text = str(path)
    for known, word in names_for(path, _GIVEN).items():
        return word + text.removeprefix(str(known))
    return text


def names_for(path: Path, names: Mapping[Path, str]) -> dict[Path, str]:
    """Return the names that the user gave to an image, or to the file or folders that contain it.

    The image is looked up, without iterating over all names, of which there may be one per image.

    Parameters
    ----------
    path : path from which the image is read, including any part in brackets
    names : names as for `remember_names`

    Examples
    --------
    >>> names_for(Path("cache/1/a.czi[2]"), {Path("cache/1/a.czi"): "a", Path("cache/2"): "b"})
    {PosixPath('cache/1/a.czi'): 'a'}
    """
    text = str(path)
    files = [Path(text[:at]) for at, letter in enumerate(text) if letter == "[" and at]
    return {known: names[known] for known in (path, *files[::-1], *path.parents) if known in names}


def with_given_names(text: str) -> str:
    """Replace paths in a text, such as an error message, by the names that the user gave."""
    for known, word in _GIVEN.items():
        text = text.replace(str(known), word)
    return text
