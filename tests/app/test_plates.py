"""The fields of a plate are run as images, and their results make up a plate again."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from yaozarrs import validate_zarr_store

from bmz.app.check import check
from bmz.app.run import run
from bmz.engine.request import RunRequest
from bmz.image.faults import ImageUnreadable
from bmz.image.inspect import inspect_image
from bmz.image.region import read_image
from bmz.image.series import plate_fields
from bmz.report.run_text import run_lines
from bmz.testing.package import description, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

WELLS = ("A/1", "A/2", "B/2")


def write_image(folder: Path, pixels: np.ndarray[Any, Any], axes: str = "yx") -> None:
    named: Any = [{"name": a, "type": "time" if a == "t" else "space"} for a in axes]
    scale = [{"type": "scale", "scale": [1.0] * len(axes)}]
    group = zarr.open_group(folder, mode="w")
    group.create_array("0", data=pixels, dimension_names=list(axes))
    datasets: Any = [{"path": "0", "coordinateTransformations": scale}]
    multiscales: Any = [{"axes": named, "datasets": datasets, "name": folder.name}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}


def spots(seed: int, frames: int = 0) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    shape = (frames, 70, 60) if frames else (70, 60)
    image = np.zeros(shape, np.uint8)
    for _ in range(6):
        y, x = rng.integers(0, 60, 2)
        image[..., y : y + 6, x : x + 6] = 1
    return image


def write_plate_image(folder: Path, *, axes: str = "yx", version: str = "0.5") -> Path:
    group = zarr.open_group(folder, mode="w")
    wells: Any = [
        {"path": name, "rowIndex": "AB".index(name[0]), "columnIndex": int(name[2]) - 1}
        for name in WELLS
    ]
    plate: Any = {"rows": [{"name": n} for n in "AB"], "columns": [{"name": n} for n in "12"]}
    group.attrs["ome"] = {"version": version, "plate": {**plate, "name": "p", "wells": wells}}
    for number, name in enumerate(WELLS):
        well = zarr.open_group(folder / name, mode="w")
        images = [{"path": "0"}, {"path": "1"}]
        well.attrs["ome"] = {"version": version, "well": {"images": images}}
        for field in (0, 1):
            pixels = spots(2 * number + field, 2 if "t" in axes else 0)
            write_image(folder / name / str(field), pixels, axes)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_package(tmp_path / "model", description()).parent)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_field_has_a_result_at_its_place(model: str, tmp_path: Path) -> None:
    plate = write_plate_image(tmp_path / "p.ome.zarr")

    summary = run(RunRequest(model, (plate,), tmp_path / "out"))

    assert not summary.failed
    assert [one.image.relative_to(plate).as_posix() for one in summary.done] == [
        f"{well}/{field}" for well in WELLS for field in (0, 1)
    ]
    assert (tmp_path / "out/p/B/2/1.labels.tif").is_file()
    assert (tmp_path / "out/p/A/1/0.overlay.png").is_file()


def test_one_table_names_file_well_and_field_of_every_object(model: str, tmp_path: Path) -> None:
    plate = write_plate_image(tmp_path / "p.ome.zarr", axes="tyx")

    summary = run(RunRequest(model, (plate,), tmp_path / "out"))

    table = rows(tmp_path / "out/p.objects.csv")
    assert len(table) == sum(one.objects or 0 for one in summary.done)
    assert {row["file"] for row in table} == {"p.ome.zarr"}
    assert {row["well"] for row in table} == {"A1", "A2", "B2"}
    assert {row["field"] for row in table} == {"0", "1"}
    assert {row["t"] for row in table} == {"0", "1"}
    assert list(table[0])[:7] == ["image", "series", "file", "well", "field", "label", "t"]
    assert rows(tmp_path / "out/p/A/2/1.objects.csv") == [
        row for row in table if (row["well"], row["field"]) == ("A2", "1")
    ]


def test_tracks_of_all_fields_are_in_one_table(model: str, tmp_path: Path) -> None:
    plate = write_plate_image(tmp_path / "p.ome.zarr", axes="tyx")

    summary = run(RunRequest(model, (plate,), tmp_path / "out", link={"t": 0.5}))

    tracks = rows(tmp_path / "out/p.tracks.csv")
    assert len(tracks) == sum(one.objects or 0 for one in summary.done)
    assert list(tracks[0])[:6] == ["image", "series", "file", "well", "field", "track"]
    assert {row["frames"] for row in tracks} == {"2"}
    assert len(rows(tmp_path / "out/p.objects.csv")) == 2 * len(tracks)


@pytest.mark.parametrize("memory", [1e3, 0])
def test_zarr_labels_make_up_a_plate(memory: float, model: str, tmp_path: Path) -> None:
    plate = write_plate_image(tmp_path / "p.ome.zarr")

    summary = run(
        RunRequest(model, (plate,), tmp_path / "out", labels_format="zarr", memory_gb=memory)
    )

    assert not summary.failed
    made = tmp_path / "out/p.labels.ome.zarr"
    validate_zarr_store(str(made))
    assert [one.within for one in plate_fields(made) or ()] == [
        one.within for one in plate_fields(plate) or ()
    ]
    labels = read_image(inspect_image(made / "A/2/1"))
    assert int(labels.array.max()) == summary.done[3].objects
    assert summary.done[3].record["files"]["labels"] == "../../../p.labels.ome.zarr/A/2/1"


def test_a_well_that_is_not_there_fails_alone(model: str, tmp_path: Path) -> None:
    plate = write_plate_image(tmp_path / "p.ome.zarr")
    (plate / "A/2").rename(tmp_path / "elsewhere")

    summary = run(RunRequest(model, (plate,), tmp_path / "out"))

    assert [one.image for one in summary.failed] == [plate / "A/2"]
    assert len(summary.done) == 4


def test_finished_fields_are_left_out(model: str, tmp_path: Path) -> None:
    plate = write_plate_image(tmp_path / "p.ome.zarr")
    request = RunRequest(model, (plate,), tmp_path / "out", resume=True)
    run(request)
    stamp = (tmp_path / "out/p/A/1/0.labels.tif").stat().st_mtime_ns
    (tmp_path / "out/p/A/2/0.labels.tif").unlink()

    summary = run(request)

    assert len(summary.done) == 6
    assert (tmp_path / "out/p/A/1/0.labels.tif").stat().st_mtime_ns == stamp
    assert (tmp_path / "out/p/A/2/0.labels.tif").is_file()


def test_two_plates_of_one_name_are_told_apart(model: str, tmp_path: Path) -> None:
    plates = tuple(write_plate_image(tmp_path / name / "p.ome.zarr") for name in ("a", "b"))

    summary = run(RunRequest(model, plates, tmp_path / "out"))

    assert len(summary.done) == 12
    assert (tmp_path / "out/a_p.objects.csv").is_file()
    assert (tmp_path / "out/b_p/A/1/0.labels.tif").is_file()


def test_every_field_is_checked(model: str, tmp_path: Path) -> None:
    plate = write_plate_image(tmp_path / "p.ome.zarr")

    summary = check(RunRequest(model, (plate,), tmp_path))

    assert len(summary.images) == 6


def test_plates_of_the_older_version_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "p.zarr"
    group = zarr.open_group(folder, mode="w", zarr_format=2)
    group.attrs["plate"] = {"version": "0.4", "wells": [{"path": "C/07"}]}
    well = zarr.open_group(folder / "C/07", mode="w", zarr_format=2)
    well.attrs["well"] = {"version": "0.4", "images": [{"path": "3"}]}

    (field,) = plate_fields(folder) or ()

    assert (field.well, field.field, field.path) == ("C07", "3", folder / "C/07/3")


@pytest.mark.parametrize(
    ("well", "images", "wanted"),
    [
        ("../A/1", [{"path": "0"}], "not a ROW/COLUMN"),
        ("A", [{"path": "0"}], "not a ROW/COLUMN"),
        ("A/1", [{"path": "../../x"}], "names a field"),
        ("A/1", None, "without a list of images"),
    ],
)
def test_odd_plates_are_refused(well: str, images: Any, wanted: str, tmp_path: Path) -> None:
    folder = tmp_path / "p.zarr"
    group = zarr.open_group(folder, mode="w")
    group.attrs["ome"] = {"version": "0.5", "plate": {"wells": [{"path": well}]}}
    if len(Path(well).parts) == 2:
        inner = zarr.open_group(folder / well, mode="w")
        inner.attrs["ome"] = {"version": "0.5", "well": {"images": images}}

    with pytest.raises(ImageUnreadable, match=wanted):
        plate_fields(folder)


def test_what_is_no_plate_has_no_fields(tmp_path: Path) -> None:
    write_image(tmp_path / "a.zarr", spots(0))
    (tmp_path / "a.tif").write_bytes(b"")

    assert plate_fields(tmp_path / "a.zarr") is None
    assert plate_fields(tmp_path / "a.tif") is None
    assert plate_fields(tmp_path / "absent") is None


def test_wells_and_fields_that_are_not_there_are_named_in_one_line(
    model: str, tmp_path: Path
) -> None:
    plate = write_plate_image(tmp_path / "p.ome.zarr")
    shutil.rmtree(plate / "A/2/1")
    shutil.rmtree(plate / "B/2")

    summary = run(RunRequest(model, (plate,), tmp_path / "out"))

    assert len(summary.done) == 3
    errors = [text for kind, text in run_lines(summary) if kind == "error"]
    assert errors == [
        f"{plate}: A/2/1, B/2 are listed but not there",
        "2 of 5 images failed: A/2/1, B/2",
    ]
