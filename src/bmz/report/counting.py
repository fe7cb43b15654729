"""How many objects there are, in words that do not count an object of several planes as one."""

from __future__ import annotations

from collections.abc import Mapping

_PLACES = {"t": "frames", "z": "planes"}


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
