"""ND2, by nd2."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import Box
from bmz.image.scenes import IN_ORDER, Scene, stated_um


@contextmanager
def opened_nd2(path: Path) -> Iterator[Nd2Scenes]:
    """Open an ND2 file."""
    import nd2

    with nd2.ND2File(path) as document:
        yield Nd2Scenes(document)


class Nd2Scenes:
    """The positions of an ND2 file; all of it where it has none."""

    def __init__(self, document: Any) -> None:  # noqa: ANN401  (imported when it is needed)
        self._document = document
        self._sizes: dict[str, int] = dict(document.sizes)
        self.names: Sequence[str] = _position_names(document, self._sizes.get("P", 1))

    def scene(self, number: int, /) -> Scene:
        """Give a position."""
        document, axes = self._document, "".join(self._sizes)
        lazy = document.to_dask()
        if "P" in axes:
            lazy = lazy[(slice(None),) * axes.index("P") + (number,)]
            axes = axes.replace("P", "")
        order = sorted(axes, key=IN_ORDER.find)
        lazy = lazy.transpose([axes.index(a) for a in order])
        size = document.voxel_size()
        calibrated = {"z": size.z if "Z" in axes else None, "y": size.y, "x": size.x}
        volume = getattr(document.metadata, "channels", None) or ()
        measured = not volume or any(volume[0].volume.axesCalibrated[:2])
        names = tuple(str(one.channel.name) for one in volume)
        return Scene(
            "".join(order), Lazy(lazy), stated_um(calibrated, 1.0) if measured else {}, names
        )


class Lazy:
    """Regions of an array of dask."""

    def __init__(self, lazy: Any) -> None:  # noqa: ANN401  (dask comes with the library)
        self._lazy = lazy
        self.shape: tuple[int, ...] = tuple(int(n) for n in lazy.shape)
        self.dtype: np.dtype[Any] = np.dtype(lazy.dtype)

    def __getitem__(self, box: Box, /) -> AnyArray:
        # one thread: the files' own libraries do not promise more
        return np.asarray(self._lazy[box].compute(scheduler="synchronous"))


def _position_names(document: Any, count: int) -> list[str]:  # noqa: ANN401  (as above)
    names = [""] * count
    for loop in document.experiment:
        if loop.type == "XYPosLoop":
            names = [str(point.name or "") for point in loop.parameters.points]
    return names if len(names) == count else [""] * count
