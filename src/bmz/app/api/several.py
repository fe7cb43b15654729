"""``bmz.images``: the images of a file that holds several, each by a path of its own."""

from __future__ import annotations

from pathlib import Path

from bmz.engine.image_header import on_disk
from bmz.image.plates import with_fields
from bmz.image.series import ALL


def images(path: str | Path, *, series: str = ALL) -> tuple[Path, ...]:
    """Give every image of a file or plate: paths that `Model.check`, `Model.run` and `fit` take.

    Scenes, positions, series and multiscales of a file are images, and so are the fields of a
    plate. Of a file that holds one image it is the path itself.

    Parameters
    ----------
    path
        A file, an OME-Zarr or the address of one on a server
    series
        The name or number of an image, two numbers such as ``"2-5"``, or ``"all"``

    Raises
    ------
    WrongUsage
        There is no such image.
    BmzError
        The address leads to no image.

    Examples
    --------
    >>> images("cells.tif")
    (PosixPath('cells.tif'),)
    """
    return tuple(with_fields([on_disk(str(path))], series))
