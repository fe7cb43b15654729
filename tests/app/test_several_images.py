"""Files that hold several images: each has a result of its own."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

import bmz
from bmz.app.run import run
from bmz.engine.earlier_runs import replayed
from bmz.engine.request import RunRequest
from bmz.write.names import OutputExists


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    path = tmp_path / "eyes.ome.tif"
    y, x = np.mgrid[:96, :96]
    with tifffile.TiffWriter(path, ome=True) as file:
        for name, count in (("left", 1), ("right", 2)):
            spots = sum(
                200 * np.exp(-((y - 48) ** 2 + (x - 24 - 48 * k) ** 2) / 72) for k in range(count)
            )
            file.write(np.asarray(spots, np.uint8), metadata={"axes": "YX", "Name": name})
    return path


def test_each_image_of_a_file_has_its_own_mask_and_record(eyes: Path, tmp_path: Path) -> None:
    summary = run(RunRequest("starter/nuclei", (eyes,), tmp_path / "out", scale=1.0))

    assert [(one.image.name, one.objects) for one in summary.done] == [
        ("eyes.ome.tif[left]", 1),
        ("eyes.ome.tif[right]", 2),
    ]
    assert summary.done[1].files["labels"].name == "eyes[right].labels.tif"
    record = json.loads((tmp_path / "out" / "eyes[right].run.json").read_text())
    assert (record["image"], record["image_series"]) == (str(eyes), 1)
    assert (record["image_series_name"], record["image_series_count"]) == ("right", 2)


def test_one_table_holds_the_objects_of_all_images(eyes: Path, tmp_path: Path) -> None:
    plain = tmp_path / "more" / "one.tif"
    plain.parent.mkdir()
    tifffile.imwrite(plain, tifffile.imread(eyes, series=0))

    summary = run(RunRequest("starter/nuclei", (eyes, plain), tmp_path / "out", scale=1.0))

    with (tmp_path / "out" / "objects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["series"]) for row in rows] == [
        ("eyes.ome.tif", "left"),
        ("eyes.ome.tif", "right"),
        ("eyes.ome.tif", "right"),
        ("more/one.tif", ""),
    ]
    assert list(rows[0])[:5] == ["image", "series", "mask_f1", "mask_quality", "label"]
    assert sum(one.objects or 0 for one in summary.done) == len(rows)


def test_every_table_says_which_image_series_and_well_its_objects_are_of(tmp_path: Path) -> None:
    pixels = np.zeros((64, 64), np.uint8)
    pixels[20:40, 20:40] = 200
    wells = "".join(
        f'<Well ID="Well:{n}" Row="0" Column="{n}"><WellSample ID="WellSample:{n}" Index="{n}">'
        f'<ImageRef ID="Image:{n}"/></WellSample></Well>'
        for n in range(2)
    )
    plate = f'<Plate ID="Plate:0">{wells}</Plate><Image ID="Image:0"'
    with tifffile.TiffWriter(tmp_path / "plate.ome.tif", ome=True) as file:
        for name in ("f0", "f1"):
            file.write(pixels, metadata={"axes": "YX", "Name": name})
    xml = tifffile.tiffcomment(tmp_path / "plate.ome.tif")
    told = str(xml).replace('<Image ID="Image:0"', plate).encode()
    tifffile.tiffcomment(tmp_path / "plate.ome.tif", told)

    request = RunRequest("starter/nuclei", (tmp_path / "plate.ome.tif",), tmp_path / "out")
    done = run(request).done

    texts = [one.files["table"].read_text(encoding="utf-8").splitlines() for one in done]
    rows = [row for text in texts for row in csv.DictReader(text)]
    assert [(row["image"], row["series"], row["well"]) for row in rows] == [
        ("plate.ome.tif", "f0", "A1"), ("plate.ome.tif", "f1", "A2"),
    ]  # fmt: skip


def test_the_table_of_all_is_not_replaced_unasked(eyes: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "objects.csv").write_text("mine")

    with pytest.raises(OutputExists):
        run(RunRequest("starter/nuclei", (eyes,), tmp_path / "out"))


def test_one_of_them_can_be_chosen_and_repeated(eyes: Path, tmp_path: Path) -> None:
    request = RunRequest("starter/nuclei", (eyes,), tmp_path / "out", series="1", scale=1.0)
    (done,) = run(request).done

    again = replayed(done.files["record"], RunRequest("", (), tmp_path / "again"))
    (repeated,) = run(again).done

    assert repeated.image.name == "eyes.ome.tif[right]"
    first, second = (tifffile.imread(one.files["labels"]) for one in (done, repeated))
    assert np.array_equal(first, second)


def test_a_run_that_goes_on_knows_which_of_them_are_finished(eyes: Path, tmp_path: Path) -> None:
    first = RunRequest("starter/nuclei", (eyes,), tmp_path / "out", series="left", scale=1.0)
    run(first)

    rest = RunRequest("starter/nuclei", (eyes,), tmp_path / "out", resume=True, scale=1.0)
    summary = run(rest)

    assert [one.objects for one in summary.done] == [1, 2]


def test_python_runs_each_image_of_a_file_and_refuses_to_choose_one(
    eyes: Path, tmp_path: Path
) -> None:
    with bmz.load("starter/nuclei") as model:
        results = list(model.run_each(eyes, scale=1.0))
        (right,) = model.run_each(eyes, series="right", scale=1.0)
        with pytest.raises(bmz.WrongUsage) as run_refused:
            model.run(eyes)
        with pytest.raises(bmz.WrongUsage) as check_refused:
            model.check(eyes)
        reports = [model.check(image) for image in bmz.images(eyes)]
        with pytest.raises(bmz.WrongUsage):
            model.run_each(eyes, series="ear")

    assert [(one.series, one.objects) for one in results] == [("left", 1), ("right", 2)]
    assert results[1].name == f"{eyes}[right]"
    assert np.array_equal(np.asarray(right.labels), np.asarray(results[1].labels))
    assert {refused.value.code for refused in (run_refused, check_refused)} == {"image.several"}
    assert "'left', 'right'" in str(run_refused.value)
    assert len(reports) == 2
    saved = [one.save(tmp_path / "out")["labels"].name for one in results]
    assert saved == ["eyes[left].labels.tif", "eyes[right].labels.tif"]


def test_python_takes_a_file_of_one_image_as_a_file_of_several(eyes: Path) -> None:
    plain = eyes.with_name("one.tif")
    tifffile.imwrite(plain, tifffile.imread(eyes, series=0))

    (result,) = bmz.load("starter/nuclei").run_each(plain, scale=1.0)

    assert (result.series, result.name, result.objects) == ("", str(plain), 1)
    assert bmz.images(plain) == (plain,)
