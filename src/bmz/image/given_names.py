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


def given_name(path: Path) -> str:
    """Give the word by which the user named an image; its path where that is the word.

    What lies in an image, such as a field of a plate or one of several images of a file, is called
    after it.

    Examples
    --------
    >>> remember_names({Path("cache/1/cells.czi"): "https://a.org/cells.czi"})
    >>> given_name(Path("cache/1/cells.czi[2]")), given_name(Path("cells.czi"))
    ('https://a.org/cells.czi[2]', 'cells.czi')
    """
    text = str(path)
    for known, word in _GIVEN.items():
        rest = text.removeprefix(str(known))
        if rest != text and rest[:1] in {"", "/", "\\", "["}:
            return word + rest
    return text


def with_given_names(text: str) -> str:
    """Put the words of the user in the place of paths in a text, such as that of an error."""
    for known, word in _GIVEN.items():
        text = text.replace(str(known), word)
    return text
