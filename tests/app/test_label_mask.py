"""What is not a label mask is told in plain words; what is one is read, however it is stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from bmz.app.compare import CompareRequest, compare
from bmz.app.score import score
from bmz.base.arrays import AnyArray
from bmz.cli.main import status_of
from bmz.engine.label_masks import NoMask, mask_pairs, read_mask
from bmz.engine.request import RunRequest
from bmz.process.boundary import pieces_of_planes

Capture = pytest.CaptureFixture[str]


def labels(count: int = 9, *, touching: bool = False) -> AnyArray:
    """Squares with numbers from 1, in rows of three, apart or side by side."""
    found = np.zeros((60, 66), np.uint8)
    for number in range(count):
        y, x = divmod(number, 3)
        found[2 + 18 * y : 16 + 18 * y, 2 + 20 * x : (22 if touching else 18) + 20 * x] = number + 1
    return found


def f1(predicted: Path, truth: Path, **words: Any) -> float:
    summary = score(predicted, truth, **words)
    if summary.failed:
        assert summary.failed[0].error is not None
        raise summary.failed[0].error
    return summary.total[0][1].f1


def saved(path: Path, mask: AnyArray) -> Path:
    if path.suffix == ".npy":
        np.save(path, mask)
    elif path.suffix == ".png":
        Image.fromarray(mask).save(path)
    else:
        tifffile.imwrite(path, mask, photometric="minisblack")
    return path


def as_palette_tiff(path: Path, mask: AnyArray) -> Path:
    colours = np.random.default_rng(1).integers(0, 65536, (3, 256)).astype(np.uint16)
    tifffile.imwrite(path, mask, photometric="palette", colormap=colours)
    return path


def as_palette_png(path: Path, mask: AnyArray) -> Path:
    picture = Image.fromarray(mask).convert("P")
    picture.putpalette(np.random.default_rng(1).integers(0, 256, 768).astype(np.uint8).tolist())
    picture.save(path)
    return path


def coloured(mask: AnyArray) -> AnyArray:
    colours = np.random.default_rng(1).integers(1, 256, (256, 3)).astype(np.uint8)
    colours[0] = 0
    return colours[mask]


FOREGROUNDS: dict[str, AnyArray] = {
    "0 and 255": (labels() > 0).astype(np.uint8) * np.uint8(255),
    "0 and 1": (labels() > 0).astype(np.uint16),
    "0 and 7": (labels() > 0).astype(np.int32) * 7,
    "bool": labels() > 0,
    "float": (labels() > 0).astype(np.float32),
    "3 classes": np.where(labels() > 0, (labels() - np.uint8(1)) // 3 % 2 + 1, 0).astype(np.uint8),
}


@pytest.mark.parametrize("kind", FOREGROUNDS)
@pytest.mark.parametrize("swapped", [False, True])
def test_a_mask_whose_objects_have_no_numbers_is_told_on_either_side(
    tmp_path: Path, kind: str, *, swapped: bool
) -> None:
    pair = saved(tmp_path / "a.npy", labels()), saved(tmp_path / "b.npy", FOREGROUNDS[kind])

    with pytest.raises(NoMask, match="separate pieces") as caught:
        f1(*(pair[::-1] if swapped else pair))

    assert (caught.value.code, caught.value.exit_status) == ("score.foreground", 3)
    assert "--components" in caught.value.hint
    assert f1(*pair, components=True) == 1
    assert f1(*pair, components=False) < 0.2


def test_the_command_says_it_and_goes_on_with_the_word(tmp_path: Path, capsys: Capture) -> None:
    one = str(saved(tmp_path / "a.tif", labels()))
    other = str(saved(tmp_path / "b.tif", FOREGROUNDS["0 and 255"]))

    refused = status_of(["score", one, other])
    told = capsys.readouterr().err
    status = status_of(["score", one, other, "--components", "--json"])

    assert refused == 3
    assert "its only number, 255, occurs in 9 separate pieces" in told
    assert status == 0
    assert json.loads(capsys.readouterr().out)["scores"][0]["f1"] == 1


@pytest.mark.parametrize(
    "mask",
    [
        labels(1),
        labels(1) * np.uint8(255),
        labels(0),
        labels(3, touching=True),
        labels(2),
        np.where(labels(2) > 0, labels(2) + np.uint8(40), 0),
    ],
    ids=["one", "one of 255", "none", "touching", "two", "high numbers"],
)
def test_few_objects_are_a_label_mask(tmp_path: Path, mask: AnyArray) -> None:
    assert np.array_equal(read_mask(saved(tmp_path / "a.tif", mask)), mask)


def test_an_object_that_lost_a_few_pixels_is_one(tmp_path: Path) -> None:
    mask = labels(1)
    mask[30, 30:32] = 1

    assert np.array_equal(read_mask(saved(tmp_path / "a.tif", mask)), mask)
    with pytest.raises(NoMask, match="2 separate pieces"):
        read_mask(saved(tmp_path / "b.tif", mask * np.uint8(255)))


@pytest.mark.parametrize("value", [1, 255])
def test_a_foreground_that_is_inverted_is_told(tmp_path: Path, value: int) -> None:
    mask = np.where(labels() == 0, value, 0).astype(np.uint8)
    ring = np.zeros_like(mask)
    ring[5:50, 5:50] = value
    ring[10:20, 10:20] = ring[30:40, 30:40] = 0

    with pytest.raises(NoMask, match="surrounds 9 holes") as caught:
        read_mask(saved(tmp_path / "a.tif", mask))
    with pytest.raises(NoMask, match="surrounds 9 holes"):
        read_mask(tmp_path / "a.tif", components=True)

    assert caught.value.code == "score.foreground"
    assert read_mask(saved(tmp_path / "b.tif", ring)).max() == value


def test_a_folder_of_jpegs_is_not_told_to_be_empty(tmp_path: Path) -> None:
    for folder in ("found", "truth"):
        (tmp_path / folder).mkdir()
    saved(tmp_path / "found" / "a.tif", labels())
    (tmp_path / "truth" / "a.jpg").write_bytes(imagecodecs.jpeg_encode(labels()))

    with pytest.raises(NoMask, match="JPEG"):
        f1(tmp_path / "found", tmp_path / "truth")


def test_an_object_that_is_cut_by_the_planes_of_a_stack_is_one(tmp_path: Path) -> None:
    stack = np.zeros((4, 40, 40), np.uint8)
    stack[0, 5:35, 5:35] = 1
    stack[1:, 5:35, 5:10] = stack[1:, 5:35, 30:35] = 1  # a table with two legs
    tifffile.imwrite(tmp_path / "a.tif", stack, metadata={"axes": "ZYX"}, photometric="minisblack")

    assert read_mask(tmp_path / "a.tif").max() == 1


def test_pieces_of_frames_are_not_joined_in_time(tmp_path: Path) -> None:
    movie = np.stack([labels(2) > 0, labels(2) > 0]).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", movie, ome=True, metadata={"axes": "TYX"})

    numbered = read_mask(tmp_path / "a.tif", components=True)

    assert [sorted(np.unique(frame)) for frame in numbered] == [[0, 1, 2], [0, 3, 4]]


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_a_lossy_picture_is_no_mask(tmp_path: Path, name: str) -> None:
    if name == "a.tif":
        tifffile.imwrite(tmp_path / name, labels(), compression="jpeg")
    else:
        (tmp_path / name).write_bytes(imagecodecs.jpeg_encode(labels()))

    with pytest.raises(NoMask, match="JPEG") as caught:
        read_mask(tmp_path / name, components=True)

    assert caught.value.code == "score.lossy"


def test_objects_in_pieces_are_a_mask_though_most_pieces_are_specks(tmp_path: Path) -> None:
    labels = np.zeros((60, 60), np.uint8)
    for number, left in enumerate((2, 22, 42), start=1):
        labels[10:40, left : left + 10] = number
        labels[45:51:5, left] = number  # what a network has torn off

    tifffile.imwrite(tmp_path / "torn.tif", labels)

    assert np.array_equal(read_mask(tmp_path / "torn.tif"), labels)


def test_a_soft_mask_and_an_image_are_no_masks(tmp_path: Path) -> None:
    was_lossy = imagecodecs.jpeg_decode(imagecodecs.jpeg_encode(FOREGROUNDS["0 and 255"], level=60))
    noise = np.random.default_rng(0).integers(0, 4000, (80, 80)).astype(np.uint16)

    for pixels in (was_lossy, noise):
        for components in (None, True):
            with pytest.raises(NoMask, match="classes or intensities"):
                read_mask(saved(tmp_path / "a.tif", pixels), components=components)


@pytest.mark.parametrize("write", [as_palette_png, as_palette_tiff], ids=["PNG", "TIFF"])
def test_labels_are_the_numbers_of_a_palette(
    tmp_path: Path, write: Callable[[Path, AnyArray], Path]
) -> None:
    path = write(tmp_path / ("a.png" if write is as_palette_png else "a.tif"), labels())

    assert np.array_equal(read_mask(path), labels())


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_of_few_bits_has_the_same_numbers(tmp_path: Path, bits: int) -> None:
    mask = labels(min(9, 2**bits - 1))
    picture = Image.fromarray(mask).convert("P")
    picture.putpalette([90, 0, 0, 0, 80, 0, 10, 10, 70, 5, 5, 5] * 64)
    picture.save(tmp_path / "a.png", bits=bits)

    assert np.array_equal(read_mask(tmp_path / "a.png"), mask)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_colours_are_no_labels(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".png":
        Image.fromarray(coloured(labels())).save(path)
    else:
        tifffile.imwrite(path, coloured(labels()), photometric="rgb")
    truth = saved(tmp_path / "truth.npy", labels())

    with pytest.raises(NoMask, match="a colour is not a label") as caught:
        f1(path, truth)

    assert caught.value.code == "score.no-mask"
    assert f1(path, truth, components=True) == 1


def test_greys_that_are_stored_as_colours_are_read(tmp_path: Path) -> None:
    Image.fromarray(np.stack([labels()] * 3, -1)).save(tmp_path / "a.png")

    assert np.array_equal(read_mask(tmp_path / "a.png"), labels())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("odd", [np.nan, np.inf, 0.5, -1.0])
def test_odd_numbers_are_told_without_a_warning_of_numpy(tmp_path: Path, odd: float) -> None:
    mask = labels().astype(np.float32)
    mask[0, 0] = odd

    with pytest.raises(NoMask, match=r"not whole|below 0"):
        read_mask(saved(tmp_path / "a.npy", mask))


def image_with_labels(folder: Path) -> Path:
    """Write an OME-Zarr image of noise, in which labels lie."""
    pixels = np.random.default_rng(0).integers(0, 999, labels().shape).astype(np.uint16)
    image = zarr.open_group(str(folder), mode="w", zarr_format=2)
    place = image.create_group("labels")
    place.attrs["labels"] = ["nuclei"]
    nuclei = place.create_group("nuclei")
    for group, content in ((image, pixels), (nuclei, labels().astype(np.int32))):
        datasets = [
            {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]}
        ]
        axes = [{"name": axis, "type": "space"} for axis in "yx"]
        entry: Any = {"version": "0.4", "axes": axes, "datasets": datasets}
        group.attrs["multiscales"] = [entry]
        array = group.create_array("0", shape=content.shape, dtype=content.dtype, chunks=(30, 30))
        array[...] = content
    nuclei.attrs["image-label"] = {"version": "0.4"}
    return folder


def test_labels_in_an_ome_zarr_image_are_read_by_their_path(tmp_path: Path) -> None:
    image = image_with_labels(tmp_path / "a.ome.zarr")
    truth = saved(tmp_path / "truth.tif", labels())

    assert f1(image / "labels" / "nuclei", truth) == 1
    with pytest.raises(NoMask) as caught:
        f1(image, truth)
    assert f"{image}/labels/nuclei" in caught.value.hint


def test_labels_of_many_zarr_images_bear_the_names_of_the_images(tmp_path: Path) -> None:
    (tmp_path / "truth").mkdir()
    for name in "ab":
        image_with_labels(tmp_path / f"{name}.zarr")
        saved(tmp_path / "truth" / f"{name}_mask.tif", labels())

    pairs = mask_pairs(tmp_path / "*.zarr" / "labels" / "nuclei", tmp_path / "truth")

    assert [pair.name for pair in pairs] == ["a", "b"]


def test_compare_tells_a_truth_that_is_none_before_it_runs_a_network(tmp_path: Path) -> None:
    truth = saved(tmp_path / "a_mask.tif", FOREGROUNDS["0 and 255"])
    image = saved(tmp_path / "a.tif", labels())
    words = RunRequest("", (), Path())
    asked = CompareRequest((image,), ("no-such-model",), {}, truth, stability=False, options=words)

    with pytest.raises(NoMask, match="9 separate pieces"):
        compare(asked)


def test_pieces_are_counted_in_the_middle_of_large_planes() -> None:
    wide = np.zeros((3, 40, 5000), np.uint16)
    wide[:, 10:20, 2400:2600] = 5

    wide[0, 30, 2400:2404:2] = 6

    assert pieces_of_planes(wide) == (4, 5, 2, 4)
    assert pieces_of_planes(np.zeros((0, 4), np.uint8)) == (0, 0, 0, 0)
