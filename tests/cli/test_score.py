"""Label masks are scored alone, by folder and by pattern; errors are told with their place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from tests.app.test_plates import write_image

from bmz.base.arrays import AnyArray
from bmz.cli.main import status_of
from bmz.process.matching import match_labels

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three pairs of masks with names as bmz, Cellpose and people give them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("predicted", "truth"):
        (tmp_path / name).mkdir()
    for number, name in enumerate("abc"):
        tifffile.imwrite(tmp_path / "predicted" / f"{name}.labels.tif", mask(number))
    tifffile.imwrite(tmp_path / "truth" / "a.tif", mask(0))
    np.save(tmp_path / "truth" / "b_mask.npy", mask(9))
    Image.fromarray(mask(2)).save(tmp_path / "truth" / "c_cp_masks.png")
    return tmp_path


def mask(seed: int) -> AnyArray:
    found = np.zeros((40, 50), np.uint8)
    places = np.random.default_rng(seed).permutation(20)[:6]
    for label, place in enumerate(places, start=1):
        y, x = 10 * (place // 5), 10 * (place % 5)
        found[y + 1 : y + 9, x + 1 : x + 9] = label
    return found


def scored(capsys: Capture, *words: str) -> tuple[int, Any]:
    status = status_of(["score", *words, "--json"])
    return status, json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("folder")
def test_one_pair_has_the_figures_of_the_matching(capsys: Capture) -> None:
    status, told = scored(capsys, "predicted/b.labels.tif", "truth/b_mask.npy")

    wanted = match_labels(mask(1), mask(9), 0.5)
    first = told["scores"][0]
    assert status == 0
    assert told["schema"] == "bmz.score/1"
    assert first["iou"] == 0.5
    assert [first[k] for k in ("tp", "fp", "fn", "f1", "ap")] == [
        wanted.tp, wanted.fp, wanted.fn, wanted.f1, wanted.ap,
    ]  # fmt: skip
    assert {error["kind"] for error in told["pairs"][0]["errors"]} == {"missed", "false"}


@pytest.mark.parametrize("words", [("predicted", "truth"), ("predicted/*.tif", "truth/*")])
@pytest.mark.usefixtures("folder")
def test_folders_and_patterns_are_put_together_by_name(
    capsys: Capture, words: tuple[str, str]
) -> None:
    status, told = scored(capsys, *words)

    assert status == 0
    assert [pair["name"] for pair in told["pairs"]] == ["a", "b", "c"]
    assert [pair["scores"][0]["f1"] == 1 for pair in told["pairs"]] == [True, False, True]


def test_totals_count_objects_and_means_count_masks(folder: Path, capsys: Capture) -> None:
    tifffile.imwrite(folder / "truth" / "a.tif", np.where(mask(0) == 1, 1, 0).astype(np.uint8))

    _, told = scored(capsys, "predicted", "truth")

    apart = [pair["scores"][0] for pair in told["pairs"]]
    total, mean = told["scores"][0], told["image_mean"][0]
    assert total["tp"] == sum(one["tp"] for one in apart)
    assert total["f1"] == pytest.approx(
        2 * total["tp"] / (2 * total["tp"] + total["fp"] + total["fn"])
    )
    assert mean["f1"] == pytest.approx(np.mean([one["f1"] for one in apart]))
    assert mean["f1"] != pytest.approx(total["f1"])


def test_a_mask_without_a_partner_is_named_and_the_others_are_scored(
    folder: Path, capsys: Capture
) -> None:
    (folder / "truth" / "a.tif").unlink()

    status = status_of(["score", "predicted", "truth"])

    captured = capsys.readouterr()
    assert status == 1
    assert "error: a: there is no true mask of that name" in captured.err
    assert [line.split()[0] for line in captured.out.splitlines()[1:3]] == ["b", "c"]


@pytest.mark.usefixtures("folder")
def test_the_words_name_the_worst_errors_and_where_they_are(capsys: Capture) -> None:
    tifffile.imwrite("truth.tif", np.where(mask(0) > 0, 1, 0).astype(np.uint8))

    status = status_of(
        ["score", "predicted/a.labels.tif", "truth.tif", "--iou", "0.7", "--no-components"]
    )

    told = capsys.readouterr().out
    assert status == 0
    assert told.splitlines()[0].split()[:3] == ["IoU", "F1", "precision"]
    assert told.splitlines()[1].startswith("0.70  0.000")
    (worst,) = [line for line in told.splitlines() if line.startswith("split into")]
    assert worst.startswith("split into 1, 2, 3, 4, 5, 6 ")
    assert worst.split()[-3] == "384"


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("half.tif", np.full((4, 4), 0.5, np.float32), "score.no-mask"),
        ("below.tif", np.full((4, 4), -1, np.int16), "score.no-mask"),
        ("small.tif", np.zeros((3, 3), np.uint8), "matching.shape"),
        ("colour.png", np.zeros((40, 50, 3), np.uint8), "score.no-mask"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_is_no_mask_is_told_by_its_code(
    capsys: Capture, name: str, content: AnyArray, code: str
) -> None:
    if name.endswith("png"):
        content[..., 0] = 9
        Image.fromarray(content).save(name)
    else:
        tifffile.imwrite(name, content)

    status = status_of(["score", "predicted/a.labels.tif", name])

    assert status == 3
    assert f"[{code}]" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_whole_numbers_stored_as_floats_are_a_mask(capsys: Capture) -> None:
    tifffile.imwrite("float.tif", mask(0).astype(np.float32))

    _, told = scored(capsys, "predicted/a.labels.tif", "float.tif")

    assert told["scores"][0]["f1"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing/*.tif", "truth"], "there is no mask at"),
        (["predicted", "elsewhere"], "no mask in 'predicted' has the same name"),
        (["predicted", "twice"], "have the same name 'a'"),
    ],
)
def test_words_that_name_no_pairs_are_wrong_usage(
    folder: Path, capsys: Capture, words: list[str], message: str
) -> None:
    for name, files in {"elsewhere": ["x.tif"], "twice": ["a.tif", "a_mask.tif"]}.items():
        (folder / name).mkdir()
        for file in files:
            tifffile.imwrite(folder / name / file, mask(0))

    status = status_of(["score", *words])

    assert status == 2
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_a_stack_is_scored_as_a_whole(capsys: Capture) -> None:
    stack = np.stack([mask(0), mask(0)])
    np.save("stack.npy", stack)
    tifffile.imwrite("stack.tif", stack, metadata={"axes": "ZYX"})

    _, told = scored(capsys, "stack.npy", "stack.tif")

    assert told["scores"][0]["tp"] == 6


@pytest.mark.usefixtures("folder")
def test_beside_a_single_file_the_rest_of_a_folder_does_not_matter(capsys: Capture) -> None:
    status, told = scored(capsys, "predicted/a.labels.tif", "truth")

    assert status == 0
    assert [pair["name"] for pair in told["pairs"]] == ["a"]


def test_of_the_files_that_a_run_writes_the_label_masks_are_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[5:15, 5:15] = 1
    for folder, name in (("found", "a.labels.tif"), ("found", "a.raw.tif"), ("truth", "a.tif")):
        (tmp_path / folder).mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / folder / name, mask)
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "found/a.overlay.png")

    status = status_of(["score", str(tmp_path / "found"), str(tmp_path / "truth"), "--json"])

    assert status == 0
    assert len(json.loads(capsys.readouterr().out)["pairs"]) == 1


def several(path: Path, *masks: tuple[str, int]) -> Path:
    """Write masks into one file, each with a name."""
    with tifffile.TiffWriter(path, ome=True) as file:
        for name, seed in masks:
            file.write(mask(seed), metadata={"axes": "YX", "Name": name})
    return path


@pytest.mark.usefixtures("folder")
def test_each_mask_of_a_file_has_a_row_and_all_together_the_last(capsys: Capture) -> None:
    several(Path("p.ome.tif"), ("left", 1), ("right", 2))
    several(Path("t.ome.tif"), ("right", 2), ("left", 3))

    status, told = scored(capsys, "p.ome.tif", "t.ome.tif")
    status_of(["score", "p.ome.tif", "t.ome.tif"])
    table = capsys.readouterr().out.splitlines()

    first, second = match_labels(mask(1), mask(3), 0.5), match_labels(mask(2), mask(2), 0.5)
    assert status == 0
    assert [pair["name"] for pair in told["pairs"]] == ["left", "right"]
    assert [pair["scores"][0]["tp"] for pair in told["pairs"]] == [first.tp, second.tp]
    assert told["scores"][0]["tp"] == first.tp + second.tp
    assert [line.split()[0] for line in table[1:4]] == ["left", "right", "all"]
    assert table[3].split()[5:7] == ["12", "12"]


@pytest.mark.usefixtures("folder")
def test_masks_that_no_names_tell_apart_are_paired_by_their_places(capsys: Capture) -> None:
    several(Path("p.ome.tif"), ("eye", 1), ("eye", 2))
    several(Path("t.ome.tif"), ("left", 1), ("right", 2))

    status, told = scored(capsys, "p.ome.tif", "t.ome.tif")

    assert (status, [s["f1"] for s in told["scores"]][:1]) == (0, [1.0])
    assert len(told["pairs"]) == 2


@pytest.mark.usefixtures("folder")
def test_the_masks_of_a_file_are_found_among_results_that_lie_in_files_of_their_own(
    capsys: Capture,
) -> None:
    several(Path("truth/eyes_mask.ome.tif"), ("left", 1), ("right", 2))
    for name, seed in (("left", 1), ("right", 2)):
        tifffile.imwrite(f"predicted/eyes[{name}].labels.tif", mask(seed))

    status, told = scored(capsys, "predicted", "truth/eyes_mask.ome.tif")
    one_status, one = scored(capsys, "predicted", "truth/eyes_mask.ome.tif[right]")
    all_status, every = scored(capsys, "predicted", "truth")

    assert (status, one_status, all_status) == (0, 0, 0)
    assert [pair["name"] for pair in told["pairs"]] == ["eyes[left]", "eyes[right]"]
    assert [pair["name"] for pair in one["pairs"]] == ["eyes[right]"]
    assert told["scores"][0]["f1"] == one["scores"][0]["f1"] == 1
    assert len(every["pairs"]) == 5


@pytest.mark.usefixtures("folder")
def test_one_mask_against_several_is_refused_and_never_scored_with_the_first(
    capsys: Capture,
) -> None:
    several(Path("t.ome.tif"), ("left", 1), ("right", 2))

    status = status_of(["score", "predicted/b.labels.tif", "t.ome.tif"])

    assert status == 2
    assert "t.ome.tif[left]" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_every_label_image_of_an_ome_zarr_has_a_row(capsys: Capture) -> None:

    for place, seeds in (("p.zarr", (1, 2)), ("t.zarr", (1, 3))):
        write_image(Path(place), mask(0))
        for name, seed in zip(("cells", "nuclei"), seeds, strict=True):
            write_image(Path(place) / "labels" / name, mask(seed))
        group = zarr.open_group(f"{place}/labels")
        group.attrs["ome"] = {"version": "0.5", "labels": ["cells", "nuclei"]}

    status, told = scored(capsys, "p.zarr/labels", "t.zarr/labels")

    assert status == 0
    assert [pair["name"] for pair in told["pairs"]] == ["cells", "nuclei"]
