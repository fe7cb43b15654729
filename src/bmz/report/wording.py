"""Verdicts and numbers of objects in words; one of several planes is not counted as one."""

from __future__ import annotations

from collections.abc import Mapping

from bmz.results.check import ImageChecked

_WORDS = {
    ("fits", False): "fits as it is",
    ("adapts", False): "fits; bmz run adapts what the notes say",
    ("fits", True): "fits, with warnings",
    ("adapts", True): "fits, with warnings; bmz run adapts what the notes say",
}
_NO_FIT = {"mismatch": "does not fit", None: "could not be checked"}
_PLACES = {"t": "frames", "z": "planes"}


def verdict_words(verdict: str | None, warnings: int) -> str:
    """Give a verdict in words: fits, fits with warnings, or does not fit.

    Parameters
    ----------
    verdict : ``fits``, ``adapts`` or ``mismatch``; None where there is none
    warnings : how many there are
    """
    return _NO_FIT.get(verdict) or _WORDS[str(verdict), warnings > 0]


def short_verdict(verdict: str | None, warnings: int) -> str:
    """Give a verdict for a cell of a table: its own name, and whether there are warnings."""
    if verdict in _NO_FIT:
        return verdict or ""
    return f"{verdict}, with warnings" if warnings else str(verdict)


def image_words(image: ImageChecked) -> str:
    """Give the verdict of an image in words."""
    return verdict_words(image.verdict, image.warnings)


def counted(objects: int, apart: Mapping[str, int], joined: Mapping[str, int]) -> str:
    """Say how many objects there are, and in how many planes and frames they were counted.

    Parameters
    ----------
    objects : how many; those that are joined over t are tracks
    apart : positions along t and z, at each of which objects were counted anew
    joined : positions along t and z over which objects were joined

    Examples
    --------
    >>> counted(344, {"z": 31}, {})
    '344 objects in 31 planes'
    >>> counted(41, {"t": 8}, {"z": 31})
    '41 objects in 8 frames, joined over 31 planes'
    >>> counted(1, {}, {})
    '1 object'
    """
    noun = "track" if "t" in joined else "object"
    return f"{objects} {noun}{'s' * (objects != 1)}{within(apart, joined)}"


def within(apart: Mapping[str, int], joined: Mapping[str, int]) -> str:
    """Say in how many planes and frames objects were counted, to go on behind a number.

    Examples
    --------
    >>> within({"t": 8, "z": 31}, {})
    ' in 8 frames of 31 planes'
    """
    counted_in = f" in {_places(apart)}" if apart else ""
    if not joined:
        return counted_in
    return f"{counted_in}{',' * bool(apart)} joined over {_places(joined)}"


def _places(positions: Mapping[str, int]) -> str:
    return " of ".join(f"{positions[a]} {_PLACES[a]}" for a in "tz" if a in positions)
