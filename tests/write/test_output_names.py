from __future__ import annotations

import os
import re
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.base.errors import WrongUsage
from bmz.image.series import PlateField
from bmz.write import names
from bmz.write.names import (
    OutputExists,
    OutputIsInput,
    output_paths,
    plate_folders,
    plate_labels,
    refuse_existing,
    stem_of,
)
from bmz.write.outputs import OUTPUT_KINDS, RECORD, ending_of

ENDINGS = [ending_of(kind) for kind in (*OUTPUT_KINDS, RECORD)]
OUT = Path("out")
PART = st.text("ab_.", min_size=1, max_size=3).filter(lambda s: s.strip("."))


def stems(*images: str) -> list[str]:
    paths = output_paths([Path(i) for i in images], OUT, ["labels"])
    return [found["labels"].name.removesuffix(".labels.tif") for found in paths.values()]


def test_every_kind_of_result_stands_beside_the_others() -> None:
    paths = output_paths([Path("in/a.tif")], OUT)[Path("in/a.tif")]

    assert set(paths) == {*OUTPUT_KINDS, RECORD}
    assert {kind: str(path) for kind, path in paths.items()}.items() >= {
        "labels": os.path.join("out", "a.labels.tif"),  # noqa: PTH118  (the words themselves)
        "raw": os.path.join("out", "a.raw.tif"),  # noqa: PTH118
        "overlay": os.path.join("out", "a.overlay.png"),  # noqa: PTH118
        "table": os.path.join("out", "a.objects.csv"),  # noqa: PTH118
        "planes": os.path.join("out", "a.planes.csv"),  # noqa: PTH118
        "tracks": os.path.join("out", "a.tracks.csv"),  # noqa: PTH118
        "record": os.path.join("out", "a.run.json"),  # noqa: PTH118
    }.items()


@pytest.mark.parametrize(
    ("image", "stem"),
    [
        ("a.tif", "a"),
        ("plate.1_s2.ome.tif", "plate.1_s2"),
        ("plate.1_s2.OME.TIFF", "plate.1_s2"),
        ("a.b.png", "a.b"),
        ("a.npy.tif", "a.npy"),
        ("week 1.5", "week 1.5"),
        ("a.lif", "a.lif"),
        (".tif", ".tif"),
    ],
)
def test_only_a_known_image_ending_is_cut_off(image: str, stem: str) -> None:
    assert stems(image) == [stem]


def test_images_of_one_stem_get_as_many_folders_as_tell_them_apart() -> None:
    assert stems("A/img.tif", "B/img.tif") == ["A_img", "B_img"]
    assert stems("A/x/img.tif", "B/x/img.tif", "c.tif") == ["A_x_img", "B_x_img", "c"]


def test_a_prefix_never_makes_a_new_clash() -> None:
    names = stems("P/A/img.tif", "P/B/img.tif", "P/C/A_img.tif")

    assert names == ["P_A_img", "B_img", "C_A_img"]


def test_images_of_one_stem_in_one_folder_keep_their_ending() -> None:
    assert stems("a.tif", "a.png", "a.ome.tif") == ["a_tif", "a_png", "a_ome_tif"]


def test_letter_case_alone_tells_no_two_results_apart() -> None:
    first, second = stems("a.tif", "A.TIF")

    assert first.casefold() != second.casefold()


def test_an_image_given_twice_counts_once() -> None:
    assert stems("a.tif", "./a.tif", "b/../a.tif") == ["a"]


@given(images=st.lists(st.tuples(PART, PART, PART), max_size=8))
def test_no_two_images_share_a_result(images: list[tuple[str, str, str]]) -> None:
    paths = [Path(a, b, f"{c}.tif") for a, b, c in images]

    found = output_paths(paths, OUT, ["labels"])

    names = [str(result["labels"]).casefold() for result in found.values()]
    assert len(names) == len(set(names)) == len({os.path.abspath(p) for p in paths})  # noqa: PTH100
    assert all(
        image.name.removesuffix(".tif") in result["labels"].name for image, result in found.items()
    )


