"""Strips and tiles of TIFF that are whole, where their decoders do not ask.

Those of JPEG, JPEG XR and LZW give pixels for a stream that is cut short: the first two make up the
rest, the last one reads zeros for the end of its last code.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from tifffile import TiffPage, TiffPageSeries

_LZW, _LZW_END = 5, 257  # numbers of a compression and of its end mark
_JPEGS = frozenset({7, 33007, 34892})
_JPEG_XRS = frozenset({22610, 34934})
_SCAN, _END = b"\xff\xda", b"\xff\xd9"  # ITU-T T.81, table B.1
_PLACE, _LENGTH = 0xBCC0, 0xBCC1  # ITU-T T.832, annex A: of the picture in a file
_LONG = 4  # type of a number of 32 bits


class SegmentCutShort(ValueError):  # noqa: N818  (the words of a decoder, told by `decoding`)
    """A strip or tile gives fewer pixels than it must."""

    def __init__(self, index: int, why: str) -> None:
        super().__init__(f"strip or tile {index} ended before its time: {why}")


def look_at_segments(series: TiffPageSeries) -> None:
    """Let every strip or tile of `series` be looked at when it is decoded.

    The look raises `SegmentCutShort`.
    """
    keys = (page.keyframe for page in series.pages if page is not None)
    for key in {id(key): key for key in keys if key is not None}.values():
        # tifffile keeps what decodes a page with the page, and has no argument for it
        key.__dict__["decode"] = _looking(key, key.decode)


def _looking(key: TiffPage, decode: Callable[..., Any]) -> Callable[..., Any]:
    def looked_at(data: bytes | None, index: int, /, **given: Any) -> Any:  # noqa: ANN401
        if data is None:  # none is stored: a sparse file
            return decode(data, index, **given)
        if key.compression in _JPEGS and not given.get("jpegheader"):
            _refuse_endless_jpeg(data, index)
        if key.compression in _JPEG_XRS and (end := _end_of_jpeg_xr(data)) > len(data):
            raise SegmentCutShort(index, f"{end} bytes wanted, {len(data)} found")
        found = decode(data, index, **given)
        if key.compression == _LZW and not _has_lzw_end(data):
            # bits behind its end must not matter
            others = (decode(data + more * 3, index, **given) for more in (b"\0", b"\xff"))
            if not all(np.array_equal(found[0], other[0]) for other in others):
                raise SegmentCutShort(index, "its last code is not whole")
        return found

    return looked_at


def _refuse_endless_jpeg(data: bytes, index: int) -> None:
    if data.rfind(_END) < data.rfind(_SCAN):  # a decoder would make up what is missing
        raise SegmentCutShort(index, "its JPEG has no end mark")


def _has_lzw_end(data: bytes) -> bool:
    """Tell whether a stream ends with its end mark, as those of most writers do.

    Source: TIFF 6.0, section 13: codes of 9 to 12 bits, the last byte filled up with zeros.
    """
    tail = int.from_bytes(data[-3:], "big")
    unused = (bits for bits in range(8) if not tail & ((1 << bits) - 1))
    return any(
        (tail >> bits) & ((1 << width) - 1) == _LZW_END for bits in unused for width in range(9, 13)
    )


def _end_of_jpeg_xr(data: bytes) -> int:
    """Give where the picture ends in a file of JPEG XR, 0 where the file does not say."""
    if not data.startswith(b"II\xbc") or len(data) < 8:  # noqa: PLR2004  (the header)
        return 0
    found = {_PLACE: 0, _LENGTH: 0}
    (start,) = struct.unpack_from("<L", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for number in range(count):
        tag, kind, _, value = struct.unpack_from("<HHLL", data, start + 2 + 12 * number)
        if tag in found and kind == _LONG:
            found[tag] = value
    return sum(found.values()) if found[_LENGTH] else 0
