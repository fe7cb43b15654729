"""What a user is told of an image that cannot be had: the words, the code, the next step."""

from __future__ import annotations

import errno
import logging
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.image.regions import read_region

from bmz.base.axes import IMAGE_AXES
from bmz.base.errors import BmzError
from bmz.image.decoding import decoding
from bmz.image.faults import (
    AxesRefused,
    AxesUnknown,
    CutShort,
    FormatUnknown,
    ImageTruncated,
    ImageUnreadable,
    RegionRefused,
    not_a_file_of,
)
from bmz.image.formats import image_suffix
from bmz.image.inspect import inspect_image
from bmz.image.known_formats import FORMATS, suffixes
from bmz.image.pixels import pixel_um_of
from bmz.image.readers import READERS
from bmz.image.region import open_image, read_image

A = Path("a.tif")


def fault_of(error: Exception) -> BmzError:
    with pytest.raises(BmzError) as caught, decoding(A, "TIFF"):
        raise error
    return caught.value


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("odd\n  tag"), "is a damaged TIFF file: odd tag"),
        (zlib.error("incorrect header"), "is a damaged TIFF file: incorrect header"),
        (MemoryError(), "is a damaged TIFF file: it has no image"),
        (OSError("not a gzip file"), "is a damaged TIFF file: not a gzip file"),
        (ValueError("<tifffile.TiffPage 3 @8> odd"), "is a damaged TIFF file: odd"),
        (ValueError("TiffFileError('no page')"), "is a damaged TIFF file: no page"),
        (struct.error("No data left in file"), "ends too early: No data left in file"),
        (EOFError("EOF reached"), "ends too early: EOF reached"),
        (CutShort("any words"), "ends too early: any words"),
    ],
)
def test_what_a_decoder_raises_is_told_in_one_line(error: Exception, told: str) -> None:
    assert fault_of(error).message == f"'a.tif' {told}"


def test_what_the_system_refuses_is_told_in_its_words_and_not_called_damage() -> None:
    found = fault_of(OSError(errno.EIO, "Input/output error"))

    assert found.message == "cannot read 'a.tif': Input/output error"
    assert found.code == "image.permission"


@pytest.mark.parametrize(("length", "shown"), [(120, "x" * 120), (121, "x" * 117 + "...")])
def test_words_of_a_decoder_are_cut_where_a_terminal_ends(length: int, shown: str) -> None:
    assert fault_of(ValueError("x" * length)).message.endswith(f": {shown}")


@pytest.mark.parametrize("mine", [KeyboardInterrupt(), ImageUnreadable(A, "is refused")])
def test_what_is_not_of_the_decoder_passes_as_it_is(mine: BaseException) -> None:
    with pytest.raises(type(mine)) as caught, decoding(A, "TIFF"):
        raise mine

    assert caught.value is mine


@pytest.mark.parametrize(
    ("remark", "kind"),
    [
        ("<tifffile.TiffPages @8> invalid page offset 99", ImageTruncated),
        ("ImageJ series metadata missing frames; missing data", ImageTruncated),
        ("OME series contains no pages", ImageUnreadable),
        ("TiffTag 273 @24 raised invalid value offset 999", ImageTruncated),
    ],
)
def test_a_remark_that_spoils_the_image_is_an_error_though_nothing_was_raised(
    remark: str, kind: type[BmzError]
) -> None:
    with pytest.raises(kind), decoding(A, "TIFF"):
        logging.getLogger("tifffile").warning(remark)


@pytest.mark.parametrize(
    ("level", "remark"),
    [
        (logging.WARNING, "TiffTag 305 @24 has an odd value"),
        (logging.INFO, "OME series contains no pages"),
    ],
)
def test_a_remark_that_spoils_nothing_is_heard_by_nobody(
    level: int, remark: str, caplog: pytest.LogCaptureFixture
) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with decoding(A, "TIFF"):
            logging.getLogger("tifffile").log(level, remark)
            warnings.warn("odd", stacklevel=1)

    assert not caplog.records
    assert not warned
    assert not logging.getLogger("tifffile").filters


@pytest.mark.parametrize(
    ("format_name", "head", "told"),
    [
        ("TIFF", b"\xff\xd8\xff\xe0", "a TIFF file: it is a JPEG picture"),
        ("NPY", b"PK\x03\x04", "an NPY file: it is a ZIP archive"),
        ("PNG", b"GIF89a", "a PNG file: it is a GIF picture"),
        ("TIFF", b"hello\nworld", "a TIFF file: it starts with 'hello...'"),
        ("TIFF", b"0123456789abcdefgh", "a TIFF file: it starts with '0123456789abcdef...'"),
        ("TIFF", bytes(range(1, 12)), "a TIFF file: it starts with 01 02 03 04 05 06 07 08"),
        ("TIFF", b"caf\xe9", "a TIFF file: it starts with 63 61 66 e9"),
    ],
)
def test_another_content_is_called_by_name_else_shown(
    format_name: str, head: bytes, told: str
) -> None:
    assert not_a_file_of(A, format_name, head).message == f"'a.tif' is not {told}"