def test_a_result_never_replaces_an_image() -> None:
    with pytest.raises(OutputIsInput, match=r"a\.labels\.tif"):
        output_paths([Path("in/a.tif"), Path("in/a.labels.tif")], Path("in"), ["labels"])


def test_what_is_there_is_refused_by_name_and_number(tmp_path: Path) -> None:
    paths = [tmp_path / f"a{ending}" for ending in ENDINGS]
    for path in paths[1:4]:
        path.touch()

    with pytest.raises(
        OutputExists, match=rf"{re.escape(paths[1].name)}' \(and 2 more\)"
    ) as caught:
        refuse_existing(paths)

    assert isinstance(caught.value, WrongUsage)
    assert (caught.value.code, "--overwrite" in caught.value.hint) == ("output.exists", True)
    refuse_existing(paths[:1])


ANY_CASE = st.text("aA_2", min_size=1, max_size=3)


@given(
    images=st.lists(
        st.tuples(ANY_CASE, ANY_CASE, st.sampled_from([".tif", ".TIF", ".png", "_tif.tif"])),
        max_size=8,
    )
)
def test_no_two_results_differ_by_letter_case_or_ending_alone(
    images: list[tuple[str, str, str]],
) -> None:
    paths = [Path(a, f"{b}{ending}") for a, b, ending in images]

    found = output_paths(paths, OUT)

    names = [str(path).casefold() for results in found.values() for path in results.values()]
    assert len(set(names)) == len(names) == len(ENDINGS) * len(set(paths))
    assert all(path.parent == OUT for results in found.values() for path in results.values())


def test_names_that_no_folder_tells_apart_are_numbered_past_those_that_are_taken() -> None:
    found = stems("/A.tif", "/a.tif", "/a_tif_2.tif", "/a_TIF.tif")

    assert found == ["A_tif", "a_tif_3", "a_tif_2", "a_TIF_4"]


def test_labels_alone_are_zarr_when_zarr_is_asked_for() -> None:
    paths = output_paths([Path("in/a.ome.tif")], OUT, ["labels", "table"], zarr=True)
    others = output_paths([Path("in/a.ome.tif")], OUT, ["table"], zarr=True)

    assert paths == {
        Path("in/a.ome.tif"): {"labels": OUT / "a.labels.ome.zarr", "table": OUT / "a.objects.csv"}
    }
    assert others == {Path("in/a.ome.tif"): {"table": OUT / "a.objects.csv"}}


def test_a_result_that_would_replace_another_image_says_which_of_which() -> None:
    images = [Path("in/a.tif"), Path("in/sub/../a.overlay.png")]

    with pytest.raises(OutputIsInput) as caught:
        output_paths(images, Path("in"), ["overlay"])

    place, image = Path("in", "a.overlay.png"), images[0]
    assert caught.value.message == (
        f"the result of '{image}' would replace '{place}', which is one of the images"
    )
    assert caught.value.hint == "write to another folder with -o, or leave that image out"
    assert (caught.value.code, caught.value.exit_status) == ("output.is-input", 2)


def test_what_alone_is_there_is_named_alone_even_if_it_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "b").symlink_to(tmp_path / "nowhere")

    with pytest.raises(OutputExists) as caught:
        refuse_existing(tmp_path / name for name in "abc")

    assert caught.value.message == (
        f"'{tmp_path / 'b'}' already exists, and bmz does not overwrite files unless asked to"
    )


def fields_of(*plates: str) -> dict[Path, PlateField | None]:
    fields = [PlateField(Path(plate), "B", "10", "0") for plate in plates]
    return {field.path: field for field in fields}


