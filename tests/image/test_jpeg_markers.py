"""The markers of a JPEG are walked one by one; none is taken for another."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bmz.image.faults import ImageTooLarge, ImageTruncated, ImageUnreadable
from bmz.image.inspect import inspect_image
from bmz.image.pictures import LOSSY
from bmz.image.region import read_image

PLANE = np.full((8, 16), 90, np.uint8)
START, AFTER_JFIF = 2, 20
"""Bytes before JFIF's segment, and after it: two of SOI, eighteen of APP0."""


def segment(code: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, code, len(body) + 2) + body


def jfif(unit: int, x: int, y: int) -> bytes:
    return segment(0xE0, b"JFIF\0" + struct.pack(">HBHHBB", 0x0102, unit, x, y, 0, 0))


def exif(orientation: int, order: str = "<") -> bytes:
    mark = b"II" if order == "<" else b"MM"
    entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    other = struct.pack(f"{order}HHII", 0x0100, 4, 1, 16)
    tiff = mark + struct.pack(f"{order}HIH", 42, 8, 2) + other + entry + bytes(4)
    return segment(0xE1, b"Exif\0\0" + tiff)


def with_segments(path: Path, *more: bytes, keep_jfif: bool = False) -> Path:
    """Write a grey picture with `more` in place of its JFIF segment, or after that."""
    Image.fromarray(PLANE).save(path, format="JPEG")
    raw = path.read_bytes()
    assert raw[START:AFTER_JFIF].startswith(b"\xff\xe0\0\x10JFIF\0")
    head = raw[:AFTER_JFIF] if keep_jfif else raw[:START]
    path.write_bytes(head + b"".join(more) + raw[AFTER_JFIF:])
    return path


XMP = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>")
JFXX = segment(0xE0, b"JFXX\0\x10")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_each_turn_is_remarked_by_its_number_in_either_byte_order(
    tmp_path: Path, orientation: int, order: str
) -> None:
    info = inspect_image(with_segments(tmp_path / "a.jpg", exif(orientation, order)))

    turned = (
        f"its Exif orientation {orientation} is not applied: some programs show it rotated or "
        "mirrored; bmz and ImageJ do not"
    )
    assert info.remarks == (LOSSY, turned)


@pytest.mark.parametrize("orientation", [0, 1, 9, 4660])
def test_an_upright_picture_and_one_of_no_known_turn_bring_no_remark(
    tmp_path: Path, orientation: int
) -> None:
    info = inspect_image(with_segments(tmp_path / "a.jpg", exif(orientation)))

    assert info.remarks == (LOSSY,)


def test_xmp_in_front_does_not_hide_exif(tmp_path: Path) -> None:
    info = inspect_image(with_segments(tmp_path / "a.jpg", XMP, exif(6)))

    assert "Exif orientation 6" in info.remarks[1]


def test_an_extension_in_front_does_not_hide_the_density(tmp_path: Path) -> None:
    info = inspect_image(with_segments(tmp_path / "a.jpg", JFXX, jfif(2, 20_000, 20_000)))

    assert info.pixel_um == pytest.approx({"y": 0.5, "x": 0.5})


def test_the_first_density_counts(tmp_path: Path) -> None:
    path = with_segments(tmp_path / "a.jpg", jfif(2, 20_000, 10_000), jfif(2, 5, 5))

    assert inspect_image(path).pixel_um == pytest.approx({"y": 1.0, "x": 0.5})


