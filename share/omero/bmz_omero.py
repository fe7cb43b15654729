"""Run a model on images in OMERO and save its objects as ROIs and its table as an attachment.

``python bmz_omero.py starter/nuclei 101 102 --host omero.lab.org --user jane``. The script
asks for the password or takes it from the variable OMERO_PASSWORD. It needs bmz and omero-py.
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
"""Namespace of the attachments, by which OMERO can filter them."""

AT_ONCE = 500
"""Number of ROIs that are sent in one message."""

YELLOW = -65281
"""Red, green, blue and opacity as the bytes of a signed number, as OMERO stores colours."""


def fetched(image: Any) -> xr.DataArray:
    """Fetch all planes of an image.

    Parameters
    ----------
    image : an ``ImageWrapper`` of omero.gateway

    Returns
    -------
    DataArray
        dims t, c, z, y, x; t, c and z only if they are longer than 1. Coordinates are in um
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
    """Yield a ROI for each object, with a shape for each connected piece in each plane.

    A piece is a polygon along the edges of its pixels. OMERO polygons cannot have holes, so objects
    with holes become masks.

    Parameters
    ----------
    labels : dims y, x and maybe t, z; 0 is background
    image : an ``ImageWrapper`` of omero.gateway
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
    """Return an object as a mask: the pixels of its bounding box as bits, row by row."""
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
    """Save objects as ROIs, and table and record as attachments; return the number of ROIs.

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
    """Check an image, run the model and save the result; return whether all of it succeeded.

    Parameters
    ----------
    number : ID of the image
    options : keyword arguments of `bmz.Model.run`
    """
    image = connection.getObject("Image", number)
    if image is None:
        print(f"image {number} does not exist, or you may not see it")
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
    parser.add_argument("model", help="name of a model in the zoo, starter/NAME, or a path")
    parser.add_argument("images", nargs="+", type=int, metavar="ID", help="IDs of the images")
    parser.add_argument("--host", required=True, help="address of the OMERO server")
    parser.add_argument("--port", type=int, default=4064)
    parser.add_argument("--user", required=True, help="name of the OMERO user")
    parser.add_argument("--channels", help="image channel for each model channel, such as 1,0")
    parser.add_argument("--scale", choices=["auto"], help="resize images to the scale of the model")
    parser.add_argument("--force", action="store_true", help="run even if the check finds errors")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run the script; return 0 if every image was done, 1 if one was not, 3 without a server."""
    from omero.gateway import BlitzGateway

    given = _arguments(words)
    options = {name: getattr(given, name) for name in ("channels", "scale") if getattr(given, name)}
    options |= {"force": True} if given.force else {}
    password = os.environ.get("OMERO_PASSWORD") or getpass.getpass(f"Password of {given.user}: ")
    connection = BlitzGateway(given.user, password, host=given.host, port=given.port, secure=True)
    if not connection.connect():
        print(f"error: {given.user} cannot log in to {given.host}", file=sys.stderr)
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
