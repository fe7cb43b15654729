"""LIF, by liffile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.image.scenes import IN_ORDER, Planes, Scene, stated_um

_UM_A_METRE = 1e6


@contextmanager
def opened_lif(path: Path) -> Iterator[LifScenes]:
    """Open a LIF file."""
    import liffile

    with liffile.LifFile(path) as document:
        yield LifScenes(document)


class LifScenes:
    """The images of a LIF file."""

    def __init__(self, document: Any) -> None:  # noqa: ANN401  (imported when it is needed)
        self._images = list(document.images)
        self.names: Sequence[str] = [str(image.name) for image in self._images]

    def scene(self, number: int, /) -> Scene:
        """Give an image; axes of wavelengths keep liffile's letters, which are none of ours."""
        image = self._images[number]
        axes, sizes = "".join(image.dims), dict(image.sizes)
        inner = len(axes) - axes.index("Y")
        leading = "".join(sorted(axes[:-inner], key=IN_ORDER.find))

        def read(index: tuple[int, ...]) -> AnyArray:
            plane: AnyArray = image.frame(**dict(zip(leading, index, strict=True)))
            return plane

        outer = [sizes[a] for a in leading]
        stored = Planes(outer, image.shape[-inner:], np.dtype(image.dtype), read)
        lengths = {a.lower(): _step(image.coords.get(a)) for a in axes if a in "ZYX"}
        return Scene(
            leading + axes[-inner:], stored, stated_um(lengths, _UM_A_METRE), _channel_names(image)
        )


def _step(positions: AnyArray | None) -> float | None:
    if positions is None or len(positions) < 2:  # noqa: PLR2004  (one has no step)
        return None
    return abs(float(positions[-1] - positions[0])) / (len(positions) - 1)


def _channel_names(image: Any) -> tuple[str, ...]:  # noqa: ANN401  (as above)
    # the names of lookup tables are all that the format has for every channel
    element: ET.Element = image.xml_element
    names = tuple(one.get("LUTName", "") for one in element.iter("ChannelDescription"))
    return names if all(names) and len(set(names)) == len(names) else ()
