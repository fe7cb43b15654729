from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from tests.image.test_makers import set_of_two

from bmz.base.errors import BmzError
from bmz.image.listing import ListUnreadable, listed_images
from bmz.write.names import output_paths

RESULTS = r"\.labels\.tif$"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two days of images, with what may lie beside them."""
    for name in ("day1/a.tif", "day1/b.png", "day2/c/a.tif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("notes.txt", "a.labels.tif", ".hidden.tif"):
        (tmp_path / "day1" / name).touch()
    zarr.open_group(str(tmp_path / "day2" / "e.zarr"), mode="w").create_group("0")
    return tmp_path


def names(folder: Path, *words: str, include: tuple[str, ...] = ()) -> list[str]:
    images = listed_images([str(folder / w) for w in words], include, (), RESULTS).images
    return [one.relative_to(folder).as_posix() for one in images]


def test_a_folder_stands_for_all_images_below_it(folder: Path) -> None:
    assert names(folder, ".") == ["day1/a.tif", "day1/b.png", "day2/c/a.tif", "day2/e.zarr"]


def test_only_files_that_are_called_so_are_taken_of_a_folder(folder: Path) -> None:
    assert names(folder, "day1", "day2", include=("a.*",)) == ["day1/a.tif", "day2/c/a.tif"]


def test_a_pattern_is_followed_where_the_shell_did_not(folder: Path) -> None:
    assert names(folder, "*/a.tif") == ["day1/a.tif"]
    assert names(folder, "**/a.tif") == ["day1/a.tif", "day2/c/a.tif"]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(folder: Path) -> None:
    (folder / "a[1].tif").touch()

    assert names(folder, "a[1].tif") == ["a[1].tif"]


def test_an_image_of_a_file_that_holds_several_is_no_pattern(folder: Path) -> None:
    assert names(folder, "day1/a.tif[2]") == ["day1/a.tif[2]"]


def test_an_image_that_is_named_twice_counts_once(folder: Path) -> None:
    assert names(folder, "day1/b.png", "day1") == ["day1/b.png", "day1/a.tif"]


def test_lists_name_images_line_by_line(folder: Path) -> None:
    (folder / "list.txt").write_text(f"# the good ones\n{folder}/day1/a.tif\n\n{folder}/day2\n")

    found = listed_images([f"@{folder}/list.txt", "-"], (), ["x.tif\n"], RESULTS)

    assert [one.name for one in found.images] == ["a.tif", "a.tif", "e.zarr", "x.tif"]


@pytest.mark.parametrize(
    ("word", "code"),
    [("day1/*.czi", "image.none"), ("empty", "image.none"), ("@no.txt", "image.not-found")],
)
def test_what_leads_nowhere_is_told(
    folder: Path, word: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "empty").mkdir()

    with pytest.raises(BmzError) as caught:
        listed_images([word])

    assert caught.value.code == code


@pytest.mark.parametrize("companion", [True, False])
def test_files_of_one_set_are_one_image(tmp_path: Path, companion: bool) -> None:
    set_of_two(tmp_path, companion=companion)
    tifffile.imwrite(tmp_path / "q.ome.tif", np.zeros((8, 8), np.uint8), ome=True)

    assert names(tmp_path, ".") == ["p0.ome.tif", "q.ome.tif"]


def test_results_keep_the_structure_of_the_folder(folder: Path) -> None:
    listing = listed_images([str(folder), "z.tif"], (), (), RESULTS)

    paths = output_paths(listing.images, Path("out"), ["labels"], roots=listing.roots)

    assert [paths[image]["labels"].as_posix() for image in listing.images] == [
        "out/day1/a.labels.tif",
        "out/day1/b.labels.tif",
        "out/day2/c/a.labels.tif",
        "out/day2/e.labels.tif",
        "out/z.labels.tif",
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_list_that_windows_wrote_names_its_images(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(f"{tmp_path}/gr\u00f6\u00dfe.tif\r\n".encode(encoding))

    found = listed_images([f"@{tmp_path}/list.txt"])

    assert [path.name for path in found.images] == ["gr\u00f6\u00dfe.tif"]


def test_a_list_in_another_code_page_is_told(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes("gr\u00f6\u00dfe.tif".encode("cp1252"))

    with pytest.raises(ListUnreadable, match="not UTF-8 text"):
        listed_images([f"@{tmp_path}/list.txt"])
