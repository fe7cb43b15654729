"""OME-XML: the pixel size, the objective and the names of the channels of one image."""

from __future__ import annotations

import math
from dataclasses import replace
from xml.etree import ElementTree as ET

from bmz.image.header import PixelSize
from bmz.image.pixel_size import from_lengths


def declares_entities(xml: str) -> bool:
    """Tell whether `xml` declares its own entities, which can blow up a parser's memory.

    OME-XML is described by a schema and needs no document type.
    """
    upper = xml.upper()
    return "<!DOCTYPE" in upper or "<!ENTITY" in upper


def read_ome(xml: str, series: int, series_count: int) -> tuple[PixelSize, tuple[str, ...]]:
    """Give pixel size and channel names of image number `series`.

    Source: OME schema 2016-06, ``Pixels``, ``Channel``, ``ObjectiveSettings`` and ``Objective``.
    Nothing is known when the XML describes another number of images than the file holds, since
    then the numbers do not correspond.

    Parameters
    ----------
    xml : OME-XML that declares no entities
    series, series_count : which of how many images of the file

    Returns
    -------
    PixelSize, tuple of str
        no names unless each channel has one
    """
    try:
        root = ET.fromstring(xml)  # noqa: S314  (the caller refuses declared entities)
    except ET.ParseError:
        return PixelSize(), ()
    found = [(i, p) for i in root if _is(i, "Image") for p in i if _is(p, "Pixels")]
    if len(found) != series_count:
        return PixelSize(), ()
    image, wanted = found[series]
    names = tuple(c.get("Name", "") for c in wanted if _is(c, "Channel"))
    size = replace(_pixel_size(wanted), magnification=_magnification(root, image))
    return size, names if all(names) else ()


def _is(element: ET.Element, name: str) -> bool:
    return element.tag.rpartition("}")[2] == name


def _magnification(root: ET.Element, image: ET.Element) -> float | None:
    """Give the nominal magnification of the objective of an image, where it names one."""
    wanted = next((s.get("ID") for s in image if _is(s, "ObjectiveSettings")), None)
    for objective in root.iter():
        if _is(objective, "Objective") and wanted and objective.get("ID") == wanted:
            try:
                times = float(objective.get("NominalMagnification", "nan"))
            except ValueError:
                return None
            return times if math.isfinite(times) and times > 0 else None
    return None


def _pixel_size(pixels: ET.Element) -> PixelSize:
    lengths, units = {}, {}
    for axis in "zyx":
        text = pixels.get(f"PhysicalSize{axis.upper()}")
        if text is None:
            continue
        # the schema on PhysicalSizeXUnit: its default is the micrometre
        units[axis] = pixels.get(f"PhysicalSize{axis.upper()}Unit", "um")
        try:
            lengths[axis] = float(text)
        except ValueError:
            lengths[axis] = math.nan
    return from_lengths(lengths, units, "OME-XML")
