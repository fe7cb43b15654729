"""What the user called an image that is read from elsewhere, such as one on a server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_GIVEN: dict[Path, str] = {}
"""Path under which an image is read -> the word by which the user named it."""


def remember_names(names: Mapping[Path, str]) -> None:
    """Let images be called as the user called them.

    Parameters
    ----------
    names : path under which an image is read, such as one in the cache -> the word of the user
    """
    _GIVEN.update(names)


def forget_name(path: Path) -> None:
    """Call an image by its path again, in a process that runs images of several users."""
    _GIVEN.pop(path, None)


def given_name(path: Path) -> str:
    """Return the word by which the user named an image; its path where that is the word.

    What lies in an image, such as a field of a plate or one of several images of a file, is called
    after it.

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
    """Choose of the words of a user those that stand for an image, or for what it lies in.

    It looks the image up and does not go through all words, of which each image may have one.

    Parameters
    ----------
    path : under which the image is read, with what stands in brackets
    names : see `remember_names`

    Examples
    --------
    >>> names_for(Path("cache/1/a.czi[2]"), {Path("cache/1/a.czi"): "a", Path("cache/2"): "b"})
    {PosixPath('cache/1/a.czi'): 'a'}
    """
    text = str(path)
    files = [Path(text[:at]) for at, letter in enumerate(text) if letter == "[" and at]
    return {known: names[known] for known in (path, *files[::-1], *path.parents) if known in names}


def with_given_names(text: str) -> str:
    """Put the words of the user in the place of paths in a text, such as that of an error."""
    for known, word in _GIVEN.items():
        text = text.replace(str(known), word)
    return text
