from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError, CouldNotTell
from bmz.image.faults import ImageTruncated
from bmz.image.inspect import inspect_image
from bmz.image.region import read_image
from bmz.image.series import plate_fields

PIXELS = np.random.default_rng(0).integers(0, 200, (2, 3, 20, 24)).astype(np.uint16)
WORDS = {"axes": "ZCYX"}


def load(path: Path) -> AnyArray:
    info = inspect_image(path)
    if "q" in info.axes:
        info = inspect_image(path, axes="tczyx"[-len(info.axes) :])
    return np.asarray(read_image(info))


def code_of(path: Path) -> str:
    with pytest.raises(CouldNotTell) as caught:
        load(path)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value.code


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("sound")
    tiffs: dict[str, dict[str, Any]] = {
        "plain.tif": {},
        "lzw.tif": {"compression": "lzw", "metadata": None},
        "imagej.tif": {"imagej": True, "metadata": WORDS},
        "imagej-zlib.tif": {"imagej": True, "metadata": WORDS, "compression": "zlib"},
        "ome.ome.tif": {"ome": True, "metadata": WORDS},
        "tiles.ome.tif": {"ome": True, "metadata": WORDS, "compression": "zlib", "tile": (16, 16)},
        "big.tif": {"bigtiff": True, "compression": "zstd", "metadata": None},
    }
    for name, options in tiffs.items():
        tifffile.imwrite(folder / name, PIXELS, photometric="minisblack", **options)
    Image.fromarray(PIXELS[0, 0].astype(np.uint8)).save(folder / "a.png")
    np.save(folder / "a.npy", PIXELS)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(data=st.data())
def test_a_file_cut_anywhere_is_an_error_or_whole(
    tmp_path: Path, sound: dict[str, bytes], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(sound)))
    keep = data.draw(st.integers(0, len(sound[name]) - 1))
    whole, cut = tmp_path / f"whole-{name}", tmp_path / name
    whole.write_bytes(sound[name])
    cut.write_bytes(sound[name][:keep])

    try:
        found = load(cut)
    except CouldNotTell:
        return

    assert np.array_equal(found, load(whole))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=250)
@given(data=st.data())
def test_flipped_bytes_end_in_an_image_or_in_one_of_our_errors(
    tmp_path: Path, sound: dict[str, bytes], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(sound)))
    raw = bytearray(sound[name])
    place = st.integers(0, min(600, len(raw) - 1)) | st.integers(0, len(raw) - 1)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(place)] = data.draw(st.integers(0, 255))
    (tmp_path / name).write_bytes(raw)

    try:
        load(tmp_path / name)
    except BmzError as error:
        assert "\n" not in error.message  # noqa: PT017  (any of our errors will do)


@pytest.mark.parametrize("name", ["x.tif", "x.tiff", "x.ome.tif", "x.png", "x.npy", "X.TIF"])
def test_a_text_file_under_the_name_of_an_image_is_called_by_its_content(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    path.write_text("hello world, this is not an image\nat all")

    with pytest.raises(CouldNotTell, match=r"file: it starts with 'hello world, thi\.\.\.'") as e:
        inspect_image(path)

    assert (e.value.code, e.value.exit_status) == ("image.unreadable", 3)


def test_a_jpeg_under_the_name_of_a_tiff_is_called_a_jpeg(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[0, 0].astype(np.uint8)).save(tmp_path / "x.tif", format="JPEG")

    with pytest.raises(CouldNotTell, match="is not a TIFF file: it is a JPEG picture"):
        inspect_image(tmp_path / "x.tif")


@pytest.mark.parametrize("true", [".tif", ".png", ".npy"])
@pytest.mark.parametrize("called", [".tif", ".png", ".npy", ".dat"])
def test_content_decides_about_the_format(tmp_path: Path, true: str, called: str) -> None:
    plane = PIXELS[0, 0].astype(np.uint8)
    path = tmp_path / f"x{true}"
    if true == ".tif":
        tifffile.imwrite(path, plane)
    elif true == ".png":
        Image.fromarray(plane).save(path)
    else:
        np.save(path, plane)

    found = load(path.rename(tmp_path / f"x{called}"))

    assert np.array_equal(found, plane)


def test_an_unknown_kind_of_file_is_told_which_are_known(tmp_path: Path) -> None:
    (tmp_path / "x.lif").write_bytes(b"p\0\0\0stuff")

    with pytest.raises(CouldNotTell, match=r"does not start like a '\.lif' file") as caught:
        inspect_image(tmp_path / "x.lif")

    assert caught.value.code == "image.format"
    for ending in (".ome.tif", ".ome.tiff", ".tif", ".tiff", ".png", ".npy"):
        assert ending in caught.value.hint


def test_a_missing_file_brings_a_near_name_to_mind(tmp_path: Path) -> None:
    (tmp_path / "cells.tif").touch()

    with pytest.raises(CouldNotTell) as caught:
        inspect_image(tmp_path / "cell.tif")

    assert caught.value.code == "image.not-found"
    assert "did you mean" in caught.value.hint
    assert code_of(tmp_path / "nowhere" / "a.tif") == "image.not-found"


def test_folders_and_empty_files_have_words_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "folder.tif").mkdir()
    (tmp_path / "empty.tif").touch()
    np.save(tmp_path / "none.npy", np.zeros((0, 5)))
    np.save(tmp_path / "one.npy", np.float32(1))

    assert code_of(tmp_path / "folder.tif") == "image.folder"
    assert code_of(tmp_path / "empty.tif") == "image.empty"
    assert code_of(tmp_path / "none.npy") == "image.empty"
    assert code_of(tmp_path / "one.npy") == "image.unreadable"


