"""JPEG: the header by its markers, the pixels by way of imagecodecs.

Pillow reads headers, too, but none of 12 bits per sample. The markers are walked in any case: a
file that is cut short is found by the end mark behind its first scan.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.values import dataclass
from bmz.image.decoding import decoding
from bmz.image.faults import ImageEmpty, ImageTooLarge, ImageTruncated, ImageUnreadable
from bmz.image.info import Header, PixelSize
from bmz.image.pixel_size import from_resolution

# ITU-T T.81, table B.1: codes of markers
_MARK = 0xFF  # every marker starts with it
_END, _SCAN = 0xD9, 0xDA
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # not DHT, JPG, DAC
_BARE = frozenset(range(0xD0, 0xD9)) | {0x01}  # RSTm, SOI and TEM have no length
_JFIF, _EXIF = 0xE0, 0xE1  # APP0, APP1
_NAMES = {_JFIF: b"JFIF\0", _EXIF: b"Exif\0\0"}  # others, such as XMP, use the same markers

_EIGHT = 8  # bits per sample
_GREY, _COLOUR = 1, 3  # components of a frame
_UNITS = {1: "inch", 2: "cm"}  # JFIF 1.02, units of the densities
_ORIENTATION = 0x0112  # Exif 2.32, 4.6.4
_ORIENTATIONS = range(1, 9)  # cameras write 0 when they do not know it
_UPRIGHT = 1

LOSSY: Final = "JPEG compression has altered its intensities, for good"


@dataclass(frozen=True)
class _Markers:
    """What the markers before the first scan say.

    Parameters
    ----------
    frame : bits per sample, height, width, components
    jfif, exif : content of these segments, empty without one
    scan : where the first scan starts in the file
    """

    frame: tuple[int, int, int, int]
    jfif: bytes
    exif: bytes
    scan: int


def jpeg_header(path: Path) -> Header:
    """Read width, height and number of components.

    Exif's orientation is not applied but remarked upon: ImageJ shows pixels as they are stored,
    and a label mask lies on that grid.

    Raises
    ------
    ImageUnreadable, ImageTruncated, ImageEmpty
        The markers are not sound, or the colours are those of a printer (CMYK).
    """
    with decoding(path, "JPEG"):
        markers = _markers(path, path.read_bytes())
        bits, height, width, components = markers.frame
        turn = _orientation(markers.exif)
        pixel = _pixel_size(markers.jfif)
    if not height * width:
        raise ImageEmpty(path, (height, width))
    dtype = np.dtype(np.uint8 if bits <= _EIGHT else np.uint16)
    remarks = (LOSSY,) if turn == _UPRIGHT else (LOSSY, _turned(turn))
    if components == _GREY:
        return Header("yx", (height, width), dtype, pixel, remarks=remarks)
    if components != _COLOUR:
        raise ImageUnreadable(path, f"has {components} colour components; wanted grey or RGB")
    shape = (height, width, _COLOUR)
    return Header("yxc", shape, dtype, pixel, colour=True, remarks=remarks)


def jpeg_pixels(path: Path) -> AnyArray:
    """Read the pixels as (y, x) or (y, x, 3), as they are stored.

    Raises
    ------
    ImageUnreadable, ImageTruncated, ImageTooLarge
        They cannot be had.
    """
    with decoding(path, "JPEG"):
        content = path.read_bytes()
        markers = _markers(path, content)
        # libjpeg fills what is missing with grey and says nothing
        if content.find(bytes((_MARK, _END)), markers.scan) < 0:
            raise ImageTruncated(path, f"no end mark within {len(content)} bytes")
        import imagecodecs  # here: it takes time, and a header does without it

        try:
            pixels: AnyArray = imagecodecs.jpeg_decode(content, bitspersample=markers.frame[0])
        except MemoryError as why:
            raise ImageTooLarge(path, markers.frame[1:3]) from why
    return pixels


def _markers(path: Path, content: bytes) -> _Markers:
    frame: tuple[int, int, int, int] | None = None
    segments = {_JFIF: b"", _EXIF: b""}
    start = 2  # after SOI
    while start + 4 <= len(content):
        if content[start] != _MARK:
            raise ImageUnreadable(path, f"is a damaged JPEG file: no marker at byte {start}")
        code = content[start + 1]
        if code in _BARE or code == _MARK:  # which may pad a marker
            start += 1 if code not in _BARE else 2
            continue
        end = start + 2 + int.from_bytes(content[start + 2 : start + 4], "big")
        body = content[start + 4 : end]
        if code in _FRAMES:
            frame = struct.unpack(">BHHB", body[:6])
        elif code in segments and body.startswith(_NAMES[code]):
            segments[code] = segments[code] or body
        elif code in (_SCAN, _END):
            break
        start = end
    else:
        raise ImageTruncated(path, f"no picture within {len(content)} bytes")
    if frame is None:
        raise ImageUnreadable(path, "is a damaged JPEG file: no frame before its picture")
    return _Markers(frame, segments[_JFIF], segments[_EXIF], start)


def _pixel_size(jfif: bytes) -> PixelSize:
    try:
        unit, x, y = struct.unpack_from(">BHH", jfif, 7)
    except struct.error:
        return PixelSize()  # it ends before its densities
    return from_resolution({"y": y, "x": x}, _UNITS.get(unit, ""), "JFIF")


def _orientation(exif: bytes) -> int:
    """Read Exif's orientation, 1 to 8; upright where there is none."""
    tiff = exif[6:]
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return _UPRIGHT
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for i in range(count):
            tag, _kind, _n, value = struct.unpack_from(f"{order}HHIH", tiff, start + 2 + 12 * i)
            if tag == _ORIENTATION:
                return int(value) if value in _ORIENTATIONS else _UPRIGHT
    except struct.error:
        pass  # damaged Exif alters no pixel
    return _UPRIGHT


def _turned(orientation: int) -> str:
    return (
        f"its Exif orientation {orientation} is not applied: some programs show it turned or "
        "mirrored, bmz and ImageJ do not"
    )
