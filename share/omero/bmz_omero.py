"""Run a model on images of an OMERO server; objects become ROIs, their table an attachment.

``python bmz_omero.py starter/nuclei 101 102 --host omero.lab.org --user jane``. The password is
asked for, or taken from the variable OMERO_PASSWORD. Needs bmz and omero-py.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import bmz
from bmz.write.outlines import outlines_of
from bmz.write.result import Region

NAMESPACE = "bmz"
"""Of attachments, by which OMERO filters them."""

AT_ONCE = 500
"""So many ROIs are sent in one message."""

YELLOW = -65281
"""Red, green, blue and opacity in the bytes of one signed number, as OMERO stores colours."""


def fetched(image: Any) -> xr.DataArray:
    """Fetch all planes of an image.

    Parameters
    ----------
    image : an ``ImageWrapper`` of omero.gateway

    Returns
    -------
    DataArray
        dims t, c, z, y, x without those of size 1, but always y and x; lengths in um
    """
    sizes = {"t": image.getSizeT(), "c": image.getSizeC(), "z": image.getSizeZ()}
    places = product(range(sizes["z"]), range(sizes["c"]), range(sizes["t"]))
    order = sorted(places, key=lambda zct: (zct[2], zct[1], zct[0]))
    planes = np.stack(list(image.getPrimaryPixels().getPlanes(order)))
    pixels = planes.reshape(*sizes.values(), *planes.shape[1:])
    coords: dict[str, Any] = {"c": image.getChannelLabels()}
    lengths = {"z": image.getPixelSizeZ(), "y": image.getPixelSizeY(), "x": image.getPixelSizeX()}
    for axis, um in lengths.items():
        if um:
            steps = np.arange(pixels.shape["tczyx".index(axis)]) * um
            coords[axis] = (axis, steps, {"pixel_um": um})
    stack = xr.DataArray(pixels, dims=tuple("tczyx"), coords=coords)
    single = [axis for axis, size in sizes.items() if size == 1]
    return stack.squeeze(single, drop=True)


def rois_of(labels: xr.DataArray, image: Any) -> Iterator[Any]:
    """Give a ROI for each object, with a shape for each piece of it in each plane.

    Pieces are polygons along the edges of their pixels. OMERO knows no polygon with holes, so an
    object that has some is a mask.

    Parameters
    ----------
    labels : dims of tzyx, 0 background
    image : as `fetched` takes it
    """
    from omero.model import RoiI

    shapes: dict[int, list[Any]] = defaultdict(list)
    planes = labels.expand_dims([axis for axis in "tz" if axis not in labels.dims])
    planes = planes.transpose("t", "z", "y", "x")
    for t, z in np.ndindex(planes.shape[:2]):
        for label, plane_shapes in _shapes(planes.values[t, z]):
            for shape in plane_shapes:
                _place(shape, label, t, z)
            shapes[label] += plane_shapes
    for label in sorted(shapes):
        roi = RoiI()
        roi.setImage(image._obj)
        for shape in shapes[label]:
            roi.addShape(shape)
        yield roi


def _shapes(plane: np.ndarray) -> Iterator[tuple[int, list[Any]]]:
    traced = outlines_of([Region(plane, 0, 0)], {})
    for k, label in enumerate(traced.labels.tolist()):
        pieces = traced.polygons(k)
        if any(len(rings) > 1 for rings in pieces):
            yield label, [_mask(plane, label, np.concatenate([outer for outer, *_ in pieces]))]
        else:
            yield label, [_polygon(outer) for (outer,) in pieces]


def _polygon(corners: np.ndarray) -> Any:
    from omero.model import PolygonI
    from omero.rtypes import rstring

    polygon = PolygonI()
    polygon.setPoints(rstring(" ".join(f"{x},{y}" for x, y in corners.tolist())))
    return polygon


def _mask(plane: np.ndarray, label: int, corners: np.ndarray) -> Any:
    """Give an object as a mask: the bits of the rows of its bounding box, one behind the other."""
    from omero.model import MaskI
    from omero.rtypes import rdouble

    (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    mask = MaskI()
    mask.setX(rdouble(left))
    mask.setY(rdouble(top))
    mask.setWidth(rdouble(right - left))
    mask.setHeight(rdouble(bottom - top))
    mask.setBytes(np.packbits(plane[top:bottom, left:right] == label).tobytes())
    return mask


def _place(shape: Any, label: int, t: int, z: int) -> None:
    from omero.rtypes import rint, rstring

    shape.setTheT(rint(t))
    shape.setTheZ(rint(z))
    shape.setTextValue(rstring(str(label)))
    shape.setStrokeColor(rint(YELLOW))


def saved(connection: Any, image: Any, result: bmz.Result) -> int:
    """Save the objects as ROIs, and table and record as attachments; give the number of ROIs.

    Parameters
    ----------
    connection : a ``BlitzGateway``
    """
    rois = [] if result.labels is None else list(rois_of(result.labels, image))
    update = connection.getUpdateService()
    for first in range(0, len(rois), AT_ONCE):
        update.saveArray(rois[first : first + AT_ONCE], connection.SERVICE_OPTS)
    with tempfile.TemporaryDirectory() as folder:
        files = result.save(folder)
        for kind, mimetype in (("table", "text/csv"), ("record", "application/json")):
            if kind in files:
                _attach(connection, image, files[kind], mimetype)
    return len(rois)


def _attach(connection: Any, image: Any, file: Path, mimetype: str) -> None:
    named = f"{image.getId()}{''.join(file.suffixes[-2:])}"  # names in OMERO may be paths
    annotation = connection.createFileAnnfromLocalFile(
        str(file), origFilePathAndName=named, mimetype=mimetype, ns=NAMESPACE
    )
    image.linkAnnotation(annotation)


def segmented(connection: Any, model: bmz.Model, number: int, options: dict[str, Any]) -> bool:
    """Check and run an image, and save what is found; say whether it fits and is there.

    Parameters
    ----------
    number : id of the image
    options : keywords of `bmz.Model.run`
    """
    image = connection.getObject("Image", number)
    if image is None:
        print(f"image {number}: there is none of this number, or you may not see it")
        return False
    try:
        return _run(connection, model, image, options)
    except bmz.BmzError as why:
        print(f"image {number}: {why}\n  hint: {why.hint}")
        return False


def _run(connection: Any, model: bmz.Model, image: Any, options: dict[str, Any]) -> bool:
    pixels = fetched(image)
    of_image = ("channels", "scale")
    report = model.check(pixels, **{name: options[name] for name in of_image if name in options})
    print(f"image {image.getId()}, {image.getName()}: {report.words}")
    for finding in (*report.errors, *report.warnings):
        print(
            f"  {finding.severity}: {finding.message}" + f" ({finding.hint})" * bool(finding.hint)
        )
    if not (report.fits or options.get("force")):
        return False
    result = model.run(pixels, **options)
    print(f"  {result.counted}: {saved(connection, image, result)} ROIs saved")
    return True


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="a name of the zoo, starter/NAME, or a path")
    parser.add_argument("images", nargs="+", type=int, metavar="ID", help="of an image")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, default=4064)
    parser.add_argument("--user", required=True)
    parser.add_argument("--channels", help="image channel for each of the model, such as 1,0")
    parser.add_argument("--scale", choices=["auto"], help="resize to the scale of the model")
    parser.add_argument("--force", action="store_true", help="run despite errors of the check")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run the script; 0 where every image was done, 1 where one was not, 3 without a server."""
    from omero.gateway import BlitzGateway

    given = _arguments(words)
    options = {name: getattr(given, name) for name in ("channels", "scale") if getattr(given, name)}
    options |= {"force": True} if given.force else {}
    password = os.environ.get("OMERO_PASSWORD") or getpass.getpass(f"password of {given.user}: ")
    connection = BlitzGateway(given.user, password, host=given.host, port=given.port, secure=True)
    if not connection.connect():
        print(f"{given.host} does not let {given.user} in", file=sys.stderr)
        return 3
    try:
        with bmz.load(given.model) as model:
            done = [segmented(connection, model, number, options) for number in given.images]
    except bmz.BmzError as why:
        print(f"error: {why}\n  hint: {why.hint}", file=sys.stderr)
        return why.exit_status
    finally:
        connection.close()
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
