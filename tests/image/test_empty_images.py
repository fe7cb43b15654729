"""Images of no pixels, and headers that are cut short, are told as what they are."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bmz.base.errors import BmzError
from bmz.image.faults import ImageEmpty, ImageUnreadable, SeriesOutOfRange
from bmz.image.inspect import inspect_image


def chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def png(*chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


HEADER = struct.pack(">IIBBBBB", 0, 5, 8, 0, 0, 0, 0)


def test_a_png_of_no_width_is_empty(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(
        png(chunk(b"IHDR", HEADER), chunk(b"IDAT", b""), chunk(b"IEND", b""))
    )

    with pytest.raises(ImageEmpty):
        inspect_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    "content",
    [
        png(chunk(b"IHDR", HEADER[:4])),
        png(chunk(b"IHDR", HEADER), chunk(b"1DAT", b"")),
        png(chunk(b"IHDR", HEADER)[:-2] + b"xx"),
        png(),
    ],
    ids=["short-header", "no-name", "checksum", "nothing"],
)
def test_a_png_whose_chunks_are_not_sound_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)

    with pytest.raises(BmzError) as raised:
        inspect_image(tmp_path / "a.png")

    assert "a.png" in raised.value.message


def test_a_jpeg_of_no_height_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    data = path.read_bytes()
    at = data.index(b"\xff\xc0")
    path.write_bytes(data[: at + 5] + b"\0\0" + data[at + 7 :])

    with pytest.raises(ImageEmpty):
        inspect_image(path)


def test_a_jpeg_without_a_frame_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0\0\x04\0\0\xff\xd9")

    with pytest.raises(BmzError, match=r"a\.jpg"):
        inspect_image(tmp_path / "a.jpg")


def test_a_format_of_one_image_has_no_second(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 4), np.uint8))

    with pytest.raises(SeriesOutOfRange):
        inspect_image(tmp_path / "a.npy", series=1)


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"ome": "text"}, "'ome' is not an object"),
        ({"ome": {"version": "0.5", "bioformats2raw.layout": 3}}, "all of its images"),
        (
            {"ome": {"version": "0.5", "multiscales": [{"axes": [], "datasets": []}]}},
            r"a\.ome\.zarr",
        ),
    ],
    ids=["ome", "layout", "axes"],
)
def test_an_ome_zarr_that_is_damaged_is_told(
    attributes: dict[str, object], words: str, tmp_path: Path
) -> None:
    folder = tmp_path / "a.ome.zarr"
    folder.mkdir()
    node = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    (folder / "zarr.json").write_text(json.dumps(node))

    with pytest.raises(ImageUnreadable, match=words):
        inspect_image(folder)


def test_a_listed_image_that_is_not_there_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "a.ome.zarr"
    for place, attributes in (
        (folder, {"ome": {"version": "0.5", "bioformats2raw.layout": 3}}),
        (folder / "OME", {"ome": {"version": "0.5", "series": ["7"]}}),
    ):
        place.mkdir()
        node = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        (place / "zarr.json").write_text(json.dumps(node))

    with pytest.raises(ImageUnreadable, match="its image '7' is missing"):
        inspect_image(folder)
