"""Pixel sizes as stated by OME-XML, TIFF and ImageJ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from xml.etree import ElementTree as ET

from bmz.base.axes import UM_PER_UNIT, um_per
from bmz.image.info import PixelSize

_DPI_OF_DEVICES = (
    1, 72, 75, 90, 92, 96, 100, 120, 144, 150, 180, 192, 200, 220, 240, 266, 300, 350, 360, 400,
    450, 500, 600, 720, 800, 900, 1200, 1440, 2400,
)  # fmt: skip
"""Dots per inch that programs write for screens, printers and desktop scanners.

Higher values are left out, since pixels below 10 um may well be those of a microscope.
"""

_LARGEST_PLAIN_UM = 1000.0
"""Pixels above a millimetre in a plain resolution tag are never those of a microscope."""

_MOST_ANISOTROPY = 10.0
"""Maximum ratio between the pixel sizes along x and y of one camera."""


def from_resolution(per_unit: Mapping[str, float], unit: str, source: str) -> PixelSize:
    """Return the pixel size from a plain resolution, such as that of a TIFF or PNG file.

    Values that are typical of screens and printers count as implausible.

    Parameters
    ----------
    per_unit : pixels per `unit` along y, x
    unit : unit of length, such as ``inch``; with any other unit, the pixel size is unknown
    source : source to name in the result
    """
    factor = um_per(unit)
    if factor is None:
        return PixelSize()
    lengths = {axis: _inverse(value) for axis, value in per_unit.items()}
    odd = {a: why for a, n in lengths.items() if (why := _device(a, n, unit))}
    # none are `impossible`, since a plain resolution is not a measurement
    rest = {a: n for a, n in lengths.items() if a not in odd}
    judged = from_lengths(rest, dict.fromkeys(rest, unit), source)
    return PixelSize(judged.um, judged.source, (*odd.values(), *judged.odd))


def from_imagej(
    metadata: Mapping[str, object], per_unit: Mapping[str, float], source: str = "ImageJ"
) -> PixelSize:
    """Return the pixel size from ImageJ's metadata and resolution tags.

    Source: ImageJ 1.54, ``ij.io.FileOpener.decodeDescriptionString`` and ``ij.io.TiffEncoder``:
    the tags hold pixels per unit, ``spacing`` the distance of slices in the same unit.

    Parameters
    ----------
    metadata : ImageJ's description, with ``unit``, ``yunit``, ``zunit`` and ``spacing``
    per_unit : pixels per unit along y, x from the tags; either may be missing
    source : source to name in the result
    """
    unit = str(metadata.get("unit", ""))
    units = {
        "x": unit,
        "y": str(metadata.get("yunit", unit)),
        "z": str(metadata.get("zunit", unit)),
    }
    if um_per(unit) == UM_PER_UNIT["inch"]:
        # ImageJ keeps the dots per inch of an ordinary picture as its scale
        plain = from_resolution(per_unit, unit, source)
        return plain if plain.odd or "spacing" not in metadata else _with_z(plain, metadata, units)
    lengths = {axis: _inverse(value) for axis, value in per_unit.items()}
    if "spacing" in metadata:
        lengths["z"] = _number(metadata["spacing"])
    return from_lengths(lengths, units, source)


def from_lengths(lengths: Mapping[str, float], units: Mapping[str, str], source: str) -> PixelSize:
    """Return the pixel size in um from lengths with units, separating implausible values.

    Parameters
    ----------
    lengths : axis -> length of a pixel, in the unit of that axis
    units : axis -> unit; one that is not a length (``pixel``) leaves the axis unknown
    source : source to name in the result
    """
    um: dict[str, float] = {}
    odd: dict[str, str] = {}
    for axis in (a for a in "zyx" if a in lengths):
        factor = um_per(units[axis])
        if factor is None:
            continue
        value = lengths[axis] * factor
        if math.isfinite(value) and value > 0:
            um[axis] = value
        else:
            odd[axis] = f"{axis}: {lengths[axis]:g} {units[axis]}"
    if _too_different(um):
        odd["y"] = f"y: {um.pop('y'):.4g} um and x: {um.pop('x'):.4g} um differ too much"
    return PixelSize(um, source if um else "", tuple(odd.values()), odd)


def _with_z(
    plain: PixelSize, metadata: Mapping[str, object], units: Mapping[str, str]
) -> PixelSize:
    z = from_lengths({"z": _number(metadata["spacing"])}, units, plain.source)
    return PixelSize({**z.um, **plain.um}, plain.source or z.source, (*plain.odd, *z.odd))


def _device(axis: str, length: float, unit: str) -> str:
    um = length * (um_per(unit) or math.nan)
    if not (math.isfinite(um) and um > 0):
        return ""  # `from_lengths` judges it
    dpi = UM_PER_UNIT["inch"] / um
    known = any(math.isclose(dpi, n, rel_tol=2e-3) for n in _DPI_OF_DEVICES)
    return f"{axis}: {length:.3g} {unit} ({dpi:.4g} dpi)" if known or um > _LARGEST_PLAIN_UM else ""


def _too_different(um: Mapping[str, float]) -> bool:
    if not {"x", "y"} <= um.keys():
        return False
    ratio = um["x"] / um["y"]
    return not 1 / _MOST_ANISOTROPY <= ratio <= _MOST_ANISOTROPY


def _inverse(per_unit: float) -> float:
    return 1 / per_unit if per_unit else math.inf


def _number(value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        return math.nan


def xml_root(xml: str) -> ET.Element:
    """Parse XML.

    Raises
    ------
    ParseError
        The text is not XML, or declares entities, which can make a short text fill the memory.
    """
    if declares_entities(xml):
        raise ET.ParseError("it declares entities")
    return ET.fromstring(xml)  # noqa: S314  (it declares no entities)


def declares_entities(xml: str) -> bool:
    """Return whether `xml` declares its own entities, which can exhaust the memory of a parser.

    OME-XML has a schema and needs no document type declaration.
    """
    upper = xml.upper()
    return "<!DOCTYPE" in upper or "<!ENTITY" in upper


def read_ome(xml: str, series: int, series_count: int) -> tuple[PixelSize, tuple[str, ...]]:
    """Return the pixel size and channel names of image number `series`.

    Both are unknown if the XML describes another number of images than the file contains, since
    then the numbers do not correspond.

    Source: OME schema 2016-06, ``Pixels``, ``Channel``, ``ObjectiveSettings`` and ``Objective``.

    Parameters
    ----------
    xml : OME-XML that declares no entities
    series, series_count : index of the image, and number of images in the file

    Returns
    -------
    PixelSize, tuple of str
        the names are empty unless every channel has one
    """
    try:
        root = xml_root(xml)
    except ET.ParseError:
        return PixelSize(), ()
    elements = [(i, p) for i in root if _is(i, "Image") for p in i if _is(p, "Pixels")]
    if len(elements) != series_count:
        return PixelSize(), ()
    image, pixels = elements[series]
    names = tuple(c.get("Name", "") for c in pixels if _is(c, "Channel"))
    size = replace(_pixel_size(pixels), magnification=_magnification(root, image))
    return size, names if all(names) else ()


def well_of(xml: str, series: int) -> str:
    """Return the name of the well in which image number `series` was taken, such as ``B3``.

    Source: OME schema 2016-06, ``Plate``, ``Well`` and ``WellSample``: rows and columns are counted
    from 0; rows are named by letters and columns by numbers from 1, unless the plate states other
    conventions.

    Parameters
    ----------
    xml : OME-XML; text that is not XML, or declares entities, names no well
    series : number of the image

    Returns
    -------
    str
        name of the well; empty if the XML names none
    """
    if "WellSample" not in xml:  # avoids parsing, since most images are not part of a plate
        return ""
    try:
        root = xml_root(xml)
    except ET.ParseError:
        return ""
    image = next(islice((i.get("ID") for i in root if _is(i, "Image")), series, None), None)
    for plate in (e for e in root if image and _is(e, "Plate")):
        for well in (e for e in plate if _is(e, "Well")):
            if any(_is(e, "ImageRef") and e.get("ID") == image for e in well.iter()):
                return _well_name(plate, well)
    return ""


_LETTERS = 26


def _well_name(plate: ET.Element, well: ET.Element) -> str:
    name = ""
    for side, usual in (("Row", "letter"), ("Column", "number")):
        text = well.get(side, "")
        if not text.isdecimal():
            return ""
        number = int(text) + 1
        if plate.get(f"{side}NamingConvention", usual) == "number":
            name += str(number)
            continue
        letters = ""
        while number:
            number, letter = divmod(number - 1, _LETTERS)
            letters = chr(ord("A") + letter) + letters
        name += letters
    return name


def _is(element: ET.Element, name: str) -> bool:
    return element.tag.rpartition("}")[2] == name


def _magnification(root: ET.Element, image: ET.Element) -> float | None:
    """Return the nominal magnification of the objective of an image; None if it names none."""
    number = next((s.get("ID") for s in image if _is(s, "ObjectiveSettings")), None)
    for objective in root.iter():
        if _is(objective, "Objective") and number and objective.get("ID") == number:
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