@pytest.mark.parametrize(
    ("unit", "per_unit", "um", "odd"),
    [
        (0, 20_000, {}, ()),
        (1, 25_400, {"y": 1.0, "x": 1.0}, ()),
        (2, 20_000, {"y": 0.5, "x": 0.5}, ()),
        (3, 20_000, {}, ()),
        (1, 0, {}, ("y: inf inch", "x: inf inch")),
        (1, 300, {}, ("y: 0.00333 inch (300 dpi)", "x: 0.00333 inch (300 dpi)")),
    ],
)
def test_a_density_counts_by_its_unit(
    tmp_path: Path, unit: int, per_unit: int, um: dict[str, float], odd: tuple[str, ...]
) -> None:
    info = inspect_image(with_segments(tmp_path / "a.jpg", jfif(unit, per_unit, per_unit)))

    assert info.pixel_um == pytest.approx(um)
    assert (info.odd_pixel, info.pixel_from) == (odd, "JFIF" if um else "")


def test_a_density_that_is_cut_short_is_none(tmp_path: Path) -> None:
    short = segment(0xE0, b"JFIF\0\1\2\2\x4e\x20\x4e")

    assert inspect_image(with_segments(tmp_path / "a.jpg", short)).pixel_um == {}


@pytest.mark.parametrize(
    "body",
    [b"Exif\0\0", b"Exif\0\0II*\0", b"Exif\0\0II*\0\xff\xff\0\0", b"Exif\0\0XX*\0\x08\0\0\0"],
)
def test_damaged_exif_alters_no_pixel(tmp_path: Path, body: bytes) -> None:
    path = with_segments(tmp_path / "a.jpg", segment(0xE1, body), keep_jfif=True)

    info = inspect_image(path)

    assert info.remarks == (LOSSY,)
    assert read_image(info).shape == (8, 16)


def test_markers_may_be_padded(tmp_path: Path) -> None:
    path = with_segments(tmp_path / "a.jpg", b"\xff\xff\xff", jfif(2, 20_000, 20_000))

    assert inspect_image(path).pixel_um == pytest.approx({"y": 0.5, "x": 0.5})


def test_markers_without_a_length_have_none(tmp_path: Path) -> None:
    path = with_segments(tmp_path / "a.jpg", b"\xff\x01\xff\xd0", jfif(2, 20_000, 20_000))

    assert inspect_image(path).pixel_um == pytest.approx({"y": 0.5, "x": 0.5})


def test_what_is_no_marker_is_told_by_its_place(tmp_path: Path) -> None:
    path = with_segments(tmp_path / "a.jpg", segment(0xFE, b"text") + b"?")

    with pytest.raises(ImageUnreadable) as caught:
        inspect_image(path)

    # two bytes of SOI, eight of the comment
    assert caught.value.message == f"'{path}' is a damaged JPEG file: no marker at byte 10"


@pytest.mark.parametrize("end", [b"\xff\xd9\0\0", segment(0xDA, b"\1")])
def test_a_picture_without_a_frame_is_told(tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\xff\xd8" + segment(0xFE, b"text") + end)

    with pytest.raises(ImageUnreadable, match="no frame before its picture"):
        inspect_image(path)


def test_segments_that_never_reach_a_picture_are_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\xff\xd8" + segment(0xFE, b"text"))

    with pytest.raises(ImageTruncated) as caught:
        inspect_image(path)

    assert caught.value.message == f"'{path}' ends too early: no picture within 10 bytes"


def test_an_end_mark_before_the_picture_does_not_make_it_whole(tmp_path: Path) -> None:
    thumbnail = segment(0xE2, b"\xff\xd8 a small picture \xff\xd9")
    path = with_segments(tmp_path / "a.jpg", thumbnail)
    path.write_bytes(path.read_bytes()[:-2])
    info = inspect_image(path)

    with pytest.raises(ImageTruncated) as caught:
        read_image(info)

    size = path.stat().st_size
    assert caught.value.message == f"'{path}' ends too early: no end mark within {size} bytes"


def test_pixels_that_do_not_fit_into_memory_are_told_height_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    info = inspect_image(with_segments(tmp_path / "a.jpg"))
    monkeypatch.setattr("imagecodecs.jpeg_decode", full)

    with pytest.raises(ImageTooLarge, match="does not fit into memory: 8 x 16 pixels"):
        read_image(info)
