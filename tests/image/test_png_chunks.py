"""What the chunks of a PNG say is obeyed: depth, colours, transparency, and the pixel size."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.image.test_empty_images import chunk, png

from bmz.image.faults import ImageTooLarge, ImageTruncated, ImageUnreadable, Transparent
from bmz.image.inspect import inspect_image
from bmz.image.region import read_image

GREY, RGB, PALETTE, GREY_ALPHA = 0, 2, 3, 4
END = chunk(b"IEND", b"")


def header(width: int, height: int, bits: int, kind: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))


def rows(*packed: bytes) -> bytes:
    """Give the image data of packed rows, none of them filtered."""
    return chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in packed)))


def saved(path: Path, *chunks: bytes) -> Path:
    path.write_bytes(png(*chunks, END))
    return path


def density(x: int, y: int, unit: int = 1) -> bytes:
    return chunk(b"pHYs", struct.pack(">IIB", x, y, unit))


@pytest.mark.parametrize(
    ("bits", "packed", "values"),
    [
        (1, 0b01000000, [0, 255]),
        (2, 0b00_01_10_11, [0, 85, 170, 255]),
        (4, 0x3F, [51, 255]),
    ],
)
def test_greys_of_a_few_bits_are_spread_over_eight(
    tmp_path: Path, bits: int, packed: int, values: list[int]
) -> None:
    path = saved(
        tmp_path / "a.png", header(len(values), 1, bits, GREY), rows(packed.to_bytes(1, "big"))
    )

    info = inspect_image(path)

    assert (info.axes, info.shape, info.dtype) == ("yx", (1, len(values)), np.dtype("uint8"))
    assert read_image(info).array.tolist() == [values]


@pytest.mark.parametrize("kind", [GREY, GREY_ALPHA])
def test_sixteen_bits_of_grey_are_kept_with_and_without_a_constant_alpha(
    tmp_path: Path, kind: int
) -> None:
    alpha = b"\x80\0" if kind == GREY_ALPHA else b""
    packed = b"\x01\x02" + alpha + b"\xff\xfe" + alpha
    path = saved(tmp_path / "a.png", header(2, 1, 16, kind), rows(packed))

    info = inspect_image(path)

    assert (info.axes, info.dtype) == ("yx", np.dtype("uint16"))
    assert read_image(info).array.tolist() == [[0x0102, 0xFFFE]]


@pytest.mark.parametrize("colour", [[1, 2, 3], [1, 2, 2], [2, 1, 2], [2, 2, 1]])
def test_a_palette_of_colours_gives_the_colours_and_not_their_numbers(
    tmp_path: Path, colour: list[int]
) -> None:
    palette = chunk(b"PLTE", bytes([*colour, 9, 9, 9]))
    path = saved(tmp_path / "a.png", header(1, 2, 1, PALETTE), palette, rows(b"\0", b"\x80"))

    info = inspect_image(path)

    assert (info.axes, info.shape, info.colour) == ("yxc", (2, 1, 3), True)
    assert read_image(info).transposed("yxc").array.tolist() == [[colour], [[9, 9, 9]]]


def test_a_palette_of_greys_with_alpha_that_is_the_same_everywhere_is_grey(tmp_path: Path) -> None:
    palette = chunk(b"PLTE", bytes([10, 10, 10, 200, 200, 200]))
    clear = chunk(b"tRNS", b"\xff\xff")
    path = saved(tmp_path / "a.png", header(2, 1, 1, PALETTE), palette, clear, rows(b"\x40"))

    info = inspect_image(path)

    assert (info.axes, info.colour) == ("yx", False)
    assert read_image(info).array.tolist() == [[10, 200]]


@pytest.mark.parametrize(
    ("kind", "clear", "alike"),
    [
        (GREY, b"\0\x09", True),
        (GREY, b"\0\x05", False),
        (RGB, b"\0\x05\0\x05\0\x06", True),
        (RGB, b"\0\x05\0\x05\0\x05", False),
    ],
)
def test_one_transparent_colour_matters_only_where_a_pixel_has_it(
    tmp_path: Path, kind: int, clear: bytes, *, alike: bool
) -> None:
    samples = 3 if kind == RGB else 1
    packed = b"\x05" * samples + b"\x07" * samples
    path = saved(tmp_path / "a.png", header(2, 1, 8, kind), chunk(b"tRNS", clear), rows(packed))
    info = inspect_image(path)

    if alike:
        assert read_image(info).shape == ((3, 1, 2) if kind == RGB else (1, 2))
    else:
        with pytest.raises(Transparent, match="its alpha channel ranges from 0 to 255"):
            read_image(info)


@pytest.mark.parametrize(
    ("said", "um", "odd"),
    [
        (density(4_000_000, 2_000_000), {"y": 0.5, "x": 0.25}, ()),
        (density(4_000_000, 2_000_000, unit=0), {}, ()),
        (density(0, 2_000_000), {"y": 0.5}, ("x: inf m",)),
        (density(2835, 2835), {}, ("y: 0.000353 m (72.01 dpi)", "x: 0.000353 m (72.01 dpi)")),
        (density(500, 500), {}, ("y: 0.002 m (12.7 dpi)", "x: 0.002 m (12.7 dpi)")),
        (chunk(b"pHYs", struct.pack(">II", 4_000_000, 4_000_000)), {}, ()),
    ],
    ids=["per-metre", "no-unit", "zero", "screen", "too-large", "cut-short"],
)
def test_pixels_a_metre_are_a_pixel_size_where_they_can_be_meant(
    tmp_path: Path, said: bytes, um: dict[str, float], odd: tuple[str, ...]
) -> None:
    path = saved(tmp_path / "a.png", header(1, 1, 8, GREY), said, rows(b"\x05"))

    info = inspect_image(path)

    assert info.pixel_um == pytest.approx(um)
    assert info.odd_pixel == odd
    assert info.pixel_from == ("PNG pHYs" if um else "")


def test_a_chunk_whose_checksum_is_wrong_is_told_by_its_place(tmp_path: Path) -> None:
    spoilt = density(4_000_000, 4_000_000)[:-1] + b"?"
    path = saved(tmp_path / "a.png", header(1, 1, 8, GREY), spoilt, rows(b"\x05"))

    with pytest.raises(ImageUnreadable) as caught:
        inspect_image(path)

    # 8 bytes of signature, and 25 of the header
    assert caught.value.message == f"'{path}' is a damaged PNG file: bad checksum at byte 33"


def test_what_is_no_chunk_is_told_by_its_place(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", header(1, 1, 8, GREY), chunk(b"a1cd", b""))

    with pytest.raises(ImageUnreadable) as caught:
        inspect_image(path)

    assert caught.value.message == f"'{path}' is a damaged PNG file: no chunk at byte 33"


IMAGE = rows(b"\x05")
COMPRESSED = zlib.compress(b"\0\x05")


@pytest.mark.parametrize(
    "chunks",
    [
        (header(1, 1, 8, GREY), rows(b"\x05", b"\x06", b"\x07")),
        (header(1, 1, 8, GREY), chunk(b"IDAT", COMPRESSED + b"more")),
        (header(1, 1, 8, GREY), chunk(b"PLTE", b"abc"), IMAGE),
        (header(1, 1, 8, GREY), chunk(b"tRNS", b"four"), IMAGE),
    ],
    ids=["rows-too-many", "bytes-too-many", "palette-of-greys", "transparency-of-no-sense"],
)
def test_what_libpng_remarks_of_sound_pixels_does_not_reach_the_terminal(
    chunks: tuple[bytes, ...],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = saved(tmp_path / "a.png", *chunks)
    monkeypatch.setattr("logging.root.handlers", [])  # as in a program that sets up no logging

    pixels = read_image(inspect_image(path)).array

    assert pixels.tolist() == [[5]]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        ((header(1, 1, 7, GREY), IMAGE), "Invalid bit depth in IHDR"),
        ((header(1, 1, 8, GREY),), "it has no image data (IDAT)"),
        ((header(1, 1, 8, GREY), header(1, 1, 8, GREY), IMAGE), "IHDR must be its first chunk"),
        ((IMAGE, header(1, 1, 8, GREY)), "IHDR must be its first chunk"),
        ((header(1, 1, 8, GREY), chunk(b"IDAT", COMPRESSED[:-2] + b"xx")), "incorrect data check"),
    ],
    ids=["bits", "no-data", "two-headers", "late-header", "data"],
)
def test_damage_to_a_png_is_told_once_and_in_a_sentence(
    chunks: tuple[bytes, ...],
    reason: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = saved(tmp_path / "a.png", *chunks)
    monkeypatch.setattr("logging.root.handlers", [])

    with pytest.raises(ImageUnreadable) as caught:
        read_image(inspect_image(path))

    assert caught.value.message.startswith(f"'{path}' is a damaged PNG file: ")
    assert reason in caught.value.message
    assert "warning" not in caught.value.message
    assert capfd.readouterr() == ("", "")


def test_chunks_after_the_end_mark_are_nobodys_business(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", header(1, 1, 8, GREY), rows(b"\x05"))
    path.write_bytes(path.read_bytes() + b"\0\0\xff\xff1234")

    assert read_image(inspect_image(path)).array.tolist() == [[5]]


def test_without_an_end_mark_the_file_is_cut_short_and_its_length_told(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(header(1, 1, 8, GREY), rows(b"\x05")))

    with pytest.raises(ImageTruncated) as caught:
        inspect_image(path)

    size = path.stat().st_size
    assert caught.value.message == f"'{path}' ends too early: no end mark within {size} bytes"


def test_pixels_that_do_not_fit_into_memory_are_told_height_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: bytes) -> None:
        raise MemoryError

    path = saved(tmp_path / "a.png", header(3, 2, 8, GREY), rows(b"abc", b"def"))
    info = inspect_image(path)
    monkeypatch.setattr("imagecodecs.png_decode", full)

    with pytest.raises(ImageTooLarge, match="does not fit into memory: 2 x 3 pixels"):
        read_image(info)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    x_um=st.floats(0.05, 9),
    ratio=st.floats(0.11, 1),
    other=st.lists(st.sampled_from([b"tEXt", b"gAMA", b"zzZz"]), max_size=3),
)
def test_a_density_is_read_back_wherever_it_stands(
    tmp_path: Path, x_um: float, ratio: float, other: list[bytes]
) -> None:
    said = density(round(1e6 / x_um), round(1e6 / (x_um * ratio)))
    some = [chunk(name, b"\0\0\xb1\x8f") for name in other]
    path = saved(tmp_path / "a.png", header(1, 1, 8, GREY), *some, said, rows(b"\x05"))

    found = inspect_image(path).pixel_um

    assert found == pytest.approx({"y": x_um * ratio, "x": x_um}, rel=1e-4)
