"""What makers of microscopes write into TIFF, each in the form that its own program uses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bmz.base.arrays import AnyArray
from bmz.image.faults import PartsMissing
from bmz.image.inspect import inspect_image
from bmz.image.region import open_image, read_image
from bmz.image.series import palette_numbers

GREY = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)
RGB = np.arange(64 * 48 * 3, dtype=np.uint8).reshape(64, 48, 3)


def saved(path: Path, pixels: AnyArray = GREY, **options: Any) -> Path:
    tifffile.imwrite(path, pixels, metadata=None, **options)
    return path


def text_tag(code: int, text: str) -> tuple[int, int, int, str, bool]:
    return (code, 2, 0, text, True)


def lsm(path: Path) -> Path:
    layout = np.dtype(tifffile.TIFF.CZ_LSMINFO).newbyteorder("<")
    info = np.zeros(1, layout)[0]
    words = {
        "MagicNumber": 67127628, "StructureSize": layout.itemsize, "DimensionX": 48,
        "DimensionY": 64, "DimensionZ": 1, "DimensionChannels": 1, "DimensionTime": 1,
        "DataType": 2, "VoxelSizeX": 0.2e-6, "VoxelSizeY": 0.2e-6, "VoxelSizeZ": 1e-6,
    }  # fmt: skip
    for name, value in words.items():
        info[name] = value
    with tifffile.TiffWriter(path, byteorder="<") as file:
        tag = (34412, 1, layout.itemsize, info.tobytes(), True)
        file.write(GREY, metadata=None, extratags=[tag])
        file.write(GREY[::4, ::4], metadata=None, subfiletype=1)
    return path


def aperio(path: Path) -> Path:
    with tifffile.TiffWriter(path) as file:
        words = "Aperio Image Library v11.2.1 \r\n48x64|AppMag = 20|MPP = 0.2"
        file.write(RGB, photometric="rgb", tile=(32, 32), metadata=None, description=words)
        small = "Aperio Image Library v11.2.1 \r\nthumbnail"
        file.write(RGB[::4, ::4], photometric="rgb", metadata=None, description=small)
    return path


def digital_micrograph(path: Path) -> Path:
    units = [text_tag(65003, "nm"), text_tag(65004, "nm")]
    scales = [(65009, 12, 1, 200.0, True), (65010, 12, 1, 200.0, True)]
    return saved(path, extratags=[*units, *scales])


def fei(path: Path) -> Path:
    words = "[Scan]\r\nPixelWidth=2e-07\r\nPixelHeight=2e-07\r\n"
    return saved(path, extratags=[text_tag(34682, words)])


def zeiss_sem(path: Path) -> Path:
    words = "0\r\n0\r\n0\r\nAP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 200.0 nm\r\n"
    return saved(path, extratags=[text_tag(34118, words)])


def micro_manager(path: Path) -> Path:
    return saved(path, extratags=[text_tag(51123, json.dumps({"PixelSizeUm": 0.2}))])


def metamorph(path: Path) -> Path:
    words = "".join(
        f'<prop id="spatial-calibration-{name}" type="{kind}" value="{value}"/>'
        for name, kind, value in (
            ("state", "bool", "on"), ("x", "float", "0.2"), ("y", "float", "0.2"),
            ("units", "string", "um"),
        )
    )  # fmt: skip
    text = f"<MetaData><PlaneInfo>{words}</PlaneInfo></MetaData>"
    return saved(path, description=text, software="MetaSeries")


MAKERS: dict[str, Callable[[Path], Path]] = {
    "LSM": lsm,
    "Aperio": aperio,
    "DigitalMicrograph": digital_micrograph,
    "FEI": fei,
    "Zeiss SEM": zeiss_sem,
    "Micro-Manager": micro_manager,
    "MetaMorph": metamorph,
}


@pytest.mark.parametrize("maker", MAKERS)
def test_the_pixel_size_that_a_maker_states_is_known(maker: str, tmp_path: Path) -> None:
    path = MAKERS[maker](tmp_path / "a.tif")

    info = inspect_image(path)

    assert info.pixel_um == pytest.approx({"y": 0.2, "x": 0.2})
    assert info.pixel_from == maker


@pytest.mark.parametrize("maker", [lsm, aperio])
def test_a_thumbnail_is_no_image_and_is_told(maker: Callable[[Path], Path], tmp_path: Path) -> None:
    info = inspect_image(maker(tmp_path / "a.tif"))

    assert info.series_count == 1
    assert any("not images of their own" in remark for remark in info.remarks)


def test_words_of_a_maker_that_make_no_sense_leave_the_image_sound(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tif", extratags=[text_tag(34682, "[Scan]\r\nPixelWidth=wide\r\n")])

    info = inspect_image(path)

    assert info.pixel_um == {}
    assert np.array_equal(np.asarray(read_image(info)), GREY)


def shuffled_palette() -> tuple[AnyArray, AnyArray]:
    """Give the number of each grey, and the palette."""
    number = np.random.default_rng(0).permutation(256).astype(np.uint8)
    palette = np.zeros((3, 256), np.uint16)
    palette[:, number] = np.arange(256) * 257
    return number, palette


def test_numbers_of_greys_become_the_greys(tmp_path: Path) -> None:
    number, palette = shuffled_palette()
    grey = RGB[..., 0]
    path = saved(tmp_path / "a.tif", number[grey], photometric="palette", colormap=palette)

    info = inspect_image(path)

    assert (info.axes, str(info.dtype)) == ("yx", "uint8")
    assert np.array_equal(np.asarray(read_image(info)), grey)
    with open_image(info) as image:
        region = image.region({"y": slice(3, 9), "x": slice(5, 7)})
    assert np.array_equal(region.array, grey[3:9, 5:7])
    numbers = palette_numbers(path)
    assert numbers is not None
    assert np.array_equal(numbers, number[grey])


def test_numbers_of_colours_become_colours(tmp_path: Path) -> None:
    palette = np.zeros((3, 256), np.uint16)
    palette[:, 1] = 65535, 257, 0
    palette[:, 2] = 0, 0, 514
    numbers = np.array([[0, 1], [2, 1]], np.uint8)
    path = saved(tmp_path / "a.tif", numbers, photometric="palette", colormap=palette)

    info = inspect_image(path)

    assert (info.axes, info.colour) == ("yxc", True)
    pixels = np.moveaxis(read_image(info).array, 0, -1)
    assert pixels.tolist() == [[[0, 0, 0], [255, 1, 0]], [[0, 0, 2], [255, 1, 0]]]


def test_a_palette_that_grows_brighter_colours_intensities(tmp_path: Path) -> None:
    palette = np.zeros((3, 256), np.uint16)
    palette[1] = np.arange(256) * 257
    path = saved(tmp_path / "a.tif", RGB[..., 0], photometric="palette", colormap=palette)

    assert np.array_equal(np.asarray(read_image(inspect_image(path))), RGB[..., 0])


@pytest.mark.parametrize("pixels", [GREY, RGB[..., 0], RGB[..., 0] > 9], ids=str)
def test_white_that_is_stored_as_0_is_inverted_and_told(tmp_path: Path, pixels: AnyArray) -> None:
    info = inspect_image(saved(tmp_path / "a.tif", pixels, photometric="miniswhite"))

    assert np.array_equal(np.asarray(read_image(info)), ~pixels)
    with open_image(info) as image:
        region = image.region({"y": slice(1, 3)})
    assert np.array_equal(region.array, ~pixels[1:3])
    assert any("white is stored as 0" in remark for remark in info.remarks)


OME = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{own}">'


def set_of_two(folder: Path, *, companion: bool) -> list[Path]:
    """Write two planes of a stack into files of their own, as Bio-Formats does."""
    names, ids = ["p0.ome.tif", "p1.ome.tif"], [f"0000000{n}" for n in (1, 2)]
    data = "".join(
        f'<TiffData FirstZ="{n}" FirstC="0" FirstT="0" IFD="0" PlaneCount="1">'
        f'<UUID FileName="{names[n]}">urn:uuid:{ids[n]}</UUID></TiffData>'
        for n in (0, 1)
    )
    image = (
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="48"'
        ' SizeY="64" SizeZ="2" SizeC="1" SizeT="1" PhysicalSizeX="0.2" PhysicalSizeY="0.2">'
        f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{data}</Pixels></Image></OME>'
    )
    for n in (0, 1):
        words = OME.format(own=ids[n])
        words += '<BinaryOnly MetadataFile="a.companion.ome" UUID="urn:uuid:9"/></OME>'
        described = words if companion else OME.format(own=ids[n]) + image
        saved(folder / names[n], GREY + n, description=described)
    if companion:
        (folder / "a.companion.ome").write_text(OME.format(own="9") + image, encoding="utf-8")
    return [folder / name for name in names]


@pytest.mark.parametrize("companion", [True, False])
def test_a_set_that_is_whole_is_read_as_one_image(tmp_path: Path, companion: bool) -> None:
    second = set_of_two(tmp_path, companion=companion)[1]

    info = inspect_image(second)

    assert (info.axes, info.shape, info.pixel_um) == ("zyx", (2, 64, 48), {"y": 0.2, "x": 0.2})
    assert np.array_equal(np.asarray(read_image(info)), np.stack([GREY, GREY + 1]))
    with open_image(info) as image:
        region = image.region({"z": slice(1, 2), "y": slice(2, 5)})
    assert np.array_equal(region.array, GREY[None, 2:5] + 1)


@pytest.mark.parametrize("companion", [True, False])
def test_a_part_of_a_set_names_the_part_that_is_missing(tmp_path: Path, companion: bool) -> None:
    first, second = set_of_two(tmp_path, companion=companion)
    second.unlink()

    with pytest.raises(PartsMissing, match=r"missing: 'p1\.ome\.tif'"):
        inspect_image(first)


def test_a_part_without_its_companion_is_never_taken_for_the_image(tmp_path: Path) -> None:
    first, _ = set_of_two(tmp_path, companion=True)
    (tmp_path / "a.companion.ome").unlink()

    with pytest.raises(PartsMissing, match=r"missing: 'a\.companion\.ome'"):
        inspect_image(first)


def test_a_plane_whose_xml_counts_more_is_read_with_a_caution(tmp_path: Path) -> None:
    xml = (
        OME.format(own="1") + '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT"'
        ' Type="uint16" SizeX="48" SizeY="64" SizeC="1" SizeZ="3" SizeT="1">'
        '<Channel ID="Channel:0:0" SamplesPerPixel="1"/><TiffData/></Pixels></Image></OME>'
    )
    path = saved(tmp_path / "a.ome.tif", description=xml)

    info = inspect_image(path)

    assert np.array_equal(np.asarray(read_image(info)), GREY)
    assert info.cautions == (
        "its OME-XML lists more planes than the 1 in the file, and is ignored",
    )


def test_a_set_that_names_a_file_elsewhere_is_refused(tmp_path: Path) -> None:
    first, _ = set_of_two(tmp_path, companion=False)
    first.write_bytes(first.read_bytes().replace(b"p1.ome.tif", b"../../p.tf"))

    with pytest.raises(Exception, match="is outside its folder"):
        inspect_image(first)
