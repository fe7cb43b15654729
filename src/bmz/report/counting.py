"""How many objects there are, in words that do not count an object of several planes as one."""

from __future__ import annotations

from collections.abc import Mapping

_PLACES = {"t": "frames", "z": "planes"}


def counted(objects: int, apart: Mapping[str, int]) -> str:
    """Say how many objects there are, and in how many planes and frames they were counted.

    Parameters
    ----------
    objects : how many
    apart : positions along t and z, at each of which objects were counted anew

    Examples
    --------
    >>> counted(344, {"z": 31})
    '344 objects in 31 planes'
    >>> counted(1, {})
    '1 object'
    """
    return f"{objects} object{'s' * (objects != 1)}{within(apart)}"


def within(apart: Mapping[str, int]) -> str:
    """Say in how many planes and frames objects were counted, to go on behind a number.

    Examples
    --------
    >>> within({"t": 8, "z": 31})
    ' in 8 frames of 31 planes'
    """
    places = [f"{apart[axis]} {_PLACES[axis]}" for axis in "tz" if axis in apart]
    return f" in {' of '.join(places)}" if places else ""
