"""How labels of planes and frames are joined: the words of ``--link``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

LINKED = "zt"
"""Axes over which labels can be joined, in the order in which it is done: stacks, then time."""

GAPS = (0, 1)
"""How many planes or frames an object may be missing between two that have it."""


@dataclass(frozen=True)
class Link:
    """Which axes labels are joined over, and how much they must overlap.

    Parameters
    ----------
    ious : axis (of `LINKED`) -> least intersection over union of what is joined, above 0 and at
        most 1; axes that are not named are not joined
    gap : planes or frames that an object may be missing in between, of `GAPS`
    """

    ious: Mapping[str, float] = field(default_factory=dict)
    gap: int = 0

    def over(self, loop: Mapping[str, int]) -> Link:
        """Give what of it there is to do where planes lie at these positions along t and z."""
        left = {a: self.ious[a] for a in LINKED if loop.get(a, 1) > 1 and a in self.ious}
        return Link(left, self.gap)


NO_LINK = Link()
"""Labels of planes and frames stay as they are."""


def link_ious(word: str) -> dict[str, float]:
    """Read ``0.25`` (of z and t), or ``z=0.25,t=0.5``.

    Raises
    ------
    ValueError
        It is neither; the message says why.

    Examples
    --------
    >>> link_ious("0.25")
    {'z': 0.25, 't': 0.25}
    >>> link_ious("t=0.5")
    {'t': 0.5}
    """
    if "=" not in word:
        return dict.fromkeys(LINKED, _iou(word))
    ious: dict[str, float] = {}
    for part in word.split(","):
        axis, _, text = (piece.strip() for piece in part.partition("="))
        if axis not in tuple(LINKED) or axis in ious:
            raise ValueError(f"'{part.strip()}': name z or t, each once, such as z=0.25,t=0.5")
        ious[axis] = _iou(text)
    return ious


def checked_ious(ious: Mapping[str, float]) -> dict[str, float]:
    """Give the overlaps back by axis, when each can be meant; see `link_ious`."""
    if not set(ious) <= set(LINKED):
        raise ValueError("labels are joined over z and t")
    return {axis: _iou(str(iou)) for axis, iou in ious.items()}


def _iou(text: str) -> float:
    try:
        iou = float(text)
    except ValueError:
        iou = math.nan
    if not 0 < iou <= 1:
        raise ValueError(f"'{text}' is no overlap above 0 and up to 1, such as 0.25")
    return iou
