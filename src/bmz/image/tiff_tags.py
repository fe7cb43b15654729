"""TIFF metadata about pixels: those of microscope vendors, palettes, and white stored as 0."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
from tifffile import TiffFile, TiffPage, TiffPageSeries

from bmz.base.arrays import AnyArray
from bmz.base.axes import Box
from bmz.image.info import PixelSize
from bmz.image.npy import Stored
from bmz.image.pixel_size import declares_entities, from_lengths, xml_root

_NO_IMAGES = re.compile(r"(thumbnail|label|macro|overview|preview)( image)?", re.IGNORECASE)
"""Names, in tifffile and OME-XML of Bio-Formats, of additional pictures of a slide scanner."""

_SCANNERS = ("svs", "qpi", "ndpi", "scn", "bif", "avs", "philips", "indica")


def images_of(tif: TiffFile) -> list[int]:
    """Return the indices of the series that are images.

    Thumbnails, labels and overviews of a slide do not count, nor do copies that are marked as
    reduced (TIFF 6.0, NewSubfileType), unless the file contains nothing else.
    """
    numbers = range(len(tif.series))
    return [n for n in numbers if not _is_small_picture(tif.series[n])] or list(numbers)


def small_pictures(tif: TiffFile) -> tuple[str, ...]:
    """Return a remark that lists the series that are not images; empty if all are."""
    images = images_of(tif)
    names = [
        (picture.name.lower() or "reduced copy") + f" ({' x '.join(map(str, picture.shape))})"
        for number, picture in enumerate(tif.series)
        if number not in images
    ]
    return (
        (f"it also contains pictures that are not images of their own: {', '.join(names)}",)
        if names
        else ()
    )


def _is_small_picture(series: TiffPageSeries) -> bool:
    named = _NO_IMAGES.fullmatch(series.name or "")
    by_writer = series.kind in _SCANNERS or (series.name or "").lower().endswith(" image")
    return bool((named and by_writer) or series.keyframe.is_reduced)


def maker_words(tif: TiffFile, page: TiffPage) -> tuple[PixelSize, tuple[str, ...]]:
    """Return the pixel size and channel names from vendor-specific metadata.

    Both are unknown if the file is from none of `MAKERS`. Malformed metadata are ignored.
    """
    for reader in MAKERS.values():
        try:
            size, names = reader(tif, page)
        except (TypeError, ValueError, AttributeError, LookupError, ET.ParseError):
            continue  # the image can be read without vendor metadata
        if size.um or size.odd or names:
            return size, names
    return PixelSize(), ()


_Words = tuple[PixelSize, tuple[str, ...]]
_NOTHING: _Words = PixelSize(), ()


def _lengths(stated: Mapping[str, Any], unit: str, source: str) -> PixelSize:
    # vendors write 0 for unknown values
    lengths = {axis: float(value) for axis, value in stated.items() if value and float(value) > 0}
    return from_lengths(lengths, dict.fromkeys(lengths, unit), source)


def _lsm(tif: TiffFile, _: TiffPage) -> _Words:
    words = tif.lsm_metadata
    if not words:
        return _NOTHING
    names = (words.get("ChannelColors") or {}).get("ColorNames") or ()
    size = _lengths({a: words.get(f"VoxelSize{a.upper()}") for a in "zyx"}, "m", "LSM")
    return size, tuple(str(name) for name in names)


def _aperio(_: TiffFile, page: TiffPage) -> _Words:
    text = page.description
    if not text.startswith("Aperio"):
        return _NOTHING
    words = dict(re.findall(r"\|\s*(\w+)\s*=\s*([\d.]+)", text))
    size = _lengths(dict.fromkeys("yx", words.get("MPP")), "um", "Aperio")
    return replace(size, magnification=_positive(words.get("AppMag"))), ()


def _perkin_elmer(tif: TiffFile, _: TiffPage) -> _Words:
    if not tif.is_qpi:
        return _NOTHING
    names = []
    for page in tif.series[0].pages:
        text = getattr(page, "description", "")
        if not text.lstrip().startswith("<") or declares_entities(text):
            return _NOTHING
        names.append(xml_root(text).findtext("Name") or "")
    return PixelSize(), tuple(names) if all(names) else ()


def _fei(tif: TiffFile, _: TiffPage) -> _Words:
    words = tif.fei_metadata or {}
    for part in ("Scan", "EScan", "IScan"):
        if "PixelWidth" in words.get(part, {}):
            lengths = {"x": words[part]["PixelWidth"], "y": words[part].get("PixelHeight")}
            return _lengths(lengths, "m", "FEI"), ()
    return _NOTHING


def _zeiss_sem(tif: TiffFile, _: TiffPage) -> _Words:
    words = tif.sem_metadata or {}
    for key in ("ap_image_pixel_size", "ap_pixel_size"):
        if key in words:
            _, value, unit = words[key]
            return _lengths({"y": value, "x": value}, str(unit), "Zeiss SEM"), ()
    return _NOTHING


_DM_UNITS, _DM_SCALES = {"x": 65003, "y": 65004, "z": 65005}, {"x": 65009, "y": 65010, "z": 65011}


def _digital_micrograph(_: TiffFile, page: TiffPage) -> _Words:
    # tags of Gatan's DigitalMicrograph: units of the axes, and the pixel size in these units
    scales = {a: page.tags.valueof(code) for a, code in _DM_SCALES.items()}
    units = {a: str(page.tags.valueof(code) or "") for a, code in _DM_UNITS.items()}
    known = {a: float(n) for a, n in scales.items() if n and units[a]}
    return from_lengths(known, units, "DigitalMicrograph"), ()


def _metamorph(tif: TiffFile, _: TiffPage) -> _Words:
    plane = (tif.metaseries_metadata or {}).get("PlaneInfo", {})
    if plane.get("spatial-calibration-state"):
        lengths = {a: plane.get(f"spatial-calibration-{a}") for a in "yx"}
        return _lengths(lengths, str(plane.get("spatial-calibration-units", "")), "MetaMorph"), ()
    stack = tif.stk_metadata or {}
    if stack.get("SpatialCalibration"):
        lengths = {a: stack.get(f"{a.upper()}Calibration") for a in "yx"}
        return _lengths(lengths, str(stack.get("CalibrationUnits", "")), "MetaMorph"), ()
    return _NOTHING


def _micro_manager(tif: TiffFile, page: TiffPage) -> _Words:
    plane = page.tags.valueof("MicroManagerMetadata")
    plane = plane if isinstance(plane, Mapping) else {}
    summary = (tif.micromanager_metadata or {}).get("Summary") if tif.is_micromanager else None
    summary = summary if isinstance(summary, Mapping) else {}
    across = plane.get("PixelSizeUm") or summary.get("PixelSize_um")
    names = summary.get("ChNames") or ()
    names = tuple(map(str, names)) if isinstance(names, list | tuple) else ()
    lengths = {"z": summary.get("z-step_um"), "y": across, "x": across}
    return _lengths(lengths, "um", "Micro-Manager"), names


def _fluoview(tif: TiffFile, _: TiffPage) -> _Words:
    axes = (tif.fluoview_metadata or {}).get("Dimensions", ())
    lengths = {str(axis[0]).strip().lower(): (axis[3], str(axis[4])) for axis in axes}
    known = {a: float(lengths[a][0]) for a in "zyx" if a in lengths and lengths[a][0] > 0}
    return from_lengths(known, {a: lengths[a][1] for a in known}, "FluoView"), ()


def _olympus_sis(tif: TiffFile, _: TiffPage) -> _Words:
    words = tif.sis_metadata or {}
    lengths = {a: words.get(f"pixelsize{a}") for a in "yx"}
    size = _lengths(lengths, "m", "Olympus")
    return replace(size, magnification=_positive(words.get("magnification"))), ()


def _tvips(tif: TiffFile, _: TiffPage) -> _Words:
    words = tif.tvips_metadata or {}
    return _lengths({a: words.get(f"PixelSize{a.upper()}") for a in "yx"}, "nm", "TVIPS"), ()


def _philips(tif: TiffFile, page: TiffPage) -> _Words:
    text = page.description
    if not tif.is_philips or declares_entities(text):
        return _NOTHING
    for attribute in xml_root(text).iter("Attribute"):
        if attribute.get("Name") == "DICOM_PIXEL_SPACING":
            down, across = (attribute.text or "").replace('"', " ").split()
            return _lengths({"y": down, "x": across}, "mm", "Philips"), ()
    return _NOTHING


def _ventana(_: TiffFile, page: TiffPage) -> _Words:
    text = page.tags.valueof("XMP")
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text or "")
    match = re.search(r"\bScanRes=\"([\d.]+)\"", text)
    return (_lengths(dict.fromkeys("yx", match[1]), "um", "Ventana") if match else PixelSize()), ()


MAKERS: Mapping[str, Callable[[TiffFile, TiffPage], _Words]] = {
    "Zeiss LSM": _lsm,
    "Aperio": _aperio,
    "PerkinElmer QPTIFF": _perkin_elmer,
    "FEI": _fei,
    "Zeiss SEM": _zeiss_sem,
    "DigitalMicrograph": _digital_micrograph,
    "MetaMorph": _metamorph,
    "Micro-Manager": _micro_manager,
    "FluoView": _fluoview,
    "Olympus SIS": _olympus_sis,
    "TVIPS": _tvips,
    "Philips": _philips,
    "Ventana": _ventana,
}
"""Vendor format -> reader of its metadata; the first result that is not empty is used."""


def _positive(value: object) -> float | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if number > 0 else None


WHITE_IS_ZERO, INDEXED = 0, 3
"""TIFF 6.0, PhotometricInterpretation."""

_BYTE = 256
_LUMA = (0.299, 0.587, 0.114)
"""Rec. ITU-R BT.601: weights of red, green and blue in luma."""

_MICROSCOPES = ("lsm", "imagej", "ome", "stk", "fluoview", "micromanager", "mmstack", "nih")
"""Flags in tifffile of formats whose palettes are lookup tables for intensities."""


def lut_of(tif: TiffFile, series: TiffPageSeries) -> AnyArray | None:
    """Return the colours of an image that stores palette indices; None if it stores intensities.

    A palette of increasing brightness is a lookup table for intensities, as is any palette that
    was written by microscopy software.

    Returns
    -------
    (n, 3) uint8, or (n,) if every colour is grey
    """
    page = series.keyframe
    if page.photometric != INDEXED or page.colormap is None or tif.flags & set(_MICROSCOPES):
        return None
    colours = np.asarray(page.colormap).T
    # 16-bit values (TIFF 6.0, ColorMap), but some writers store 8-bit values
    colours = (colours if colours.max() < _BYTE else colours // (_BYTE + 1)).astype(np.uint8)
    if np.all(np.diff(colours @ np.array(_LUMA)) >= 0):
        return None
    grey = np.all(colours == colours[:, :1])
    lut: AnyArray = colours[:, 0] if grey else colours
    return lut


def as_shown(stored: Stored, tif: TiffFile, series: TiffPageSeries) -> Stored:
    """Apply palettes and inversion to regions of an image; return `stored` if there are none."""
    lut = lut_of(tif, series)
    if lut is not None:
        return _Coloured(stored, lut)
    return _Inverted(stored) if _is_inverted(series) else stored


def stored_otherwise(series: TiffPageSeries) -> tuple[str, ...]:
    """Return a remark if white is stored as 0; otherwise nothing."""
    return ("white is stored as 0: intensities are inverted",) if _is_inverted(series) else ()


def _is_inverted(series: TiffPageSeries) -> bool:
    return series.keyframe.photometric == WHITE_IS_ZERO and series.dtype.kind in "bu"


class _Coloured:
    """Regions of an image with a palette, converted to colours."""

    def __init__(self, stored: Stored, lut: AnyArray) -> None:
        self._stored, self._lut = stored, lut
        self.shape: tuple[int, ...] = (*stored.shape, *lut.shape[1:])
        self.dtype: np.dtype[Any] = lut.dtype

    def __getitem__(self, box: Box, /) -> AnyArray:
        inner = len(self._stored.shape)
        colours = self._lut[np.asarray(self._stored[box[:inner]])]
        return np.asarray(colours[..., *box[inner:]])


class _Inverted:
    """Regions of an image that stores white as 0, with inverted values."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self.shape: tuple[int, ...] = tuple(stored.shape)
        self.dtype: np.dtype[Any] = np.dtype(stored.dtype).newbyteorder("=")

    def __getitem__(self, box: Box, /) -> AnyArray:
        inverted: AnyArray = np.invert(np.asarray(self._stored[box]).astype(self.dtype, copy=False))
        return inverted