@pytest.mark.parametrize("zarr", [False, True])
def test_results_of_a_field_lie_as_it_lies_in_its_plate(*, zarr: bool) -> None:
    (image,) = fields = fields_of("in/p.ome.zarr")

    results = output_paths([image], OUT, ["labels", "table"], zarr=zarr, fields=fields)[image]

    labels = "p.labels.ome.zarr/B/10/0" if zarr else "p/B/10/0.labels.tif"
    assert results["labels"] == OUT / labels
    assert results["table"] == OUT / "p/B/10/0.objects.csv"


def test_plates_of_one_name_and_an_image_beside_them_are_told_apart() -> None:
    fields: dict[Path, PlateField | None] = {
        **fields_of("in/one/p.ome.zarr", "in/two/p.ome.zarr"), Path("in/p.tif"): None,
    }  # fmt: skip

    folders = plate_folders(list(fields), fields, OUT)
    paths = output_paths(list(fields), OUT, ["labels"], fields=fields)

    assert folders == {
        Path("in/one/p.ome.zarr"): OUT / "one_p",
        Path("in/two/p.ome.zarr"): OUT / "two_p",
    }
    assert plate_labels(OUT / "one_p") == OUT / "one_p.labels.ome.zarr"
    assert [found["labels"] for found in paths.values()] == [
        OUT / "one_p/B/10/0.labels.tif",
        OUT / "two_p/B/10/0.labels.tif",
        OUT / "p.labels.tif",
    ]


def test_images_whose_names_differ_in_composed_letters_alone_are_told_apart() -> None:
    composed, parts = Path("a/caf\u00e9.tif"), Path("b/cafe\u0301.tif")

    paths = output_paths([composed, parts], Path("out"), ["labels"])

    names = {unicodedata.normalize("NFC", results["labels"].name) for results in paths.values()}
    assert len(names) == 2


@pytest.mark.parametrize(
    ("image", "stem"),
    [
        ("s3/aux.tif", "aux_"),
        ("s3/Com1.day.tif", "Com1_.day"),
        ("s3/auxiliary.tif", "auxiliary"),
        ("s3/12:30.tif", "12_30"),
        ('s3/a<b>"c|d?e*.tif', "a_b__c_d_e_"),
    ],
)
def test_what_windows_takes_in_no_name_is_changed_there_alone(
    image: str, stem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = stem_of(Path(image))
    monkeypatch.setattr(sys, "platform", "win32")

    assert (stem_of(Path(image)), elsewhere) == (stem, Path(image).stem)


def test_the_name_of_a_part_of_a_file_is_one_that_every_system_takes() -> None:
    assert stem_of(Path("c.h5[/raw:t/0?]")) == "c[raw_t_0_]"


def test_a_result_that_is_an_image_on_a_disk_without_letter_case_is_refused(
    tmp_path: Path,
) -> None:
    for name in ("A.tif", "a.labels.tif"):
        (tmp_path / name).touch()
    images = [tmp_path / "A.tif", tmp_path / "a.labels.tif"]
    apart = output_paths(images, tmp_path, ["labels"])
    (tmp_path / "A.labels.tif").hardlink_to(images[1])  # as such a disk finds it

    with pytest.raises(OutputIsInput):
        output_paths(images, tmp_path, ["labels"])

    assert apart[images[0]]["labels"].name == "A.labels.tif"


def test_to_replace_results_asks_for_each_name_as_often_for_many_images_as_for_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path | str] = []
    key = names._key

    def noted(name: Path | str) -> str:
        asked.append(name)
        return key(name)

    monkeypatch.setattr(names, "_key", noted)

    def times_asked(count: int) -> float:
        images = [tmp_path / f"{number}.tif" for number in range(count)]
        for image in images:
            (tmp_path / f"{image.stem}.labels.tif").touch()
        asked.clear()
        output_paths(images, tmp_path, ["labels"])
        return len(asked) / count

    few, many = times_asked(4), times_asked(32)

    assert many <= few
