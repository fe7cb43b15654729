"""Sizes that tiles need, and axes over which objects are not joined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bmz.check.finding import Finding
from bmz.check.fit_case import FitCase, PlannedAxis
from bmz.spec.model import AxisSpec, Fixed, Stepped


def size_findings(case: FitCase) -> Iterator[Finding]:
    """Yield what is padded or tiled, with the numbers; sizes are after the rescale."""
    first = case.inputs[0]
    for axis in first.axes:
        pixels = case.image.sizes.get(axis.letter)
        if axis.kind == "space" and pixels is not None:
            seen = max(1, int(pixels * (case.scale or 1.0)))
            yield from _of_axis(axis, seen, first.id, case.planned.get(axis.letter))


def _of_axis(
    axis: AxisSpec, pixels: int, tensor: str, planned: PlannedAxis | None
) -> Iterator[Finding]:
    where, size = f"{tensor}.{axis.letter}", axis.size
    least = size.size if isinstance(size, Fixed) else getattr(size, "least", 0)
    if pixels < least:
        code, message = (
            "size.below-least",
            f"{pixels} px is below the least size: {_brought_to(planned, least)}",
        )
    elif isinstance(size, Fixed) and pixels > least:
        code, message = "size.fixed", f"{pixels} px are run in tiles of {least} px"
    elif isinstance(size, Stepped) and size.step and (pixels - least) % size.step:
        legal = least + -(-(pixels - least) // size.step) * size.step
        code = "size.off-step"
        message = f"{pixels} px is no legal size ({size}): {_brought_to(planned, legal)}"
    else:
        return
    yield Finding.of(code, where, message, wanted=str(size), found=str(pixels))


def _brought_to(planned: PlannedAxis | None, legal: int) -> str:
    """Say what is done about a size, as it is planned; without a plan, what any plan does."""
    if planned is None:
        return f"padded to {legal} px or more, or tiled"
    if planned.tiles > 1:
        return f"run in {planned.tiles} tiles of {planned.tile_px} px"
    return f"padded to {planned.tile_px} px"


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
