from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from bmz.base.arrays import AnyArray
from bmz.image.faults import SeriesOutOfRange
from bmz.image.formats import split_series
from bmz.image.inspect import inspect_image
from bmz.image.region import read_image
from bmz.image.series import SeriesUnknown, content_sha256, series_paths
from bmz.write.names import output_paths

SIZES = (4, 5, 6)


def several(path: Path, *names: str) -> Path:
    with tifffile.TiffWriter(path, ome=True) as file:
        for size, name in zip(SIZES, names, strict=False):
            words = {"axes": "YX", **({"Name": name} if name else {})}
            file.write(np.full((size, 7), size, np.uint8), metadata=words)
    return path


def pixels(path: Path) -> AnyArray:
    return np.asarray(read_image(inspect_image(path)))


def test_each_image_of_a_file_has_a_path_of_its_own(tmp_path: Path) -> None:
    path = several(tmp_path / "a.ome.tif", "left eye", "right/eye", "tail")

    paths = series_paths(path)

    assert [one.name for one in paths] == [
        f"a.ome.tif[{n}]" for n in ("left eye", "right_eye", "tail")
    ]
    assert [pixels(one).shape[0] for one in paths] == list(SIZES)
    assert [inspect_image(one).place for one in paths] == list(paths)
    assert inspect_image(paths[1]).series_name == "right/eye"
    assert content_sha256(paths[1]) == content_sha256(path)


def test_images_of_equal_names_go_by_their_numbers(tmp_path: Path) -> None:
    path = several(tmp_path / "a.ome.tif", "eye", "eye")

    assert [one.name for one in series_paths(path)] == ["a.ome.tif[0]", "a.ome.tif[1]"]


@pytest.mark.parametrize(
    ("wanted", "sizes"), [("all", SIZES), ("1", (5,)), ("1-2", (5, 6)), ("tail", (6,))]
)
def test_images_are_chosen_by_name_number_or_span(
    tmp_path: Path, wanted: str, sizes: tuple[int, ...]
) -> None:
    path = several(tmp_path / "a.ome.tif", "head", "trunk", "tail")

    assert tuple(pixels(one).shape[0] for one in series_paths(path, wanted)) == sizes


@pytest.mark.parametrize(
    ("wanted", "kind"), [("3", SeriesOutOfRange), ("1-7", SeriesOutOfRange), ("ear", SeriesUnknown)]
)
def test_an_image_that_is_not_there_is_refused(
    tmp_path: Path, wanted: str, kind: type[Exception]
) -> None:
    path = several(tmp_path / "a.ome.tif", "head", "trunk", "tail")

    with pytest.raises(kind):
        series_paths(path, wanted)
    with pytest.raises(kind):
        inspect_image(Path(f"{path}[{wanted}]"))


def test_a_file_of_one_image_stays_itself(tmp_path: Path) -> None:
    path = several(tmp_path / "a.ome.tif", "head")

    assert series_paths(path) == series_paths(path, "0") == (path,)


def test_a_file_whose_name_ends_in_brackets_is_a_file(tmp_path: Path) -> None:
    path = several(tmp_path / "a[1]", "head")

    assert split_series(path) == (path, "")
    assert pixels(path).shape == (4, 7)


def test_results_are_called_after_the_image_in_the_file(tmp_path: Path) -> None:
    images = [tmp_path / name for name in ("a.ome.tif[tail]", "a.czi[0]", "b.czi[1]")]

    paths = output_paths(images, tmp_path / "out", ["labels"])

    names = [paths[image]["labels"].name for image in images]
    assert names == ["a[tail].labels.tif", "a[0].labels.tif", "b[1].labels.tif"]
