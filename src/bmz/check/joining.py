"""Does one object count as one, where planes or frames are labelled one by one?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bmz.check.finding import Finding

EXAMPLE = "--link 0.25"
"""An overlap that joins most of what belongs together; Cellpose's own default."""


def nothing_joined(link: Mapping[str, float], tensor: str) -> Finding:
    """Tell that labels were to be joined, and that the model labels the image as a whole.

    Parameters
    ----------
    link : axes over which labels were to be joined
    tensor : id of the input of the model
    """
    return Finding.of(
        "objects.nothing-to-join", tensor,
        f"there is nothing to join over {' and '.join(link)}",
        wanted="several planes or frames that are labelled one by one", found="none",
        hint="leave out --link",
    )  # fmt: skip


def joining_findings(apart: Mapping[str, int], tensor: str) -> Iterator[Finding]:
    """Yield along which axes an object of several positions is counted in each of them.

    Parameters
    ----------
    apart : positions along t and z, at each of which labels are made anew and not joined
    tensor : id of the input of the model
    """
    if "z" in apart:
        yield Finding.of(
            "objects.not-joined", f"{tensor}.z",
            f"the objects of the {apart['z']} planes are not joined: an object that goes through "
            "several planes is counted in each of them",
            wanted="one label for each object", found="one label for each object and plane",
            hint=f"{EXAMPLE} joins objects that overlap; or take a 3-D model",
        )  # fmt: skip
    if "t" in apart:
        yield Finding.of(
            "objects.not-tracked", f"{tensor}.t",
            f"the objects of the {apart['t']} frames are not tracked: an object that is there "
            "for several frames is counted in each of them",
            wanted="one label for each object", found="one label for each object and frame",
            hint=f"{EXAMPLE} follows objects that overlap from frame to frame",
        )  # fmt: skip
