"""Reading of PNG and JPEG files: headers and pixels, with checks of transparency."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.values import dataclass
from bmz.image.decoding import decoding
from bmz.image.faults import ImageEmpty, ImageTooLarge, ImageTruncated, ImageUnreadable, Transparent
from bmz.image.info import Header, PixelSize
from bmz.image.pixel_size import from_resolution


def without_alpha(path: Path, pixels: AnyArray, *, axis: int) -> AnyArray:
    """Remove the alpha channel, the last entry along `axis`, if it is constant.

    Parameters
    ----------
    path : path of the file, for the error message
    pixels : pixels with samples along `axis`, the last of which is alpha
    axis : axis of the samples

    Raises
    ------
    Transparent
        Alpha varies: without it, colours would appear that were meant to be hidden.
    """
    alpha = np.take(pixels, -1, axis)
    low, high = float(alpha.min()), float(alpha.max())
    if low != high:
        raise Transparent(path, low, high)
    rest = range(pixels.shape[axis] - 1)
    return pixels[(slice(None),) * axis + (slice(rest.start, rest.stop),)]


# PNG specification, third edition, 11.2.1 IHDR: colour types
_GREY, _PALETTE = 0, 3
_COLOUR = (2, _PALETTE, 6)
_COUNTS_WITH_ALPHA = (2, 4)  # samples of a decoded pixel: a damaged tRNS chunk brings none
_SIGNATURE_BYTES = 8
_DEEP = 16  # bits per sample
_WANTED = (b"IHDR", b"PLTE", b"tRNS", b"pHYs")
_METRE = 1  # 11.3.4.3 pHYs: unit specifier


@dataclass(frozen=True)
class _Chunk:
    """One chunk: its name, its content (empty if not needed), and its range in the file."""

    name: bytes
    content: bytes
    start: int
    end: int


def png_header(path: Path) -> Header:
    """Read width, height, bit depth and colour type of a PNG; 1, 2 and 4 bits count as 8.

    Raises
    ------
    ImageUnreadable, ImageTruncated, ImageEmpty
        The chunks are damaged or incomplete, or the image has no pixels.
    """
    with decoding(path, "PNG"), path.open("rb") as file:
        chunks = _by_name(_chunks(path, file))
        width, height, bits, kind = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    if not width * height:
        raise ImageEmpty(path, (height, width))
    colour = kind in _COLOUR and not _grey_palette(chunks)
    dtype = np.dtype(np.uint16 if bits == _DEEP else np.uint8)
    pixel = _size_in_chunk(chunks.get(b"pHYs", b""))
    if colour:
        return Header("yxc", (height, width, 3), dtype, pixel, colour=True)
    return Header("yx", (height, width), dtype, pixel)


def png_pixels(path: Path) -> AnyArray:
    """Read the pixels as (y, x) or (y, x, 3), with palettes applied and without alpha.

    Raises
    ------
    ImageUnreadable, ImageTruncated, ImageTooLarge, Transparent
        The pixels cannot be read.
    """
    with decoding(path, "PNG"), path.open("rb") as file:
        chunks = _chunks(path, file)
        header = _by_name(chunks)
        import imagecodecs  # here: it imports slowly, and reading a header does not need it

        try:
            pixels: AnyArray = imagecodecs.png_decode(_essence(file, chunks))
        except MemoryError as why:
            sides = struct.unpack(">II", header[b"IHDR"][:8])
            raise ImageTooLarge(path, sides[::-1]) from why
    if pixels.ndim == len("yxc") and pixels.shape[2] in _COUNTS_WITH_ALPHA:
        pixels = without_alpha(path, pixels, axis=2)
    grey = pixels.ndim == len("yxc") and (pixels.shape[2] == 1 or _grey_palette(header))
    return pixels[..., 0] if grey else pixels


def png_palette_numbers(path: Path) -> AnyArray | None:
    """Return the palette indices of a PNG; None if it has no palette.

    Palette indices are stored like grey values, so the file is decoded as a grey image.

    Returns
    -------
    (y, x) uint8

    Raises
    ------
    ImageUnreadable, ImageTruncated, ImageTooLarge
        The pixels cannot be read.
    """
    with decoding(path, "PNG"), path.open("rb") as file:
        chunks = _chunks(path, file)
        header = _by_name(chunks)[b"IHDR"]
        if header[9] != _PALETTE:
            return None
        grey = b"IHDR" + header[:9] + bytes((_GREY,)) + header[10:]
        pixels = [chunk for chunk in chunks if chunk.name in (b"IDAT", b"IEND")]
        head = len(header).to_bytes(4, "big") + grey + zlib.crc32(grey).to_bytes(4, "big")
        content = _essence(file, pixels)
        import imagecodecs  # as above

        try:
            numbers: AnyArray = imagecodecs.png_decode(
                content[:_SIGNATURE_BYTES] + head + content[_SIGNATURE_BYTES:]
            )
        except MemoryError as why:
            raise ImageTooLarge(path, struct.unpack(">II", header[:8])[::-1]) from why
    flat = numbers[..., 0] if numbers.ndim == len("yxc") else numbers
    # the decoder scales lower bit depths to 8 bits, so that 1 of 1 bit is 255
    return flat // np.uint8(255 // (2 ** header[8] - 1))


def _chunks(path: Path, file: BinaryIO) -> list[_Chunk]:
    size = file.seek(0, 2)
    start = file.seek(_SIGNATURE_BYTES)
    chunks: list[_Chunk] = []
    while start + 8 <= size:
        length, name = struct.unpack(">I4s", file.read(8))
        end = start + 12 + length
        if not name.isalpha():
            raise ImageUnreadable(path, f"is a damaged PNG file: no chunk at byte {start}")
        if end > size:
            break
        content = file.read(length) if name in _WANTED else b""
        if content and zlib.crc32(name + content) != int.from_bytes(file.read(4), "big"):
            raise ImageUnreadable(path, f"is a damaged PNG file: bad checksum at byte {start}")
        chunks.append(_Chunk(name, content, start, end))
        start = file.seek(end)
        if name == b"IEND":
            _check_order(path, [chunk.name for chunk in chunks])
            return chunks
    raise ImageTruncated(path, f"no end mark within {size} bytes")


def _check_order(path: Path, names: list[bytes]) -> None:
    # PNG specification, third edition, 5.6: required chunks
    if names[0] != b"IHDR" or names.count(b"IHDR") > 1:
        reason = "IHDR must be its first chunk, and only that"
    elif b"IDAT" not in names:
        reason = "it has no image data (IDAT)"
    else:
        return
    raise ImageUnreadable(path, f"is a damaged PNG file: {reason}")


def _by_name(chunks: list[_Chunk]) -> dict[bytes, bytes]:
    return {chunk.name: chunk.content for chunk in chunks if chunk.name in _WANTED}


def _essence(file: BinaryIO, chunks: list[_Chunk]) -> bytes:
    # libpng prints warnings about colour profiles, times and texts, which do not affect pixels
    file.seek(0)
    parts = [file.read(_SIGNATURE_BYTES)]
    for chunk in chunks:
        if chunk.name in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            file.seek(chunk.start)
            parts.append(file.read(chunk.end - chunk.start))
    return b"".join(parts)


def _grey_palette(chunks: dict[bytes, bytes]) -> bool:
    palette = chunks.get(b"PLTE", b"")
    of_palette = chunks[b"IHDR"][9] == _PALETTE
    return of_palette and palette[0::3] == palette[1::3] == palette[2::3]


def _size_in_chunk(chunk: bytes) -> PixelSize:
    if len(chunk) != struct.calcsize(">IIB") or chunk[-1] != _METRE:
        return PixelSize()
    x, y = struct.unpack(">II", chunk[:8])
    return from_resolution({"y": y, "x": x}, "m", "PNG pHYs")


# ITU-T T.81, table B.1: codes of markers
_MARK = 0xFF  # every marker starts with it
_END, _SCAN = 0xD9, 0xDA
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # not DHT, JPG, DAC
_BARE = frozenset(range(0xD0, 0xD9)) | {0x01}  # RSTm, SOI and TEM have no length
_JFIF, _EXIF = 0xE0, 0xE1  # APP0, APP1
_NAMES = {_JFIF: b"JFIF\0", _EXIF: b"Exif\0\0"}  # others, such as XMP, use the same markers

_EIGHT = 8  # bits per sample
_ONE_COMPONENT, _THREE_COMPONENTS = 1, 3  # components of a frame
_UNITS = {1: "inch", 2: "cm"}  # JFIF 1.02, units of the densities
_ORIENTATION = 0x0112  # Exif 2.32, 4.6.4
_ORIENTATIONS = range(1, 9)  # cameras write 0 when they do not know it
_UPRIGHT = 1

LOSSY: Final = "JPEG compression has permanently altered its intensities"


@dataclass(frozen=True)
class _Markers:
    """The metadata in the markers before the first scan.

    Parameters
    ----------
    frame : bits per sample, height, width, components
    jfif, exif : content of these segments; empty if there is none
    scan : position of the first scan in the file
    """

    frame: tuple[int, int, int, int]
    jfif: bytes
    exif: bytes
    scan: int


def jpeg_header(path: Path) -> Header:
    """Read width, height and number of components.

    The Exif orientation is not applied but mentioned in a remark: ImageJ shows pixels as they are
    stored, and label masks use that grid.

    Raises
    ------
    ImageUnreadable, ImageTruncated, ImageEmpty
        The markers are damaged, the image has no pixels, or its colours are CMYK.
    """
    with decoding(path, "JPEG"):
        markers = _markers(path, path.read_bytes())
        bits, height, width, components = markers.frame
        turn = _orientation(markers.exif)
        pixel = _size_in_marker(markers.jfif)
    if not height * width:
        raise ImageEmpty(path, (height, width))
    dtype = np.dtype(np.uint8 if bits <= _EIGHT else np.uint16)
    remarks = (LOSSY,) if turn == _UPRIGHT else (LOSSY, _turned(turn))
    if components == _ONE_COMPONENT:
        return Header("yx", (height, width), dtype, pixel, remarks=remarks)
    if components != _THREE_COMPONENTS:
        raise ImageUnreadable(path, f"has {components} colour components; wanted grey or RGB")
    shape = (height, width, _THREE_COMPONENTS)
    return Header("yxc", shape, dtype, pixel, colour=True, remarks=remarks)


def jpeg_pixels(path: Path) -> AnyArray:
    """Read the pixels as (y, x) or (y, x, 3), as they are stored.

    Raises
    ------
    ImageUnreadable, ImageTruncated, ImageTooLarge
        The pixels cannot be read.
    """
    with decoding(path, "JPEG"):
        content = path.read_bytes()
        markers = _markers(path, content)
        # libjpeg fills missing data with grey without an error
        if content.find(bytes((_MARK, _END)), markers.scan) < 0:
            raise ImageTruncated(path, f"no end mark within {len(content)} bytes")
        import imagecodecs  # here: it imports slowly, and reading a header does not need it

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
        if code in _BARE or code == _MARK:  # 0xFF bytes may pad a marker
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


def _size_in_marker(jfif: bytes) -> PixelSize:
    try:
        unit, x, y = struct.unpack_from(">BHH", jfif, 7)
    except struct.error:
        return PixelSize()  # the segment ends before the densities
    return from_resolution({"y": y, "x": x}, _UNITS.get(unit, ""), "JFIF")


def _orientation(exif: bytes) -> int:
    """Read the Exif orientation, 1 to 8; 1 (upright) if there is none."""
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
        pass  # damaged Exif does not affect pixels
    return _UPRIGHT


def _turned(orientation: int) -> str:
    return (
        f"its Exif orientation {orientation} is not applied: some programs show it rotated or "
        "mirrored; bmz and ImageJ do not"
    )
