"""PNG: header, pixels, and what is transparent."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.values import dataclass
from bmz.image.decoding import decoding
from bmz.image.faults import ImageEmpty, ImageTooLarge, ImageTruncated, ImageUnreadable, Transparent
from bmz.image.info import Header, PixelSize
from bmz.image.pixel_size import from_resolution


def without_alpha(path: Path, pixels: AnyArray, *, axis: int) -> AnyArray:
    """Drop the last entry along `axis` when it is the same everywhere.

    Parameters
    ----------
    path : for the error
    pixels : samples, the last of them alpha, along `axis`
    axis : of the samples

    Raises
    ------
    Transparent
        Alpha varies: dropping it would show colours that nobody was meant to see.
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
    """One chunk: its name, its content (empty unless it matters here), its place in the file."""

    name: bytes
    content: bytes
    start: int
    end: int


def png_header(path: Path) -> Header:
    """Read width, height, bit depth and colour type of a PNG; 1, 2, 4 bits count as 8.

    Raises
    ------
    ImageUnreadable, ImageTruncated, ImageEmpty
        The chunks are not sound.
    """
    with decoding(path, "PNG"), path.open("rb") as file:
        chunks = _by_name(_chunks(path, file))
        width, height, bits, kind = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    if not width * height:
        raise ImageEmpty(path, (height, width))
    colour = kind in _COLOUR and not _grey_palette(chunks)
    dtype = np.dtype(np.uint16 if bits == _DEEP else np.uint8)
    pixel = _pixel_size(chunks.get(b"pHYs", b""))
    if colour:
        return Header("yxc", (height, width, 3), dtype, pixel, colour=True)
    return Header("yx", (height, width), dtype, pixel)


def png_pixels(path: Path) -> AnyArray:
    """Read the pixels as (y, x) or (y, x, 3), a palette as its colours, without alpha.

    Raises
    ------
    ImageUnreadable, ImageTruncated, ImageTooLarge, Transparent
        They cannot be had.
    """
    with decoding(path, "PNG"), path.open("rb") as file:
        chunks = _chunks(path, file)
        header = _by_name(chunks)
        import imagecodecs  # here: it takes time, and a header does without it

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
    """Read the numbers of the colours of a PNG with a palette; None where it has none.

    The pixels of a palette are stored as those of a grey image are: the file is decoded as one.

    Returns
    -------
    (y, x) uint8

    Raises
    ------
    ImageUnreadable, ImageTruncated, ImageTooLarge
        They cannot be had.
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
    # fewer bits are stretched to 8, so that 1 of 1 bit is 255
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
    # PNG specification, third edition, 5.6: chunks that every file has
    if names[0] != b"IHDR" or names.count(b"IHDR") > 1:
        reason = "IHDR must be its first chunk, and no other chunk"
    elif b"IDAT" not in names:
        reason = "it has no image data (IDAT)"
    else:
        return
    raise ImageUnreadable(path, f"is a damaged PNG file: {reason}")


def _by_name(chunks: list[_Chunk]) -> dict[bytes, bytes]:
    return {chunk.name: chunk.content for chunk in chunks if chunk.name in _WANTED}


def _essence(file: BinaryIO, chunks: list[_Chunk]) -> bytes:
    # libpng prints remarks about colour profiles, times and texts, none of which alter a pixel
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


def _pixel_size(chunk: bytes) -> PixelSize:
    if len(chunk) != struct.calcsize(">IIB") or chunk[-1] != _METRE:
        return PixelSize()
    x, y = struct.unpack(">II", chunk[:8])
    return from_resolution({"y": y, "x": x}, "m", "PNG pHYs")