def test_a_file_that_may_not_be_read_is_called_forbidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, os.strerror(13))

    (tmp_path / "a.tif").write_bytes(b"II*\0")
    monkeypatch.setattr(Path, "open", refuse)

    assert code_of(tmp_path / "a.tif") == "image.permission"


def test_a_stack_whose_last_pages_are_gone_is_never_a_shorter_stack(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for page in PIXELS[0]:
            tif.write(page, metadata=None, contiguous=False, compression="zlib")
    path.write_bytes(path.read_bytes()[:-900])

    with pytest.raises(ImageTruncated, match="ends too early"):
        inspect_image(path)


def test_planes_that_ome_xml_counts_but_the_file_has_not_are_never_filled_with_zeros(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        path, PIXELS[:, 0], photometric="minisblack", ome=True, metadata={"axes": "ZYX"}
    )
    text = path.read_bytes()
    assert text.count(b'SizeZ="2"') == 1
    path.write_bytes(text.replace(b'SizeZ="2"', b'SizeZ="3"'))

    info = inspect_image(path, axes="zyx")

    assert np.array_equal(np.asarray(read_image(info)), PIXELS[:, 0])
    assert "lists more planes" in info.cautions[0]


@pytest.mark.parametrize("declaration", ["<!DOCTYPE a []>", "<!DOCTYPE a [<!ENTITY b 'c'>]>"])
def test_xml_that_declares_a_document_type_is_refused(tmp_path: Path, declaration: str) -> None:
    path = tmp_path / "a.tif"
    xml = f"<?xml version='1.0'?>{declaration}<OME><Image/></OME>"
    tifffile.imwrite(path, PIXELS[0, 0], description=xml, metadata=None)

    with pytest.raises(CouldNotTell, match="its XML declares a document type") as caught:
        inspect_image(path)

    assert caught.value.code == "image.unreadable"


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_transparency_that_varies_is_said_and_never_dropped(tmp_path: Path, name: str) -> None:
    pixels = np.full((4, 5, 4), 200, np.uint8)
    pixels[0, 0, 3] = 7
    if name == "a.png":
        Image.fromarray(pixels).save(tmp_path / name)
    else:
        tifffile.imwrite(tmp_path / name, pixels, photometric="rgb", extrasamples=["unassalpha"])

    info = inspect_image(tmp_path / name)

    assert info.shape == (4, 5, 3)
    assert code_of(tmp_path / name) == "image.alpha"


def test_remarks_of_the_decoders_reach_nobody(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    texts = PngInfo()
    texts.add(b"iCCP", b"broken profile")
    Image.fromarray(PIXELS[0, 0].astype(np.uint8)).save(tmp_path / "a.png", pnginfo=texts)
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="minisblack", metadata=None)
    (tmp_path / "b.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:400])

    load(tmp_path / "a.png")
    code_of(tmp_path / "b.tif")

    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert not logging.getLogger("tifffile").filters


def test_a_file_that_changed_since_it_was_looked_at_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((4, 5)))
    info = inspect_image(path)
    np.save(path, np.zeros((4, 6)))

    with pytest.raises(CouldNotTell, match="changed since"):
        read_image(info)


@pytest.mark.parametrize(
    ("name", "code"), [("n" * 300, "image.permission"), ("a\0b", "image.not-found")]
)
def test_a_name_that_no_file_can_have_is_told(name: str, code: str) -> None:
    with pytest.raises(CouldNotTell) as caught:
        inspect_image(Path(name))

    assert caught.value.code == code
    assert plate_fields(Path(name)) is None