def test_every_format_that_is_told_has_a_reader_and_endings_of_its_own() -> None:
    endings = [suffix for one in FORMATS.values() for suffix in one.suffixes]

    assert set(FORMATS) == set(READERS)
    assert len(endings) == len(set(endings))
    assert all(image_suffix(Path(f"a{ending}")) == ending for ending in suffixes())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.xyz", "cannot read '.xyz' files ('a.xyz')"),
        ("README", "cannot read files of this kind ('README')"),
        ("a.CZI", "cannot read 'a.CZI': it does not start like a '.CZI' file"),
    ],
)
def test_an_unknown_format_is_told_by_its_ending(name: str, message: str) -> None:
    assert FormatUnknown(Path(name)).message == message


@pytest.mark.parametrize(
    ("axes", "example"),
    [
        ("qyx", "zyx"), ("qqyx", "czyx"), ("qqqqq", "tczyx"), ("cqyx", "czyx"), ("zqyx", "zcyx"),
        ("qzq", "yzx"), ("qy", "xy"), ("q", ""), ("yxqqqq", ""), ("tcz", ""),
    ],
)  # fmt: skip
def test_unnamed_axes_are_filled_from_the_last_with_letters_that_are_free(
    axes: str, example: str
) -> None:
    error = AxesUnknown(A, axes, range(2, 2 + len(axes)))

    asked = f"name them in this order, for example --axes {example}"
    save = "an image has the axes y and x, and at most one each of t, c and z: save it in this form"
    assert error.hint == (asked if example else save)


@given(axes=st.lists(st.sampled_from(["q", "q", *IMAGE_AXES]), min_size=2, max_size=6))
def test_an_example_for_axes_is_one_that_would_be_taken(axes: list[str]) -> None:
    named_once = [a for i, a in enumerate(axes) if a == "q" or a not in axes[:i]]

    hint = AxesUnknown(A, "".join(named_once), [5] * len(named_once)).hint

    example = hint.partition("--axes ")[2]
    if example:
        assert len(example) == len(named_once) == len(set(example))
        assert {"y", "x"} <= set(example) <= set(IMAGE_AXES)
        assert all(a in ("q", b) for a, b in zip(named_once, example, strict=True))


def test_words_for_axes_that_are_no_words_are_shown_as_such() -> None:
    assert AxesRefused(A, "", "'y' is missing").message.startswith("--axes '' does not fit")


@pytest.fixture
def plane(tmp_path: Path) -> Path:
    np.save(tmp_path / "a.npy", np.arange(20, dtype=np.uint16).reshape(4, 5))
    return tmp_path / "a.npy"


@pytest.mark.parametrize(
    "now", [np.zeros((5, 4), np.uint16), np.zeros((4, 5), np.int16), np.zeros((2, 2, 5), np.uint16)]
)
def test_a_file_of_as_many_other_pixels_is_never_taken_for_the_one_looked_at(
    plane: Path, now: np.ndarray[tuple[int, ...], np.dtype[np.generic]]
) -> None:
    info = inspect_image(plane)
    np.save(plane, now)

    with pytest.raises(ImageUnreadable) as whole:
        read_image(info)
    with pytest.raises(ImageUnreadable) as part:
        read_region(info, {"y": slice(0, 1)})

    told = f"'{plane}' has changed since it was inspected"
    assert (whole.value.message, part.value.message) == (told, told)


@pytest.mark.parametrize(
    ("slices", "message"),
    [
        ({"z": slice(0, 1), "c": slice(1)}, "has no region z=0:1, c=:1: it has no axis c"),
        ({"y": slice(3, 2)}, "has no region y=3:2: it contains no pixel along y, which has 4"),
        ({"x": slice(5, 9)}, "has no region x=5:9: it contains no pixel along x, which has 5"),
        ({"x": slice(None, None, -1)}, "has no region x=::-1: axis x has a step"),
    ],
)
def test_a_region_that_is_none_is_repeated_with_the_reason(
    plane: Path, slices: dict[str, slice], message: str
) -> None:
    info = inspect_image(plane)

    with open_image(info) as image, pytest.raises(RegionRefused) as caught:
        image.region(slices)

    assert caught.value.message == f"'{plane}' {message}"


def test_a_region_may_reach_beyond_the_image_as_slices_of_numpy_do(plane: Path) -> None:
    region = read_region(inspect_image(plane), {"y": slice(-1, 99), "x": slice(-99, 2)})

    assert region.array.tolist() == [[15, 16]]


@settings(max_examples=30)
@given(
    um=st.dictionaries(st.sampled_from("zyx"), st.floats(1e-3, 1e3)),
    sizes=st.tuples(*[st.integers(1, 9)] * 3),
    first=st.dictionaries(st.sampled_from("zyx"), st.integers(0, 10_000)),
)
def test_the_length_of_a_pixel_is_read_back_from_the_coordinates_wherever_they_start(
    um: dict[str, float], sizes: tuple[int, ...], first: dict[str, int]
) -> None:
    coords = {
        axis: (axis, (first.get(axis, 0) + np.arange(size)) * um[axis], {"pixel_um": um[axis]})
        for axis, size in zip("zyx", sizes, strict=True)
        if axis in um
    }
    image = xr.DataArray(np.zeros(sizes), dims=("z", "y", "x"), coords=coords)

    assert pixel_um_of(image) == pytest.approx(um)
