"""Which paths and models an MCP client may name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bmz.base.errors import WrongUsage
from bmz.mcp.folders import Folders, ModelFromElsewhere, NotAFolder, NotAPath, OutsideFolders


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two folders that are named, and a secret beside them."""
    for name in ("data", "more", "secret"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.tif").write_bytes(b"II")
    return tmp_path


@pytest.fixture
def folders(place: Path) -> Folders:
    return Folders.of([place / "data", place / "more"])


def test_a_path_is_below_a_folder_by_its_full_or_its_short_name(
    place: Path, folders: Folders
) -> None:
    (place / "more" / "b.tif").touch()

    assert folders.path(str(place / "data" / "a.tif")) == place / "data" / "a.tif"
    assert folders.path("a.tif") == place / "data" / "a.tif"
    assert folders.path("b.tif") == place / "more" / "b.tif"
    assert folders.path("new/folder") == place / "data" / "new" / "folder"
    assert folders.path(".") == place / "data"


@pytest.mark.parametrize(
    "word",
    [
        "{place}/secret/a.tif", "../secret/a.tif", "{place}/data/../secret/a.tif", "/",
        "/etc/passwd", "{place}", "{place}/data2", "x/../../secret", "", "a\0b",
        "{place}/secret/not-there.tif",
    ],
)  # fmt: skip
def test_a_path_that_leads_out_is_refused(word: str, place: Path, folders: Folders) -> None:
    with pytest.raises(OutsideFolders, match="outside the folders") as refused:
        folders.path(word.format(place=place))

    assert refused.value.exit_status == 2
    assert "--folder" in refused.value.hint


def test_a_folder_whose_name_begins_like_one_that_is_named_is_another(place: Path) -> None:
    (place / "database").mkdir()

    with pytest.raises(OutsideFolders):
        Folders.of([place / "data"]).path(str(place / "database"))


def test_without_a_folder_every_path_is_refused(place: Path) -> None:
    with pytest.raises(OutsideFolders, match=r"\(none\)"):
        Folders.of([]).path(str(place / "data" / "a.tif"))


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
class TestLinks:
    def test_a_link_counts_by_what_it_leads_to(self, place: Path, folders: Folders) -> None:
        (place / "data" / "out.tif").symlink_to(place / "secret" / "a.tif")
        (place / "data" / "in.tif").symlink_to(place / "more" / "a.tif")

        assert folders.path("in.tif") == place / "more" / "a.tif"
        with pytest.raises(OutsideFolders):
            folders.path("out.tif")

    def test_a_folder_that_is_named_may_be_a_link(self, place: Path) -> None:
        (place / "link").symlink_to(place / "secret")

        path = Folders.of([place / "link"]).path(str(place / "link" / "a.tif"))

        assert path == place / "secret" / "a.tif"

    @pytest.mark.parametrize("deep", [False, True])
    def test_an_image_that_is_a_folder_is_refused_for_a_link_in_it(
        self, place: Path, folders: Folders, *, deep: bool
    ) -> None:
        image = place / "data" / "a.zarr"
        chunks = (place / "more" / "chunks") if deep else image / "0"
        image.mkdir()
        chunks.mkdir()
        if deep:
            (image / "0").symlink_to(chunks)
        (chunks / "0.0").symlink_to(place / "secret" / "a.tif")

        with pytest.raises(OutsideFolders, match=r"0\.0"):
            folders.images(["a.zarr"], ())

    def test_links_in_a_ring_come_to_an_end(self, place: Path, folders: Folders) -> None:
        (place / "data" / "ring").symlink_to(place / "data")

        assert folders.path(".") == place / "data"

    def test_a_file_of_several_images_may_not_be_a_link_that_leads_out(
        self, place: Path, folders: Folders
    ) -> None:
        (place / "data" / "b.czi").symlink_to(place / "secret" / "a.tif")

        with pytest.raises(OutsideFolders):
            folders.images(["b.czi[0]"], ())


def test_images_are_files_and_those_of_folders(place: Path, folders: Folders) -> None:
    (place / "more" / "b.labels.tif").touch()
    (place / "more" / "c.tif").touch()

    listing = folders.images(["a.tif", str(place / "more")], ["a*"])

    assert listing.images == (place / "data" / "a.tif", place / "more" / "a.tif")
    assert listing.roots == (place / "more",)


@pytest.mark.parametrize(
    "word", ["*.tif", "@list.txt", "-", "https://a.org/a.tif", "s3://b/a.zarr", "[ab].tif"]
)
def test_neither_patterns_nor_lists_nor_addresses_are_images(word: str, folders: Folders) -> None:
    with pytest.raises(NotAPath) as refused:
        folders.images([word], ())

    assert "include" in refused.value.hint


@pytest.mark.parametrize(
    ("word", "refusal"),
    [
        ("https://a.org/rdf.yaml", ModelFromElsewhere),
        ("https://a.org/net.zip", ModelFromElsewhere),
        ("huggingface/a/b", ModelFromElsewhere),
        ("s3://bucket/net.zip", ModelFromElsewhere),
        ("../secret", OutsideFolders),
        ("~/net", OutsideFolders),
        ("file:///etc/rdf.yaml", OutsideFolders),
    ],
)
def test_a_model_from_elsewhere_is_refused(
    word: str, refusal: type[WrongUsage], folders: Folders
) -> None:
    with pytest.raises(refusal):
        folders.model(word)


def test_a_model_is_of_the_zoo_or_below_a_folder(place: Path, folders: Folders) -> None:
    assert folders.model("affable-shark/v1") == "affable-shark/v1"
    assert folders.model("starter/nuclei") == "starter/nuclei"
    assert folders.model("10.5281/zenodo.5764892") == "10.5281/zenodo.5764892"
    assert folders.model("https://bioimage.io/#/artifacts/affable-shark").endswith("shark")
    assert folders.model("./net") == str(place / "data" / "net")


def test_a_folder_that_is_not_there_cannot_be_named(place: Path) -> None:
    with pytest.raises(NotAFolder, match="not a folder"):
        Folders.of([place / "data" / "a.tif"])
